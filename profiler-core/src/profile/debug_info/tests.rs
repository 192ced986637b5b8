//! What `addr2line` finds is found; what is damaged does no harm.

#![cfg(profiler_native)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use gimli::{DwarfSections, SectionId};
use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use proptest::prelude::*;

use super::sections::Sections;
use super::{Dwarf, Frame, Slice, next_unit, open, read, read_units};
use crate::profile::elf::Elf;

/// A frame that owns what it says.
type Told = (Option<String>, String, u32);

fn own(frames: &[Frame<'_>]) -> Vec<Told> {
    let told = |frame: &Frame<'_>| {
        (frame.name.as_deref().map(str::to_owned), frame.file.to_owned(), frame.line)
    };
    frames.iter().map(told).collect()
}

fn by_addr2line(loader: &addr2line::Loader, address: u64) -> Vec<Told> {
    let mut told = Vec::new();
    let Ok(mut frames) = loader.find_frames(address) else { return told };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let location = frame.location.as_ref();
        told.push((
            name.map(Cow::into_owned),
            location.and_then(|location| location.file).unwrap_or_default().to_owned(),
            location.and_then(|location| location.line).unwrap_or_default(),
        ));
    }
    told
}

/// Addresses spread over the code of a program, starts and ends of functions among them.
fn addresses(program: &Path, count: u64) -> Vec<u64> {
    let bytes = std::fs::read(program).expect("a program");
    let file = ElfFile64::<object::LittleEndian>::parse(&*bytes).expect("a program");
    let text = file.section_by_name(".text").expect("code");
    let end = text.address() + text.size();
    let step = usize::try_from((text.size() / count).max(1)).expect("a step");
    let mut addresses: Vec<u64> = (text.address()..end).step_by(step).collect();
    let within = text.address()..end;
    let is_function = |symbol: &object::read::elf::ElfSymbol64<'_, '_, _>| {
        symbol.kind() == SymbolKind::Text && within.contains(&symbol.address())
    };
    let functions: Vec<_> = file.symbols().filter(is_function).collect();
    let every = functions.len() / usize::try_from(count).expect("a count") + 1;
    for function in functions.into_iter().step_by(every) {
        let end = function.address() + function.size();
        addresses.extend([function.address(), end.saturating_sub(1), end]);
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// `PROFILER_SYMBOLS_OF` names another program to compare.
fn program() -> PathBuf {
    let other = std::env::var_os("PROFILER_SYMBOLS_OF").map(PathBuf::from);
    other.unwrap_or_else(|| std::env::current_exe().expect("a path"))
}

#[test]
fn the_same_is_found_as_by_addr2line() {
    let program = program();
    let addresses = addresses(&program, 3_000);
    let mut found = BTreeMap::new();
    let mut file = open(&program).expect("a program");
    read(&mut file, &program, &addresses, &mut |position, frames| {
        assert!(!frames.is_empty());
        assert!(found.insert(addresses[position], own(frames)).is_none(), "answered twice");
    });
    let loader = addr2line::Loader::new(&program).expect("a program");
    let mut inlined = 0;
    for address in &addresses {
        let found = found.get(address).map_or(&[][..], Vec::as_slice);
        assert_eq!(found, by_addr2line(&loader, *address), "{address:#x}");
        inlined += usize::from(found.len() > 1);
    }
    // Positive control; what lies between functions has no answer.
    let all = addresses.len();
    println!("{all} addresses, {} answered, {inlined} with inlined calls", found.len());
    assert!(found.len() > all / 2 && inlined > all / 50);
}

/// Symbols stand in for names that are not whole, and for debug information that is not there.
#[test]
fn symbols_are_those_of_addr2line() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    let libc = maps.lines().filter_map(|line| line.split_whitespace().last());
    let libc = libc.filter(|path| path.ends_with("/libc.so.6")).take(1).map(PathBuf::from);
    for file in libc.chain([program()]) {
        let loader = addr2line::Loader::new(&file).expect("a program");
        let opened = File::open(&file).expect("a program");
        let addresses = addresses(&file, 3_000);
        let table = Elf::new(opened).and_then(|elf| elf.symbols(Some(&addresses)));
        let mut table = table.expect("symbols");
        for address in addresses {
            let expected = loader.find_symbol_info(address);
            let expected =
                expected.map(|symbol| (symbol.name().to_owned(), address - symbol.address()));
            let found = table.find(address);
            // Functions that choose another one are none to `addr2line`.
            let differs = found != expected && expected.is_some();
            assert!(!differs, "{file:?} {address:#x}: {found:?} but {expected:?}");
        }
    }
}

/// The first units of this program: sections small enough to be damaged, and addresses that they answer for.
struct Example {
    sections: Vec<(SectionId, Cow<'static, [u8]>)>,
    addresses: Vec<u64>,
}

static EXAMPLE: LazyLock<Example> = LazyLock::new(|| {
    let program = std::env::current_exe().expect("a path");
    let bytes = std::fs::read(&program).expect("a program").leak();
    let file = ElfFile64::<object::LittleEndian>::parse(&*bytes).expect("a program");
    let mut sections = Vec::new();
    for id in DAMAGED.into_iter().chain([SectionId::DebugStr, SectionId::DebugLineStr]) {
        let Some(section) = file.section_by_name(id.name()) else { continue };
        let all = section.data().expect("what is not compressed");
        let most = if DAMAGED.contains(&id) { 1 << 20 } else { usize::MAX };
        sections.push((id, Cow::Borrowed(&all[..all.len().min(most)])));
    }
    let mut example = Example { sections, addresses: Vec::new() };
    // Whole units only: behind half a one nothing is read.
    let end = example.read(&[], |dwarf| {
        let mut headers = dwarf.units();
        let headers = std::iter::from_fn(|| next_unit(&mut headers));
        let ends = headers.map(|header| header.offset().0 + header.length_including_self());
        let mut ends = ends.take(20).peekable();
        let first = *ends.peek().expect("a unit");
        ends.take_while(|end| *end < 150_000).last().unwrap_or(first)
    });
    for (id, bytes) in &mut example.sections {
        if *id == SectionId::DebugInfo {
            bytes.to_mut().truncate(end);
        }
    }
    let all = addresses(&program, 20_000);
    let mut answered = Vec::new();
    example.read(&[], |dwarf| {
        read_units(dwarf, None, &all, &mut |position, _| answered.push(all[position]));
    });
    answered.sort_unstable();
    example.addresses = answered;
    example
});

const DAMAGED: [SectionId; 7] = [
    SectionId::DebugInfo,
    SectionId::DebugAbbrev,
    SectionId::DebugLine,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugAddr,
    SectionId::DebugStrOffsets,
];

/// A change of a section, at a place between 0 and 1 of it.
#[derive(Debug, Clone)]
enum Damage {
    Byte(usize, f64, u8),
    End(usize, f64),
}

impl Example {
    /// Reads the sections with the damage done.
    fn read<T>(&self, damage: &[Damage], read: impl FnOnce(&Dwarf<'_>) -> T) -> T {
        let mut sections = self.sections.clone();
        let place = |bytes: &[u8], at: f64| (bytes.len() as f64 * at) as usize;
        for change in damage {
            let (Damage::Byte(which, at, _) | Damage::End(which, at)) = *change;
            let bytes = &mut sections[which].1;
            let place = place(bytes, at);
            match *change {
                Damage::Byte(_, _, byte) => {
                    if let Some(place) = bytes.to_mut().get_mut(place) {
                        *place = byte;
                    }
                }
                Damage::End(..) => bytes.to_mut().truncate(place),
            }
        }
        let find = |id| sections.iter().find(|(section, _)| *section == id);
        let sections = DwarfSections::load(|id| {
            Ok::<_, gimli::Error>(find(id).map_or(&[][..], |(_, bytes)| &**bytes))
        });
        let sections = sections.expect("sections");
        read(&sections.borrow(|bytes| Slice::new(bytes, gimli::LittleEndian)))
    }

    /// Returns how many of the addresses are answered.
    fn answered(&self, damage: &[Damage]) -> usize {
        let mut answered = 0;
        self.read(damage, |dwarf| {
            read_units(dwarf, None, &self.addresses, &mut |_, frames| {
                assert!(!frames.is_empty());
                answered += 1;
            });
        });
        answered
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let section = 0..EXAMPLE.sections.len() - 2;
    prop_oneof![
        9 => (section.clone(), 0.0..1.0, any::<u8>()).prop_map(|(a, b, c)| Damage::Byte(a, b, c)),
        1 => (section, 0.0..1.0).prop_map(|(a, b)| Damage::End(a, b)),
    ]
}

#[test]
fn the_example_for_damage_is_sound() {
    assert!(EXAMPLE.addresses.len() > 20, "{}", EXAMPLE.addresses.len());
    assert_eq!(EXAMPLE.answered(&[]), EXAMPLE.addresses.len());
    // Positive control: without entries and lines nothing is answered.
    assert_eq!(EXAMPLE.answered(&[Damage::End(0, 0.0)]), 0);
}

proptest! {
    #[test]
    fn damage_does_no_harm(damage in proptest::collection::vec(damage(), 1..30)) {
        prop_assert!(EXAMPLE.answered(&damage) <= EXAMPLE.addresses.len());
    }
}

/// A file that is cut short after its length was asked.
struct CutShort<'b> {
    file: Cursor<&'b [u8]>,
    end: u64,
}

impl Read for CutShort<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(self.file.position());
        self.file.by_ref().take(left).read(into)
    }
}

impl Seek for CutShort<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn files_that_end_early_do_no_harm() {
    let program = std::fs::read(std::env::current_exe().expect("a path")).expect("a program");
    let read = |mut file: Elf<CutShort<'_>>| {
        let mut answered = 0;
        if let Some(sections) = Sections::of_program(&mut file) {
            let mut count = |_: usize, _: &[Frame<'_>]| answered += 1;
            read_units(&sections.dwarf(), None, &EXAMPLE.addresses, &mut count);
        }
        let _ = Sections::of_package(&mut file).map(|sections| sections.package().is_ok());
        answered
    };
    let cut = |length: usize, end: usize| {
        let file = Cursor::new(&program[..length]);
        Elf::new(CutShort { file, end: end as u64 }).map_or(0, read)
    };
    for part in 0..100 {
        let end = program.len() / 100 * part;
        cut(end, end);
        cut(program.len(), end);
    }
    // Positive control.
    assert_eq!(cut(program.len(), program.len()), EXAMPLE.addresses.len());
}
