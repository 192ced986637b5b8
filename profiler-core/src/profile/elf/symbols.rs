//! The functions of a file, by its symbol table.
//!
//! A hundred thousand cost 2.3 MiB while all of them are held; who knows what he will ask holds as many as he
//! asks for.

use std::cmp::Reverse;
use std::io::{self, Read, Seek};

use super::{Elf, Section, u16_at, u32_at, u64_at};

/// The functions of a file, by address.
#[derive(Debug)]
pub(crate) struct SymbolTable<R> {
    elf: Elf<R>,
    symbols: Vec<Symbol>,
    names: Section,
}

/// A function, as a symbol table tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Symbol {
    address: u64,
    /// Among names of one address the one is preferred that has a size and that more may use, then the
    /// last: libc calls the same function `__pthread_getspecific` first and `pthread_getspecific` then.
    rank: u8,
    number: Reverse<u32>,
    name: u32,
    size: u32,
}

pub(super) const SYMBOLS: u32 = 2;
pub(super) const DYNAMIC_SYMBOLS: u32 = 11;
pub(super) const SYMBOL_SIZE: u64 = 24;
const _: () = assert!(size_of::<Symbol>() == 24);
/// More than any symbol has (names of nested generics reach some kilobytes).
const LONGEST_NAME: u64 = 1 << 16;

impl<R: Read + Seek> Elf<R> {
    /// Reads the symbol table, or where it was stripped, that of the dynamic linker.
    ///
    /// Where it is known which addresses will be asked, in ascending order, their functions alone are held.
    pub(crate) fn symbols(mut self, asked: Option<&[u64]>) -> io::Result<SymbolTable<R>> {
        let kinds = [SYMBOLS, DYNAMIC_SYMBOLS];
        let Some(table) = kinds.into_iter().find_map(|kind| self.table_of(kind)) else {
            return Ok(SymbolTable { elf: self, symbols: Vec::new(), names: Section::NONE });
        };
        let sections = &self.section_table()?.sections;
        let names = sections.get(table.link as usize).copied().unwrap_or(Section::NONE);
        let mut symbols = Vec::new();
        // In pieces, so that the raw table never stands beside ours.
        let piece = SYMBOL_SIZE * 2048;
        let mut at = 0;
        while at < table.size {
            let bytes = self.read(table.offset.saturating_add(at), piece.min(table.size - at))?;
            let numbers = u32::try_from(at / SYMBOL_SIZE).unwrap_or(u32::MAX)..;
            let entries = bytes.chunks_exact(24).zip(numbers);
            symbols.extend(entries.filter_map(|(entry, number)| Symbol::parse(entry, number)));
            at += piece;
            if let Some(asked) = asked {
                sort(&mut symbols);
                keep_those_of(&mut symbols, asked);
            }
        }
        sort(&mut symbols);
        symbols.shrink_to_fit();
        Ok(SymbolTable { elf: self, symbols, names })
    }

    /// Returns whether it has a symbol table that only tools need.
    pub(crate) fn has_symbols(&mut self) -> bool {
        self.table_of(SYMBOLS).is_some()
    }

    fn table_of(&mut self, kind: u32) -> Option<Section> {
        let sections = &self.section_table().ok()?.sections;
        sections.iter().find(|section| section.kind == kind && section.size >= SYMBOL_SIZE).copied()
    }
}

impl<R: Read + Seek> SymbolTable<R> {
    /// Returns the name of the function that holds an address of the file's own numbering, and how
    /// far behind its start the address lies.
    pub(crate) fn find(&mut self, address: u64) -> Option<(String, u64)> {
        let symbol = self.symbol(address)?;
        Some((self.name(symbol)?, symbol.offset(address)))
    }

    /// Returns the function that holds an address.
    pub(crate) fn symbol(&self, address: u64) -> Option<Symbol> {
        let behind = self.symbols.partition_point(|symbol| symbol.address <= address);
        let symbol = *self.symbols[..behind].last()?;
        // Hand-written assembly may have no size: then it reaches to the next function.
        (symbol.size == 0 || symbol.offset(address) < u64::from(symbol.size)).then_some(symbol)
    }

    /// Returns how many functions it has.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.symbols.len()
    }

    /// Reads the name of a function.
    pub(crate) fn name(&mut self, symbol: Symbol) -> Option<String> {
        let at = u64::from(symbol.name);
        let left = self.names.size.checked_sub(at)?;
        let mut size = 128;
        loop {
            let size_now = left.min(size);
            let bytes = self.elf.read(self.names.offset.checked_add(at)?, size_now).ok()?;
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                return (end > 0).then(|| String::from_utf8_lossy(&bytes[..end]).into_owned());
            }
            if size_now < size || size >= LONGEST_NAME {
                return None;
            }
            size *= 4;
        }
    }
}

impl Symbol {
    /// Returns how far behind its start an address lies.
    pub(crate) const fn offset(&self, address: u64) -> u64 {
        address.saturating_sub(self.address)
    }

    /// Reads one entry, if it is a function that is defined here.
    fn parse(entry: &[u8], number: u32) -> Option<Self> {
        let (info, other, section) = (entry[4], entry[5], u16_at(entry, 6));
        let (function, local, hidden) =
            (matches!(info & 15, 2 | 10), info >> 4 == 0, other & 3 == 2);
        let size = u32::try_from(u64_at(entry, 16)).unwrap_or(u32::MAX);
        let scope = if local { 2 } else { u8::from(hidden) };
        (function && section != 0).then(|| Self {
            address: u64_at(entry, 8),
            rank: scope + if size == 0 { 4 } else { 0 },
            number: Reverse(number),
            name: u32_at(entry, 0),
            size,
        })
    }
}

fn sort(symbols: &mut Vec<Symbol>) {
    symbols.sort_unstable();
    symbols.dedup_by_key(|symbol| symbol.address);
}

/// Drops functions that none of the addresses lies behind, before the next function.
fn keep_those_of(symbols: &mut Vec<Symbol>, asked: &[u64]) {
    let mut kept = 0;
    for index in 0..symbols.len() {
        let symbol = symbols[index];
        let next = symbols.get(index + 1).map_or(u64::MAX, |next| next.address);
        let behind = asked.partition_point(|address| *address < symbol.address);
        if asked.get(behind).is_some_and(|address| *address < next) {
            symbols[kept] = symbol;
            kept += 1;
        }
    }
    symbols.truncate(kept);
}
