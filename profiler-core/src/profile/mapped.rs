//! What is mapped of a file, as its memory tells. The truth about the code that runs: a name may lead to another file by
//! now, and a file may have been written to.
//!
//! The headers and the build id stand in pages that show what is in the file now, whoever has written it. The list
//! for the loader ("dynamic") stands in one that the loader has written to, where it adds to the addresses in the list where
//! the file lies, as glibc's does: that page is the process's own, and shows what was loaded. If the file was cut short
//! meanwhile, the kernel has thrown the page away, and it shows what is in the file: addresses without that sum.

use std::io::{self, Read, Seek};

use super::elf::{Elf, Head, Part, build_id_in, u64_at};
use crate::sys;

/// What is mapped of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// Its beginning is not in memory, or cannot be read.
    Unknown,
    /// It is no program and no library.
    Foreign,
    Known(Known),
    /// Nothing any more, but it had this build id.
    Gone(Box<str>),
}

/// A program or a library in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) head: Head,
    /// In lower-case hexadecimal; empty if there is none.
    pub(crate) build_id: Box<str>,
    /// What was added to the addresses in the file.
    bias: u64,
    dynamic: Box<[u8]>,
}

/// What a file is, if it is not what is mapped.
pub(crate) type Difference = &'static str;

pub(crate) const FOREIGN: Difference = "what is mapped is no program";
pub(crate) const REPLACED: Difference = "the file was replaced";
pub(crate) const REWRITTEN: Difference = "the file was rewritten while it was in use";

/// More than notes and lists for the loader have.
const LONGEST: u64 = 1 << 14;
const ENTRY: usize = 16;
/// The address of the names that the loader needs, which each list has.
const NAMES: u64 = 5;
/// The loader puts an address of its own there, for debuggers.
const DEBUG: u64 = 21;

impl Mapped {
    /// Reads what is mapped where the beginning of a file is said to lie.
    pub(crate) fn read(start: u64) -> Self {
        let mut page = vec![0; 4096];
        let is_read = usize::try_from(start).is_ok_and(|at| sys::read_memory(at, &mut page));
        if !is_read {
            return Self::Unknown;
        }
        let head = Head::read(|offset, size| memory(start, offset, size, &page));
        match head {
            Ok(head) => match Known::new(start, head, &page) {
                Some(known) => Self::Known(known),
                None => Self::Unknown,
            },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Self::Foreign,
            Err(_) => Self::Unknown,
        }
    }

    pub(crate) const fn known(&self) -> Option<&Known> {
        match self {
            Self::Known(known) => Some(known),
            Self::Unknown | Self::Foreign | Self::Gone(_) => None,
        }
    }

    /// Returns whether its version can be told from others.
    pub(crate) fn is_identified(&self) -> bool {
        match self {
            Self::Known(known) => !known.build_id.is_empty(),
            Self::Gone(_) => true,
            Self::Unknown | Self::Foreign => false,
        }
    }

    /// Compares a file with what is mapped.
    pub(crate) fn compare<R: Read + Seek>(
        &self,
        file: &mut Elf<R>,
    ) -> io::Result<Option<Difference>> {
        match self {
            Self::Unknown => Ok(None),
            Self::Foreign => Ok(Some(FOREIGN)),
            Self::Known(known) => known.compare(file),
            Self::Gone(build_id) => {
                let is_it = file.build_id()?.is_some_and(|id| *id == **build_id);
                Ok((!is_it).then_some(REPLACED))
            }
        }
    }

    /// Returns whether the loader has written to the list; nothing if it would not.
    pub(crate) fn is_relocated(&self) -> Option<bool> {
        let known = self.known()?;
        let is_written = known.bias != 0 && known.head.dynamic()?.is_writable;
        let (_, names) = entries(&known.dynamic).find(|(tag, _)| *tag == NAMES)?;
        is_written.then_some(names >= known.bias)
    }

    /// Returns whether two are of one loading, by what only the loader writes to.
    pub(crate) fn is_loaded_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) => a.bias == b.bias && a.dynamic == b.dynamic,
            _ => true,
        }
    }
}

impl Known {
    fn new(start: u64, head: Head, page: &[u8]) -> Option<Self> {
        let bias = head.bias(start)?;
        let read = |part: Part| {
            let offset = bias.wrapping_add(part.address).checked_sub(start)?;
            memory(start, offset, part.size.min(LONGEST), page).ok()
        };
        let notes = head.notes().into_iter().filter_map(read);
        let build_id = notes.filter_map(|notes| build_id_in(&notes)).next();
        let dynamic = match head.dynamic() {
            Some(part) => read(part)?,
            None => Vec::new(),
        };
        Some(Self {
            bias,
            build_id: build_id.unwrap_or_default().into(),
            dynamic: dynamic.into(),
            head,
        })
    }

    fn compare<R: Read + Seek>(&self, file: &mut Elf<R>) -> io::Result<Option<Difference>> {
        let build_id = file.build_id()?.unwrap_or_default();
        if *build_id != *self.build_id || (build_id.is_empty() && *file.head() != self.head) {
            return Ok(Some(REPLACED));
        }
        let dynamic = match file.head().dynamic() {
            Some(part) => file.read(part.offset, part.size.min(LONGEST))?,
            None => Vec::new(),
        };
        Ok((!self.is_loaded_from(&dynamic)).then_some(REWRITTEN))
    }

    /// Returns whether the loader may have made its list from that of a file: it adds where the file lies to some of the
    /// addresses, which of them depends on the loader.
    fn is_loaded_from(&self, dynamic: &[u8]) -> bool {
        let relevant =
            |list| -> Vec<_> { entries(list).filter(|(tag, _)| *tag != DEBUG).collect() };
        let (ours, theirs) = (relevant(&self.dynamic), relevant(dynamic));
        ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|((tag, value), (tag_of_file, value_of_file))| {
                let is_moved = *value == value_of_file.wrapping_add(self.bias);
                tag == tag_of_file && (value == value_of_file || is_moved)
            })
    }
}

/// The tags and values of a list for the loader.
fn entries(list: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let entries = list.chunks_exact(ENTRY).map(|entry| (u64_at(entry, 0), u64_at(entry, 8)));
    entries.take_while(|(tag, _)| *tag != 0)
}

/// Reads memory at so many bytes behind the beginning of a file, of which a page was read before.
fn memory(start: u64, offset: u64, size: u64, page: &[u8]) -> io::Result<Vec<u8>> {
    let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (at, size) = (usize::try_from(offset), usize::try_from(size));
    let (Ok(at), Ok(size)) = (at, size) else { return Err(gone()) };
    if let Some(bytes) = at.checked_add(size).and_then(|end| page.get(at..end)) {
        return Ok(bytes.to_vec());
    }
    let at = usize::try_from(start).ok().and_then(|start| start.checked_add(at));
    let mut bytes = vec![0; size];
    let is_read = at.is_some_and(|at| sys::read_memory(at, &mut bytes));
    if is_read { Ok(bytes) } else { Err(gone()) }
}
