//! What `addr2line` finds is found; what is damaged does no harm.

#![cfg(profiler_native)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::{Frame, read};
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
    read(&program, &addresses, &mut |position, frames| {
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
        let mut table = Elf::new(opened).and_then(Elf::symbols).expect("symbols");
        for address in addresses(&file, 3_000) {
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
