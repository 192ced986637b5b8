//! What is read from an executable or a shared library without its debug information: where its
//! parts lie, its build id, its functions.
//!
//! Read piece by piece and not mapped: a file that is cut short while we read it is an error, not a
//! signal. Every length is checked against the size of the file, so a damaged one cannot make us
//! allocate.

mod head;
mod sections;
mod symbols;

use std::io::{self, Read, Seek, SeekFrom};

pub(crate) use head::{Head, Part, Segment, address_at};
pub(crate) use sections::Section;
pub(crate) use symbols::SymbolTable;

use sections::SectionTable;

/// An ELF file of this machine's kind: 64 bits, little endian.
#[derive(Debug)]
pub(crate) struct Elf<R> {
    file: R,
    length: u64,
    head: Head,
    /// Read when it is first needed.
    sections: Option<SectionTable>,
}

impl<R: Read + Seek> Elf<R> {
    /// Reads the headers.
    pub(crate) fn new(mut file: R) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let head = Head::read(|offset, size| read(&mut file, length, offset, size))?;
        Ok(Self { file, length, head, sections: None })
    }

    /// Returns the header and those of the program.
    pub(crate) const fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the GNU build id, in lower-case hexadecimal.
    pub(crate) fn build_id(&mut self) -> io::Result<Option<String>> {
        for part in self.head.notes() {
            let notes = self.read(part.offset, part.size)?;
            if let Some(id) = build_id_in(&notes) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Reads a part of the file.
    pub(crate) fn read(&mut self, offset: u64, size: u64) -> io::Result<Vec<u8>> {
        read(&mut self.file, self.length, offset, size)
    }

    /// The same, into memory that is there.
    fn read_into(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(into)
    }
}

fn read(file: &mut (impl Read + Seek), length: u64, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    if offset.checked_add(size).is_none_or(|end| end > length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let size = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; size];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Finds the build id among notes, in lower-case hexadecimal.
pub(crate) fn build_id_in(notes: &[u8]) -> Option<String> {
    let id = build_id_bytes(notes)?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn build_id_bytes(mut notes: &[u8]) -> Option<&[u8]> {
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

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(number(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(number(bytes, at))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::head::{LOADED, NOTE};
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
        let segments = elf.head().segments();
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
                let segments = elf.head().segments();
                let _ = address_at(&segments, 0x810);
            }
            if let Ok(mut table) = elf().and_then(|elf| elf.symbols(None)) {
                let _ = table.find(0x2004);
                let _ = table.find(u64::MAX);
            }
        }
    }
}
