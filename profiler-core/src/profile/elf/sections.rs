//! The sections of a file, by name and by kind.

use std::io::{self, Read, Seek};

use super::{Elf, build_id_in, u32_at, u64_at};

/// A section; `kind` is its type, `link` the number of one that belongs to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    pub(super) kind: u32,
    pub(super) link: u32,
    pub(super) offset: u64,
    pub(super) size: u64,
    name: u32,
    flags: u64,
}

/// All of a file.
#[derive(Debug)]
pub(super) struct SectionTable {
    pub(super) sections: Vec<Section>,
    names: Vec<u8>,
}

/// Has a size, and nothing in the file.
const NO_BITS: u32 = 8;
const NOTE: u32 = 7;
const COMPRESSED: u64 = 1 << 11;

impl Section {
    pub(super) const NONE: Self = Self { kind: 0, link: 0, offset: 0, size: 0, name: 0, flags: 0 };

    /// Returns how many bytes of the file it has.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) const fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }
}

impl SectionTable {
    fn name(&self, section: &Section) -> Option<&[u8]> {
        let name = self.names.get(section.name as usize..)?;
        name.split(|byte| *byte == 0).next()
    }

    fn find(&self, name: &str) -> Option<Section> {
        let has_it = |section: &&Section| {
            section.kind != NO_BITS && self.name(section) == Some(name.as_bytes())
        };
        self.sections.iter().find(has_it).copied()
    }
}

impl<R: Read + Seek> Elf<R> {
    /// Returns a section that has something in the file, and all of it.
    pub(crate) fn section(&mut self, name: &str) -> io::Result<Option<Section>> {
        let found = self.section_table()?.find(name);
        let end = found.map_or(Some(0), |section| section.offset.checked_add(section.size));
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(found)
    }

    /// Reads a section.
    pub(crate) fn read_section(&mut self, section: Section) -> io::Result<Vec<u8>> {
        self.read(section.offset, section.size)
    }

    /// Reads a section into memory of its size.
    pub(crate) fn read_section_into(
        &mut self,
        section: Section,
        into: &mut [u8],
    ) -> io::Result<()> {
        self.read_into(section.offset, into)
    }

    /// Returns the build id as the sections tell it: in a file of debug information the headers of the program lead
    /// to nothing.
    pub(crate) fn build_id_of_sections(&mut self) -> io::Result<Option<String>> {
        let sections = self.section_table()?.sections.clone();
        for section in sections.into_iter().filter(|section| section.kind == NOTE) {
            if let Some(id) = build_id_in(&self.read_section(section)?) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Returns whether it has debug information of functions.
    pub(crate) fn has_debug_information(&mut self) -> bool {
        let mut has = |name| self.section(name).is_ok_and(|section| section.is_some());
        has(".debug_info") || has(".zdebug_info")
    }

    pub(super) fn section_table(&mut self) -> io::Result<&SectionTable> {
        if self.sections.is_none() {
            self.sections = Some(self.read_sections()?);
        }
        self.sections.as_ref().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn read_sections(&mut self) -> io::Result<SectionTable> {
        let (offset, entry, count, names) = self.head.sections();
        if offset == 0 || entry != 64 {
            return Ok(SectionTable { sections: Vec::new(), names: Vec::new() });
        }
        let headers = self.read(offset, 64 * u64::from(count))?;
        let section = |header: &[u8]| Section {
            name: u32_at(header, 0),
            kind: u32_at(header, 4),
            flags: u64_at(header, 8),
            offset: u64_at(header, 24),
            size: u64_at(header, 32),
            link: u32_at(header, 40),
        };
        let sections: Vec<_> = headers.chunks_exact(64).map(section).collect();
        let names = sections.get(usize::from(names)).copied();
        let names = names.and_then(|names| self.read_section(names).ok()).unwrap_or_default();
        Ok(SectionTable { sections, names })
    }
}
