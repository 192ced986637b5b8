//! What is read from an executable or a shared library without its debug information: where its
//! parts lie, its build id, its functions.
//!
//! Read piece by piece and not mapped: a file that is cut short while we read it is an error, not a
//! signal. Every length is checked against the size of the file, so a damaged one cannot make us
//! allocate.

mod symbols;

use std::io::{self, Read, Seek, SeekFrom};

pub(crate) use symbols::SymbolTable;

/// A part of the file that is loaded into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// An ELF file of this machine's kind: 64 bits, little endian.
#[derive(Debug)]
pub(crate) struct Elf<R> {
    file: R,
    length: u64,
    header: [u8; 64],
}

#[derive(Debug, Clone, Copy)]
struct Section {
    kind: u32,
    link: u32,
    offset: u64,
    size: u64,
}

const LOADED: u32 = 1;
const NOTE: u32 = 4;

impl<R: Read + Seek> Elf<R> {
    /// Reads the file header.
    pub(crate) fn new(mut file: R) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let mut header = [0; 64];
        file.seek(SeekFrom::Start(0))?;
        file.read_exact(&mut header)?;
        // 0x7f ELF, 64 bits, little endian.
        if header[..6] != *b"\x7fELF\x02\x01" {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { file, length, header })
    }

    /// Returns the loaded segments.
    pub(crate) fn segments(&mut self) -> io::Result<Vec<Segment>> {
        let headers = self.program_headers()?;
        Ok(headers
            .chunks_exact(56)
            .filter(|header| u32_at(header, 0) == LOADED)
            .map(|header| Segment {
                offset: u64_at(header, 8),
                address: u64_at(header, 16),
                size: u64_at(header, 32),
            })
            .collect())
    }

    /// Returns the GNU build id, in lower-case hexadecimal.
    pub(crate) fn build_id(&mut self) -> io::Result<Option<String>> {
        let headers = self.program_headers()?;
        for header in headers.chunks_exact(56).filter(|header| u32_at(header, 0) == NOTE) {
            let notes = self.read(u64_at(header, 8), u64_at(header, 32))?;
            if let Some(id) = build_id_in(&notes) {
                return Ok(Some(id.iter().map(|byte| format!("{byte:02x}")).collect()));
            }
        }
        Ok(None)
    }

    fn program_headers(&mut self) -> io::Result<Vec<u8>> {
        let (offset, entry, count) =
            (u64_at(&self.header, 32), u16_at(&self.header, 54), u16_at(&self.header, 56));
        if entry != 56 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.read(offset, 56 * u64::from(count))
    }

    fn sections(&mut self) -> io::Result<Vec<Section>> {
        let (offset, entry, count) =
            (u64_at(&self.header, 40), u16_at(&self.header, 58), u16_at(&self.header, 60));
        if offset == 0 || entry != 64 {
            return Ok(Vec::new());
        }
        let headers = self.read(offset, 64 * u64::from(count))?;
        Ok(headers
            .chunks_exact(64)
            .map(|header| Section {
                kind: u32_at(header, 4),
                link: u32_at(header, 40),
                offset: u64_at(header, 24),
                size: u64_at(header, 32),
            })
            .collect())
    }

    fn read(&mut self, offset: u64, size: u64) -> io::Result<Vec<u8>> {
        if offset.checked_add(size).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; size];
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
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

/// Finds the build id among notes.
fn build_id_in(mut notes: &[u8]) -> Option<&[u8]> {
    loop {
        let header = notes.get(..12)?;
        let (name, id, kind) = (u32_at(header, 0), u32_at(header, 4), u32_at(header, 8));
        let padded = |length: u32| Some(usize::try_from(length).ok()?.checked_add(3)? & !3);
        let name_end = 12_usize.checked_add(padded(name)?)?;
        let end = name_end.checked_add(padded(id)?)?;
        if kind == 3 && notes.get(12..16) == Some(b"GNU\0") && name == 4 {
            return notes.get(name_end..name_end + id as usize);
        }
        notes = notes.get(end..)?;
    }
}

/// Reads a number; 0 behind the end.
fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(number(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::symbols::{DYNAMIC_SYMBOLS, SYMBOL_SIZE, SYMBOLS};
    use super::*;

    /// A file with two loaded segments, a build id, and functions `low` (16 bytes at 0x2000),
    /// `high` (no size, at 0x2100) and the undefined `elsewhere`.
    fn example(kind: u32) -> Vec<u8> {
        let mut file = vec![0; 0x1000];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(32, &64_u64.to_le_bytes());
        put(40, &0x200_u64.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &3_u16.to_le_bytes());
        put(58, &64_u16.to_le_bytes());
        put(60, &3_u16.to_le_bytes());
        let mut segment = |at: usize, kind: u32, offset: u64, address: u64, size: u64| {
            put(at, &kind.to_le_bytes());
            put(at + 8, &offset.to_le_bytes());
            put(at + 16, &address.to_le_bytes());
            put(at + 32, &size.to_le_bytes());
        };
        segment(64, LOADED, 0, 0, 0x800);
        segment(120, LOADED, 0x800, 0x2000, 0x800);
        segment(176, NOTE, 0x300, 0x300, 40);
        // Another note, padded, and the build id.
        put(0x300, &[2, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]);
        put(0x30c, b"X\0\0\0\xff\0\0\0");
        put(0x314, &[4, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0]);
        put(0x320, b"GNU\0\x01\xab\x00\xff");
        let mut section = |at: usize, kind: u32, link: u32, offset: u64, size: u64| {
            put(at + 4, &kind.to_le_bytes());
            put(at + 24, &offset.to_le_bytes());
            put(at + 32, &size.to_le_bytes());
            put(at + 40, &link.to_le_bytes());
        };
        section(0x240, kind, 2, 0x400, 4 * SYMBOL_SIZE);
        section(0x280, 3, 0, 0x500, 64);
        let mut symbol = |at: usize, name: u32, info: u8, section: u16, address: u64, size: u64| {
            put(at, &name.to_le_bytes());
            put(at + 4, &[info]);
            put(at + 6, &section.to_le_bytes());
            put(at + 8, &address.to_le_bytes());
            put(at + 16, &size.to_le_bytes());
        };
        symbol(0x400, 1, 0x12, 1, 0x2000, 16);
        symbol(0x418, 5, 0x02, 1, 0x2100, 0);
        symbol(0x430, 10, 0x12, 0, 0x2050, 16);
        // A local name of the same place.
        symbol(0x448, 10, 0x02, 1, 0x2000, 16);
        put(0x500, b"\0low\0high\0elsewhere\0");
        file
    }

    fn read(file: Vec<u8>) -> Elf<Cursor<Vec<u8>>> {
        Elf::new(Cursor::new(file)).expect("a file header")
    }

    #[test]
    fn segments_and_build_id_are_read() {
        let mut elf = read(example(SYMBOLS));
        assert_eq!(elf.build_id().unwrap().as_deref(), Some("01ab00ff"));
        let segments = elf.segments().unwrap();
        assert_eq!(segments.len(), 2);
        // The text does not lie at its offset in the file.
        assert_eq!(address_at(&segments, 0x810), Some(0x2010));
        assert_eq!(address_at(&segments, 0x7ff), Some(0x7ff));
        assert_eq!(address_at(&segments, 0x1000), None);
    }

    #[test]
    fn functions_are_found_by_address() {
        for kind in [SYMBOLS, DYNAMIC_SYMBOLS] {
            let mut table = read(example(kind)).symbols(None).unwrap();
            assert_eq!(table.len(), 2);
            for (address, expected) in [
                (0x1fff, None),
                (0x2000, Some(("low", 0))),
                (0x200f, Some(("low", 15))),
                (0x2010, None),
                (0x2050, None),
                (0x2100, Some(("high", 0))),
                (0x9999, Some(("high", 0x7899))),
            ] {
                let expected = expected.map(|(name, offset)| (String::from(name), offset));
                assert_eq!(table.find(address), expected, "{address:#x}");
            }
        }
    }

    #[test]
    fn of_functions_that_nobody_asks_for_none_is_held() {
        for (asked, held) in [
            (&[0x1fff][..], 0),
            (&[0x2000], 1),
            (&[0x2010, 0x2050], 1),
            (&[0x2003, 0x9999], 2),
            (&[], 0),
        ] {
            let mut all = read(example(SYMBOLS)).symbols(None).unwrap();
            let mut some = read(example(SYMBOLS)).symbols(Some(asked)).unwrap();
            assert_eq!(some.len(), held, "{asked:x?}");
            for address in asked {
                assert_eq!(some.find(*address), all.find(*address), "{address:#x}");
            }
        }
    }

    #[test]
    fn a_file_without_symbols_has_no_names() {
        assert_eq!(read(example(7)).symbols(None).unwrap().find(0x2000), None);
    }

    #[test]
    fn other_files_are_refused() {
        for file in [&b""[..], b"#!/bin/sh", &[0; 64], b"\x7fELF\x01\x01", b"\x7fELF\x02\x02"] {
            let mut file = file.to_vec();
            assert!(Elf::new(Cursor::new(file.clone())).is_err());
            file.resize(64, 0);
            assert!(Elf::new(Cursor::new(file)).is_err());
        }
    }

    proptest! {
        #[test]
        fn damage_does_no_harm(
            changes in proptest::collection::vec((0_usize..0x600, any::<u8>()), 1..20),
            length in 0_usize..0x1000,
        ) {
            let mut file = example(SYMBOLS);
            for (at, byte) in changes {
                file[at] = byte;
            }
            file.truncate(length);
            let elf = || Elf::new(Cursor::new(file.clone()));
            if let Ok(mut elf) = elf() {
                let _ = elf.build_id();
                let segments = elf.segments().unwrap_or_default();
                let _ = address_at(&segments, 0x810);
            }
            if let Ok(mut table) = elf().and_then(|elf| elf.symbols(None)) {
                let _ = table.find(0x2004);
                let _ = table.find(u64::MAX);
            }
        }
    }
}
