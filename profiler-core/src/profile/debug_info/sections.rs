//! A file in memory and its sections of debug information.

#![allow(unsafe_code, reason = "a file is mapped")]

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use gimli::{DwarfPackageSections, DwarfSections, LittleEndian, SectionId};
use memmap2::Mmap;
use object::read::elf::ElfFile64;
use object::{CompressionFormat, Object, ObjectSection};

use super::{Dwarf, Package, Result, Slice};

/// The largest part that a compressed section may be of what it says to hold: that of zlib.
const MOST_COMPRESSED: u64 = 1032;

/// What names and lines need; the rest is not even decompressed.
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

/// A file, mapped for the length of a reading.
#[derive(Debug)]
pub(super) struct Mapped(Mmap);

impl Mapped {
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = std::fs::File::open(path).ok()?;
        // SAFETY: the file is one that this process runs, or was made beside it, and nobody should
        // write to it. Who does changes what we read, and nothing that is read is believed; who cuts it
        // short stops the process by SIGBUS, as he does with what is mapped to run.
        let map = unsafe { Mmap::map(&file) };
        map.ok().map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

type File<'m> = ElfFile64<'m, object::LittleEndian>;

/// The sections of a file, decompressed where they have to be.
#[derive(Debug)]
pub(super) struct Sections<T>(T);

impl<'m> Sections<DwarfSections<Cow<'m, [u8]>>> {
    /// Finds the sections of a program or a library.
    pub(super) fn of_program(file: &'m [u8]) -> Option<Self> {
        let file = File::parse(file).ok()?;
        DwarfSections::load(|id| section(&file, id, Some(id.name()))).ok().map(Self)
    }

    /// Finds those of a `.dwo` file.
    pub(super) fn of_unit(file: &'m [u8]) -> Option<Self> {
        let file = File::parse(file).ok()?;
        DwarfSections::load(|id| section(&file, id, id.dwo_name())).ok().map(Self)
    }

    pub(super) fn dwarf(&self) -> Dwarf<'_> {
        self.0.borrow(|section| slice(section))
    }
}

impl<'m> Sections<DwarfPackageSections<Cow<'m, [u8]>>> {
    /// Finds those of a `.dwp` file.
    pub(super) fn of_package(file: &'m [u8]) -> Option<Self> {
        let file = File::parse(file).ok()?;
        DwarfPackageSections::load(|id| section(&file, id, id.dwo_name())).ok().map(Self)
    }

    pub(super) fn package(&self) -> Result<Package<'_>> {
        self.0.borrow(|section| slice(section), slice(&[]))
    }
}

fn slice(bytes: &[u8]) -> Slice<'_> {
    Slice::new(bytes, LittleEndian)
}

/// Returns what a section holds: nothing if there is none.
fn section<'m>(file: &File<'m>, id: SectionId, name: Option<&str>) -> Result<Cow<'m, [u8]>> {
    let found = name.filter(|_| NEEDED.contains(&id)).and_then(|name| file.section_by_name(name));
    let Some(section) = found else { return Ok(Cow::Borrowed(&[])) };
    let compressed = section.compressed_data().map_err(|_| gimli::Error::Io)?;
    // Room is made for what the section says to hold.
    let most = MOST_COMPRESSED.saturating_mul(compressed.data.len() as u64);
    if compressed.format != CompressionFormat::None && compressed.uncompressed_size > most {
        return Ok(Cow::Borrowed(&[]));
    }
    compressed.decompress().map_err(|_| gimli::Error::Io)
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
