//! The sections of debug information of a file, read into memory of ours.
//!
//! Not mapped: who cuts a mapped file short stops whoever reads it by a signal. Each section is read at once, since
//! a system call for each string took half as long again. The memory is no heap's: it is given back at the end, all of
//! it, and is none of what the profile of the heap tells of. All sections have one piece, on huge pages where there
//! are some: to get 14 MB page by page takes four times as long as to read them.

use std::ffi::OsString;
use std::io::{Read, Seek};
use std::ops::Range;
use std::path::{Path, PathBuf};

use gimli::{DwarfPackageSections, DwarfSections, LittleEndian, SectionId};
use memmap2::MmapMut;
use object::{CompressedData, CompressionFormat};

use super::{Dwarf, Package, Result, Slice};
use crate::profile::elf::{Elf, Section, u32_at, u64_at};
use crate::sys;

/// The largest part that a compressed section may be of what it says to hold: that of zlib.
const MOST_COMPRESSED: u64 = 1032;

/// More than the sections have of a program that is built.
const LARGEST: usize = 2 << 30;

/// What names and lines need; the rest is not even read.
const NEEDED: [SectionId; 11] = [
    SectionId::DebugAbbrev,
    SectionId::DebugAddr,
    SectionId::DebugCuIndex,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugStr,
    SectionId::DebugStrOffsets,
    SectionId::DebugTuIndex,
];

/// What a section holds.
#[derive(Debug, Default)]
pub(super) enum Bytes {
    /// There is no such section.
    #[default]
    None,
    /// Where in the memory it stands.
    Read(Range<usize>),
    Decompressed(Vec<u8>),
}

/// Memory for the sections of a file.
#[derive(Debug)]
struct Memory {
    map: Option<MmapMut>,
    /// What is taken.
    end: usize,
}

impl Memory {
    /// Makes room for what is needed of a file by the names of sections.
    fn of<R: Read + Seek>(
        file: &mut Elf<R>,
        name: impl Fn(SectionId) -> Option<&'static str>,
    ) -> Option<Self> {
        let mut size = 0_usize;
        for name in NEEDED.into_iter().filter_map(name) {
            let found = file.section(name).ok()?.filter(|section| !section.is_compressed());
            let section = found.map_or(Some(0), |section| usize::try_from(section.size()).ok())?;
            size = size.checked_add(section).filter(|size| *size <= LARGEST)?;
        }
        if size == 0 {
            return Some(Self { map: None, end: 0 });
        }
        let mut map = MmapMut::map_anon(size + sys::HUGE_PAGE).ok()?;
        sys::advise_huge_pages(&mut map);
        let end = map.as_ptr().align_offset(sys::HUGE_PAGE).min(sys::HUGE_PAGE);
        Some(Self { map: Some(map), end })
    }

    fn read<R: Read + Seek>(
        &mut self,
        file: &mut Elf<R>,
        section: Section,
    ) -> Option<Range<usize>> {
        let range = self.end..self.end.checked_add(usize::try_from(section.size()).ok()?)?;
        file.read_section_into(section, self.map.as_mut()?.get_mut(range.clone())?).ok()?;
        self.end = range.end;
        Some(range)
    }

    fn slice<'s>(&'s self, bytes: &'s Bytes) -> Slice<'s> {
        let bytes = match bytes {
            Bytes::None => &[],
            Bytes::Read(range) => {
                self.map.as_ref().and_then(|map| map.get(range.clone())).unwrap_or(&[])
            }
            Bytes::Decompressed(bytes) => &**bytes,
        };
        Slice::new(bytes, LittleEndian)
    }
}

/// The sections of a file, decompressed where they have to be.
#[derive(Debug)]
pub(super) struct Sections<T> {
    sections: T,
    memory: Memory,
}

impl Sections<DwarfSections<Bytes>> {
    /// Reads the sections of a program or a library.
    pub(super) fn of_program<R: Read + Seek>(file: &mut Elf<R>) -> Option<Self> {
        Self::read(file, |id| Some(id.name()))
    }

    /// Reads those of a `.dwo` file.
    pub(super) fn of_unit<R: Read + Seek>(file: &mut Elf<R>) -> Option<Self> {
        Self::read(file, |id| id.dwo_name())
    }

    fn read<R: Read + Seek>(
        file: &mut Elf<R>,
        name: impl Fn(SectionId) -> Option<&'static str>,
    ) -> Option<Self> {
        let mut memory = Memory::of(file, &name)?;
        let sections = DwarfSections::load(|id| section(file, &mut memory, id, name(id))).ok()?;
        Some(Self { sections, memory })
    }

    pub(super) fn dwarf(&self) -> Dwarf<'_> {
        self.sections.borrow(|bytes| self.memory.slice(bytes))
    }
}

impl Sections<DwarfPackageSections<Bytes>> {
    /// Reads those of a `.dwp` file.
    pub(super) fn of_package<R: Read + Seek>(file: &mut Elf<R>) -> Option<Self> {
        let mut memory = Memory::of(file, |id| id.dwo_name())?;
        let load = |id: SectionId| section(file, &mut memory, id, id.dwo_name());
        let sections = DwarfPackageSections::load(load).ok()?;
        Some(Self { sections, memory })
    }

    pub(super) fn package(&self) -> Result<Package<'_>> {
        let nothing = Slice::new(&[], LittleEndian);
        self.sections.borrow(|bytes| self.memory.slice(bytes), nothing)
    }
}

/// Reads a section: nothing if there is none.
fn section<R: Read + Seek>(
    file: &mut Elf<R>,
    memory: &mut Memory,
    id: SectionId,
    name: Option<&str>,
) -> Result<Bytes> {
    let Some(name) = name.filter(|_| NEEDED.contains(&id)) else { return Ok(Bytes::None) };
    let read = match file.section(name).map_err(|_| gimli::Error::Io)? {
        Some(section) if section.size() == 0 => Some(Bytes::None),
        Some(section) if section.is_compressed() => decompressed(file, section, Header::STANDARD),
        Some(section) => memory.read(file, section).map(Bytes::Read),
        None => {
            // As tools wrote it before there was a standard.
            let old = name.replacen(".debug", ".zdebug", 1);
            let old = file.section(&old).map_err(|_| gimli::Error::Io)?;
            old.map_or(Some(Bytes::None), |section| decompressed(file, section, Header::OLD))
        }
    };
    read.ok_or(gimli::Error::Io)
}

/// What stands before compressed bytes.
#[derive(Debug, Clone, Copy)]
struct Header {
    length: usize,
    parse: fn(&[u8]) -> Option<(CompressionFormat, u64)>,
}

impl Header {
    const STANDARD: Self = Self {
        length: 24,
        parse: |header| {
            let format = match u32_at(header, 0) {
                1 => CompressionFormat::Zlib,
                2 => CompressionFormat::Zstandard,
                _ => return None,
            };
            Some((format, u64_at(header, 8)))
        },
    };
    const OLD: Self = Self {
        length: 12,
        parse: |header| {
            let size = header.strip_prefix(b"ZLIB")?.try_into().ok()?;
            Some((CompressionFormat::Zlib, u64::from_be_bytes(size)))
        },
    };
}

fn decompressed<R: Read + Seek>(
    file: &mut Elf<R>,
    section: Section,
    header: Header,
) -> Option<Bytes> {
    let all = file.read_section(section).ok()?;
    let (head, data) = all.split_at_checked(header.length)?;
    let (format, uncompressed_size) = (header.parse)(head)?;
    // Room is made for what the section says to hold.
    let most = MOST_COMPRESSED.saturating_mul(data.len() as u64);
    if uncompressed_size > most {
        return Some(Bytes::None);
    }
    let data = CompressedData { format, data, uncompressed_size }.decompress().ok()?;
    Some(Bytes::Decompressed(data.into_owned()))
}

/// Returns where the split debug information of a program is packed, by the rule of those who pack it.
pub(super) fn package_of(program: &Path) -> PathBuf {
    let mut extension = OsString::new();
    if let Some(own) = program.extension() {
        extension.push(own);
        extension.push(".");
    }
    extension.push("dwp");
    program.with_extension(extension)
}
