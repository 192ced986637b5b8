//! Debug information (DWARF) about addresses: functions, calls inlined into them, files and lines.
//!
//! All addresses are asked at once, so nothing has to be kept from one question to the next: units
//! are visited in the order of the file, each answers for the addresses that its ranges hold, and the
//! next one uses the same buffers. What is held besides are the sections, in memory that is given back at
//! the end; `addr2line`, which keeps tables of every unit that it has met, took 40 MiB for 2,000 addresses of a
//! program of 17 MB, of which its allocator kept 25.
//!
//! Nothing is believed: what is damaged ends the reading of its unit, whose addresses then stay
//! without an answer. Depth of nesting, chains of references and lengths of names are bounded.
//!
//! The answers are those of `addr2line`, the oracle of the tests, but where ranges overlap: it takes any, ours the
//! first in the file. They do at addresses of code that the linker threw away, where no code runs, and where it
//! folded equal functions.
//!
//! | file | |
//! |---|---|
//! | `sections` | the sections in memory, compressed ones |
//! | `reader` | one unit after another, its entries in a file of their own if they were split off |
//! | `extent` | the ranges of addresses of a unit, a function or an inlined call |
//! | `functions` | which of them hold an address |
//! | `names` | their names, through references to other entries and other units |
//! | `lines` | rows of the line table, paths of files |

mod extent;
mod functions;
mod lines;
mod names;
mod reader;
mod sections;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use gimli::{DebugInfoUnitHeadersIter, EndianSlice, LittleEndian, UnitHeader, UnitType};

use names::Names;
use reader::Reader;
use sections::{Sections, package_of};

use super::elf::Elf;
use crate::sys;

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Dwarf<'a> = gimli::Dwarf<Slice<'a>>;
type Package<'a> = gimli::DwarfPackage<Slice<'a>>;
type Unit<'a> = gimli::Unit<Slice<'a>>;
type Result<T> = std::result::Result<T, gimli::Error>;

/// One of the calls at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// Mangled where debug information tells.
    pub(crate) name: Option<Cow<'a, str>>,
    /// Empty if unknown.
    pub(crate) file: &'a str,
    /// From 1; 0 if unknown.
    pub(crate) line: u32,
}

/// Takes the calls at an address: its position in the question, then innermost first.
type Answer<'f> = dyn FnMut(usize, &[Frame<'_>]) + 'f;

/// Reads what a file tells of addresses in its own numbering, which ascend.
///
/// `program` is where the program lies, beside which its split debug information may be packed. `answer` is called at
/// most once for each, in any order, and never without a frame.
pub(crate) fn read<R: Read + Seek>(
    file: &mut Elf<R>,
    program: &Path,
    addresses: &[u64],
    answer: &mut Answer<'_>,
) {
    let Some(sections) = Sections::of_program(file) else { return };
    let packed = open(&package_of(program));
    let packed = packed.and_then(|mut file| Sections::of_package(&mut file));
    let package = packed.as_ref().and_then(|sections| sections.package().ok());
    let dwarf = sections.dwarf();
    read_units(&dwarf, package.as_ref(), addresses, answer);
}

/// Opens a file that lies beside a program; whether it belongs to it is told by what it holds.
fn open(path: &Path) -> Option<Elf<File>> {
    let (file, _) = sys::open_file(path).ok()?;
    Elf::new(file).ok()
}

fn read_units<'d>(
    dwarf: &Dwarf<'d>,
    package: Option<&Package<'d>>,
    addresses: &[u64],
    answer: &mut Answer<'_>,
) {
    let mut names = Names::new(dwarf);
    let mut reader = Reader::new(dwarf, package, addresses);
    let mut headers = dwarf.units();
    while !reader.is_done()
        && let Some(header) = next_unit(&mut headers)
    {
        // What a damaged unit cannot tell, the symbol table may.
        let _ = reader.read(header, &mut names, answer);
    }
}

/// Returns the next unit that may hold entries of functions; none behind a damaged one.
fn next_unit<'d>(
    headers: &mut DebugInfoUnitHeadersIter<Slice<'d>>,
) -> Option<UnitHeader<Slice<'d>>> {
    loop {
        let header = headers.next().ok()??;
        if !matches!(header.type_(), UnitType::Type { .. } | UnitType::SplitType { .. }) {
            return Some(header);
        }
    }
}
