//! Where names come from: debug information, or else a symbol table.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::cache::Cache;
use super::debug_info::{self, Frame};
use super::elf::{Elf, SymbolTable};
use super::function::{Function, Line, Resolved, is_mangled};
use super::module::Module;
use super::opened::Opened;
use crate::view::Symbols;

/// Finds the names at addresses of a file's own numbering, which ascend; none if the file is not what is mapped.
pub(crate) fn resolve(
    module: &mut Module,
    symbols: Symbols,
    addresses: &[u64],
    cache: &mut Cache,
) -> Option<Vec<Resolved>> {
    let mut files = Files::open(module, symbols)?;
    let mut table = files.symbols(Some(addresses));
    let mut resolved: Vec<Option<Resolved>> = Vec::new();
    resolved.resize_with(addresses.len(), || None);
    if symbols == Symbols::Dwarf {
        let program = Path::new(&*module.file);
        debug_info::read(files.debug_information(), program, addresses, &mut |position, frames| {
            let address = addresses[position];
            resolved[position] = from_frames(frames, address, table.as_mut(), cache);
        });
    }
    let mut named = |address| {
        let table = table.as_mut()?;
        let (name, offset) = table.find(address)?;
        Some(from_symbol(&name, offset, cache))
    };
    let all = resolved.into_iter().zip(addresses);
    let all =
        all.map(|(found, address)| found.or_else(|| named(*address)).unwrap_or_default()).collect();
    if !files.are_unchanged() {
        module.refuse_changed();
        return None;
    }
    Some(all)
}

/// The file that is mapped, and the one that holds what was stripped from it.
#[derive(Debug)]
pub(crate) struct Files {
    mapped: Opened,
    separate: Option<Opened>,
}

impl Files {
    /// Opens them, the second one if it is needed.
    pub(crate) fn open(module: &mut Module, symbols: Symbols) -> Option<Self> {
        let mut mapped = module.open()?;
        let is_whole = mapped.elf.has_symbols()
            && (symbols != Symbols::Dwarf || mapped.elf.has_debug_information());
        let separate = if is_whole { None } else { module.separate(&mut mapped) };
        Some(Self { mapped, separate })
    }

    /// Reads the functions; only those of some addresses, in ascending order, if they are known.
    pub(crate) fn symbols(&mut self, asked: Option<&[u64]>) -> Option<SymbolTable<Arc<File>>> {
        if !self.mapped.elf.has_symbols()
            && let Some(separate) = &mut self.separate
            && separate.elf.has_symbols()
        {
            return separate.symbols(asked);
        }
        self.mapped.symbols(asked)
    }

    fn debug_information(&mut self) -> &mut Elf<Arc<File>> {
        let is_stripped = !self.mapped.elf.has_debug_information();
        let separate = self.separate.as_mut().filter(|_| is_stripped);
        &mut separate.unwrap_or(&mut self.mapped).elf
    }

    /// Returns whether nobody has written to them since.
    pub(crate) fn are_unchanged(&self) -> bool {
        self.mapped.is_unchanged() && self.separate.as_ref().is_none_or(Opened::is_unchanged)
    }
}

fn from_symbol(name: &str, offset: u64, cache: &mut Cache) -> Resolved {
    let function = cache.function(Function::new(name, ""));
    Resolved { lines: Box::new([Line { function, line: 0 }]), offset, inlines: false }
}

/// Names the calls at an address as debug information tells them; `None` if it names none.
fn from_frames(
    frames: &[Frame<'_>],
    address: u64,
    table: Option<&mut SymbolTable<Arc<File>>>,
    cache: &mut Cache,
) -> Option<Resolved> {
    let symbol = table.and_then(|table| Some((table.symbol(address)?, table)));
    let offset = symbol.as_ref().map_or(0, |(symbol, _)| symbol.offset(address));
    let outermost = frames.last()?.name.as_deref();
    // The symbol tells the whole path, debug information may tell the bare name.
    let is_whole = outermost.is_some_and(is_mangled);
    let whole = symbol.filter(|_| !is_whole).and_then(|(symbol, table)| table.name(symbol));
    let mut lines = Vec::with_capacity(frames.len());
    for (index, frame) in frames.iter().enumerate() {
        let whole = whole.as_deref().filter(|_| index + 1 == frames.len());
        if let Some(name) = whole.or(frame.name.as_deref()) {
            let function = cache.function(Function::new(name, frame.file));
            lines.push(Line { function, line: frame.line });
        }
    }
    (!lines.is_empty()).then(|| Resolved { lines: lines.into(), offset, inlines: true })
}
