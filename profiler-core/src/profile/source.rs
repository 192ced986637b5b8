//! Where names come from: debug information, or else a symbol table.

use std::borrow::Cow;
use std::fs::File;

use super::cache::Cache;
use super::elf::SymbolTable;
use super::function::{Function, Line, Resolved, is_mangled};
use super::module::Module;
use crate::view::Symbols;

/// Where the names of one file come from, for the length of one reading.
pub(crate) enum Source {
    Debug(Box<addr2line::Loader>),
    Table(SymbolTable<File>),
    Nothing,
}

/// A frame as debug information tells it.
struct RawLine {
    name: Option<String>,
    file: String,
    line: u32,
}

impl Source {
    /// Opens what the file offers.
    pub(crate) fn open(module: &Module, symbols: Symbols) -> Self {
        let debug = module
            .path
            .as_ref()
            .filter(|_| symbols == Symbols::Dwarf)
            .and_then(|path| addr2line::Loader::new(path).ok());
        match debug {
            Some(loader) => Self::Debug(Box::new(loader)),
            None => module.symbols().map_or(Self::Nothing, Self::Table),
        }
    }

    /// Finds the names at an address of the file's own numbering.
    pub(crate) fn resolve(&mut self, address: u64, cache: &mut Cache) -> Resolved {
        match self {
            Self::Debug(loader) => from_debug_information(loader, address, cache),
            Self::Table(table) => table
                .find(address)
                .map_or_else(Resolved::default, |(name, offset)| from_symbol(&name, offset, cache)),
            Self::Nothing => Resolved::default(),
        }
    }
}

fn from_symbol(name: &str, offset: u64, cache: &mut Cache) -> Resolved {
    let function = cache.function(Function::new(name, ""));
    Resolved { lines: Box::new([Line { function, line: 0 }]), offset, inlines: false }
}

fn from_debug_information(loader: &addr2line::Loader, address: u64, cache: &mut Cache) -> Resolved {
    let symbol = loader.find_symbol_info(address);
    let offset = symbol.as_ref().map_or(0, |symbol| address.saturating_sub(symbol.address()));
    let mut raw = raw_lines(loader, address);
    if let (Some(last), Some(symbol)) = (raw.last_mut(), &symbol)
        && !last.name.as_deref().is_some_and(is_mangled)
    {
        // The symbol tells the whole path, debug information may tell the bare name.
        last.name = Some(symbol.name().to_owned());
    }
    let lines: Box<[Line]> = raw
        .into_iter()
        .filter_map(|RawLine { name, file, line }| {
            let function = cache.function(Function::new(&name?, &file));
            Some(Line { function, line })
        })
        .collect();
    match symbol {
        Some(symbol) if lines.is_empty() => from_symbol(symbol.name(), offset, cache),
        _ => Resolved { inlines: !lines.is_empty(), lines, offset },
    }
}

/// Reads the frames at an address, innermost first; none where debug information is silent or
/// damaged.
fn raw_lines(loader: &addr2line::Loader, address: u64) -> Vec<RawLine> {
    let mut lines = Vec::new();
    let Ok(mut frames) = loader.find_frames(address) else { return lines };
    while let Ok(Some(frame)) = frames.next() {
        let name = frame.function.as_ref().and_then(|function| function.raw_name().ok());
        let location = frame.location.as_ref();
        lines.push(RawLine {
            name: name.map(Cow::into_owned),
            file: location.and_then(|location| location.file).unwrap_or_default().to_owned(),
            line: location.and_then(|location| location.line).unwrap_or_default(),
        });
    }
    lines
}
