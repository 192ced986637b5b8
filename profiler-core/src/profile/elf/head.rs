//! The header of a file and those of the program, which stand at its beginning, and so in memory too.

use std::io;

use super::{u16_at, u32_at, u64_at};

/// The header, and behind it those of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head(Box<[u8]>);

/// A part of the file that is loaded into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// A part of the file that something is said about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    /// In the file's own numbering.
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) is_writable: bool,
}

pub(super) const LOADED: u32 = 1;
const DYNAMIC: u32 = 2;
pub(super) const NOTE: u32 = 4;
const WRITABLE: u32 = 2;
const HEADER: u64 = 64;
const ENTRY: usize = 56;

impl Head {
    /// Reads it with what reads a number of bytes at an offset.
    pub(crate) fn read(mut read: impl FnMut(u64, u64) -> io::Result<Vec<u8>>) -> io::Result<Self> {
        let mut head = read(0, HEADER)?;
        // 0x7f ELF, 64 bits, little endian.
        if head[..6] != *b"\x7fELF\x02\x01" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let (offset, entry, count) = (u64_at(&head, 32), u16_at(&head, 54), u16_at(&head, 56));
        if count > 0 {
            if usize::from(entry) != ENTRY {
                return Err(io::ErrorKind::InvalidData.into());
            }
            head.extend(read(offset, ENTRY as u64 * u64::from(count))?);
        }
        Ok(Self(head.into()))
    }

    /// Returns the loaded segments.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        let segment = |Part { offset, address, size, .. }| Segment { offset, size, address };
        self.parts(LOADED).map(segment).collect()
    }

    /// Returns what was added to the addresses of a file whose beginning lies at an address.
    pub(crate) fn bias(&self, start: u64) -> Option<u64> {
        let first = self.parts(LOADED).find(|part| part.offset == 0)?;
        Some(start.wrapping_sub(first.address))
    }

    pub(crate) fn notes(&self) -> Vec<Part> {
        self.parts(NOTE).collect()
    }

    /// Returns the list for the loader.
    pub(crate) fn dynamic(&self) -> Option<Part> {
        self.parts(DYNAMIC).next()
    }

    /// Returns where the section headers begin, how large one is, how many there are, and which tells the names.
    pub(super) fn sections(&self) -> (u64, u16, u16, u16) {
        let header = &self.0;
        (u64_at(header, 40), u16_at(header, 58), u16_at(header, 60), u16_at(header, 62))
    }

    fn parts(&self, kind: u32) -> impl Iterator<Item = Part> {
        let entries = self.0.get(HEADER as usize..).unwrap_or_default().chunks_exact(ENTRY);
        entries.filter(move |entry| u32_at(entry, 0) == kind).map(|entry| Part {
            offset: u64_at(entry, 8),
            address: u64_at(entry, 16),
            size: u64_at(entry, 32),
            is_writable: u32_at(entry, 4) & WRITABLE != 0,
        })
    }
}

/// Translates a position in the file into an address of its own numbering.
///
/// By the program headers and not by a difference: linkers may place the text at an address that
/// is not its offset in the file.
pub(crate) fn address_at(segments: &[Segment], position: u64) -> Option<u64> {
    let segment = segments.iter().find(|segment| {
        position.checked_sub(segment.offset).is_some_and(|inside| inside < segment.size)
    })?;
    Some((position - segment.offset).wrapping_add(segment.address))
}
