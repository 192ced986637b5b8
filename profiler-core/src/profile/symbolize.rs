//! From addresses to names.
//!
//! Debug information is read, asked once about all addresses that are not in the cache, and given
//! back: as much as the file holds of it, while the names that are kept are a few megabytes. A reading
//! that finds all addresses in the cache opens no file. A file that is opened must be the one that is mapped, or there are
//! no names, with the reason. Runs where a profile is read, never where one is recorded.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use super::cache::{Cache, CacheKey};
use super::elf::{SymbolTable, address_at};
use super::function::Resolved;
use super::mapped::Mapped;
use super::mapping::Mapping;
use super::mappings::Mappings;
use super::module::{Loader, Module};
use super::moved::{GONE, Moved};
use super::source::{self, Files};
use crate::stack;
use crate::view::Symbols;

/// What is known about the files in memory, and the names found before.
#[derive(Debug)]
pub(crate) struct Resolver {
    modules: Vec<Module>,
    /// How many there ever were.
    numbers: u32,
    cache: Cache,
    /// For single questions ([`Resolver::symbol_at`]), until the next profile is read.
    single: Option<Single>,
}

#[derive(Debug)]
struct Single {
    mappings: Mappings,
    /// The last closing of which they know.
    closed: u64,
    table: Option<(u32, Files, SymbolTable<Arc<File>>)>,
}

/// More files than are in memory; behind that, those that are gone are forgotten.
const MOST_MODULES: usize = 256;

/// Where an address lies and what its name is.
#[derive(Debug, Default, Clone)]
pub(crate) struct Found {
    /// The index of the mapping.
    pub(crate) mapping: Option<usize>,
    pub(crate) resolved: Arc<Resolved>,
}

/// An address that the cache does not know.
struct Miss {
    module: u32,
    /// In the file's own numbering.
    address: u64,
    /// Its place in the question.
    position: usize,
}

impl Resolver {
    /// Makes a resolver that keeps up to so many bytes of names.
    pub(crate) const fn new(cache_bytes: usize) -> Self {
        Self { modules: Vec::new(), numbers: 0, cache: Cache::new(cache_bytes), single: None }
    }

    /// Returns what is mapped now, with build ids.
    pub(crate) fn mappings(&mut self) -> Mappings {
        self.single = None;
        let program = std::env::current_exe().unwrap_or_default();
        let program = program.to_string_lossy();
        let mut mappings = Mappings::parse(&crate::sys::memory_maps(), &program);
        let read = |mapping: &Mapping| match mapping.head {
            Some(head) if mapping.is_file() => Mapped::read(head),
            _ => Mapped::Unknown,
        };
        let mapped: Vec<Mapped> = mappings.list().iter().map(read).collect();
        let relocates = mapped.iter().any(|mapped| mapped.is_relocated() == Some(true));
        let loader = Loader { relocates, unloaded: stack::unloaded() };
        for (mapping, mapped) in mappings.list_mut().iter_mut().zip(mapped) {
            if mapping.is_file() {
                let module = self.module(mapping, mapped, loader);
                mapping.build_id = module.build_id.clone();
                mapping.module = Some(module.number);
            }
        }
        // After what is mapped was read: what was closed before that is known then.
        let (closed, forgotten) = stack::closed();
        if !closed.is_empty() || forgotten != 0 {
            mappings.tell_apart(Moved::new(mappings.list(), closed, forgotten));
            for mapping in mappings.list_mut().iter_mut().filter(|mapping| mapping.gone) {
                mapping.module = self.closed_module(mapping);
            }
        }
        if self.modules.len() > MOST_MODULES {
            let is_there =
                |module: &Module| mappings.list().iter().any(|m| m.module == Some(module.number));
            self.modules.retain(is_there);
        }
        mappings
    }

    /// Returns the file of a library that was closed, if it is known or can be found. It must have the build id that the
    /// library had in memory.
    fn closed_module(&mut self, mapping: &Mapping) -> Option<u32> {
        let file = mapping.file.strip_suffix(GONE)?;
        if mapping.build_id.is_empty() {
            return None;
        }
        let is_it = |module: &&Module| *module.file == *file && module.build_id == mapping.build_id;
        if let Some(known) = self.modules.iter().find(is_it) {
            return Some(known.number);
        }
        self.modules.push(Module::closed(self.numbers, file, &mapping.build_id)?);
        self.numbers = self.numbers.wrapping_add(1);
        self.modules.last().map(|module| module.number)
    }

    /// Finds mapping and names of each address; and tells why some have none.
    pub(crate) fn resolve(
        &mut self,
        mappings: &Mappings,
        addresses: &[u64],
        symbols: Symbols,
    ) -> (Vec<Found>, Vec<String>) {
        let mut found = Vec::with_capacity(addresses.len());
        let mut misses = Vec::new();
        // Modules without names.
        let mut refused = BTreeSet::new();
        // Addresses without names share one value.
        let nothing = Arc::<Resolved>::default();
        for (position, &address) in addresses.iter().enumerate() {
            let mapping = mappings.find(address);
            let mut resolved = None;
            if symbols != Symbols::None
                && let Some(mapping) = mapping
                && let Some(module) = mappings.list()[mapping].module
            {
                if let Some(address) = self.translate(&mappings.list()[mapping], address) {
                    resolved = self.cache.get(CacheKey::new(module, address, symbols));
                    if resolved.is_none() {
                        misses.push(Miss { module, address, position });
                    }
                } else {
                    refused.insert(module);
                }
            }
            found.push(Found {
                mapping,
                resolved: resolved.unwrap_or_else(|| Arc::clone(&nothing)),
            });
        }
        misses.sort_unstable_by_key(|miss| (miss.module, miss.address));
        for misses in misses.chunk_by(|a, b| a.module == b.module) {
            let number = misses[0].module;
            let Some(module) = by_number(&mut self.modules, number) else { continue };
            let addresses: Vec<u64> = misses.iter().map(|miss| miss.address).collect();
            let Some(resolved) = source::resolve(module, symbols, &addresses, &mut self.cache)
            else {
                // Asked again next time: the reason may pass.
                refused.insert(number);
                continue;
            };
            for (miss, resolved) in misses.iter().zip(resolved) {
                let resolved = Arc::new(resolved);
                let key = CacheKey::new(miss.module, miss.address, symbols);
                self.cache.insert(key, Arc::clone(&resolved));
                found[miss.position].resolved = resolved;
            }
        }
        self.cache.shrink();
        let refused = self.modules.iter().filter(|module| refused.contains(&module.number));
        let reasons: BTreeSet<String> = refused.filter_map(Module::refusal).collect();
        (found, reasons.into_iter().collect())
    }

    /// Returns an address of a mapping in the file's own numbering.
    fn translate(&self, mapping: &Mapping, address: u64) -> Option<u64> {
        let module = self.modules.iter().find(|module| mapping.module == Some(module.number))?;
        let position = (address - mapping.start).checked_add(mapping.offset)?;
        address_at(&module.segments, position)
    }

    /// Returns the file of a mapping, as it is mapped now.
    fn module(&mut self, mapping: &Mapping, mapped: Mapped, loader: Loader) -> &Module {
        let known = self.modules.iter().position(|module| module.is(mapping, &mapped));
        let position = known.unwrap_or_else(|| {
            self.modules.push(Module::new(self.numbers, mapping, mapped, loader, &self.modules));
            self.numbers = self.numbers.wrapping_add(1);
            self.modules.len() - 1
        });
        &self.modules[position]
    }

    /// Returns the mangled name of the function at an address of this process.
    pub(crate) fn symbol_at(&mut self, address: u64) -> Option<String> {
        let closed = stack::closed().0.last().map_or(0, |closed| closed.number);
        let is_now = |single: &Single| single.closed == closed;
        let known = self
            .single
            .as_ref()
            .is_some_and(|single| is_now(single) && single.mappings.find(address).is_some());
        if !known {
            let mappings = self.mappings();
            self.single = Some(Single { mappings, closed, table: None });
        }
        let mut single = self.single.take()?;
        let name = self.symbol_in(&mut single, address);
        self.single = Some(single);
        name
    }

    fn symbol_in(&mut self, single: &mut Single, address: u64) -> Option<String> {
        // Who asks has the address from a profile, or from what is loaded now.
        if single.mappings.is_ambiguous(address) {
            return None;
        }
        let mapping = &single.mappings.list()[single.mappings.find(address)?];
        let (number, address) = (mapping.module?, self.translate(mapping, address)?);
        if single.table.as_ref().is_none_or(|(held, ..)| *held != number) {
            let module = by_number(&mut self.modules, number)?;
            let mut files = Files::open(module, Symbols::SymbolTable)?;
            let table = files.symbols(None)?;
            single.table = Some((number, files, table));
        }
        let (_, files, table) = single.table.as_mut()?;
        let (name, _) = table.find(address)?;
        files.are_unchanged().then_some(name)
    }
}

fn by_number(modules: &mut [Module], number: u32) -> Option<&mut Module> {
    modules.iter_mut().find(|module| module.number == number)
}

#[cfg(all(test, profiler_native))]
mod tests {
    use std::sync::Mutex;

    use super::super::elf::Elf;
    use super::super::function::is_mangled;
    use super::*;
    use crate::encode::testing::{NATIVE, decode, native, reading, sums};
    use crate::kind::Kind;
    use crate::merge::Rows;
    use crate::profile::{build_among, mappings};

    #[inline(never)]
    fn here() {
        std::hint::black_box(());
    }

    fn address() -> u64 {
        here as *const () as u64 + 1
    }

    /// Returns the name found for an address.
    fn name(resolver: &mut Resolver, address: u64, symbols: Symbols) -> Option<String> {
        let mappings = resolver.mappings();
        let (found, _) = resolver.resolve(&mappings, &[address], symbols);
        found[0].resolved.lines.last().map(|line| line.function.name.to_string())
    }

    /// Returns a mapping of this process that the condition holds for.
    fn mapping(condition: impl Fn(&Mapping) -> bool) -> Mapping {
        let mappings = Resolver::new(0).mappings();
        mappings.list().iter().find(|mapping| condition(mapping)).expect("such a mapping").clone()
    }

    #[test]
    fn every_source_tells_the_path_of_a_function() {
        let mut resolver = Resolver::new(1 << 20);
        for symbols in [Symbols::Dwarf, Symbols::SymbolTable] {
            let name = name(&mut resolver, address(), symbols).unwrap();
            assert!(name.ends_with("profile::symbolize::tests::here"), "{symbols:?}: {name}");
        }
        assert_eq!(name(&mut resolver, address(), Symbols::None), None);
    }

    #[test]
    fn a_second_reading_opens_no_file() {
        let mut resolver = Resolver::new(1 << 20);
        for symbols in [Symbols::Dwarf, Symbols::SymbolTable] {
            assert!(name(&mut resolver, address(), symbols).is_some());
        }
        resolver.modules.iter_mut().for_each(Module::forget_places);
        for symbols in [Symbols::Dwarf, Symbols::SymbolTable] {
            assert!(name(&mut resolver, address(), symbols).is_some());
        }
        // Positive control: what is not in the cache cannot be found now.
        resolver.cache.set_limit(0);
        assert_eq!(name(&mut resolver, address(), Symbols::Dwarf), None);
    }

    #[test]
    fn names_are_found_with_no_room_to_keep_them() {
        let mut resolver = Resolver::new(0);
        assert!(name(&mut resolver, address(), Symbols::Dwarf).is_some());
        assert_eq!(resolver.cache.bytes(), 0);
    }

    #[test]
    fn shared_libraries_without_debug_information_have_their_symbols() {
        let mut resolver = Resolver::new(1 << 20);
        // Found by the dynamic linker and so in the library's dynamic symbols.
        let name =
            name(&mut resolver, libc::getpid as *const () as u64 + 1, Symbols::Dwarf).unwrap();
        assert!(name.ends_with("getpid"), "{name}");
    }

    #[test]
    fn what_the_kernel_maps_has_a_mapping_and_no_names() {
        let vdso = mapping(|mapping| &*mapping.file == "[vdso]");
        let mut resolver = Resolver::new(1 << 20);
        let mappings = resolver.mappings();
        let (found, _) = resolver.resolve(&mappings, &[vdso.start + 16, 16], Symbols::Dwarf);
        assert_eq!(&*mappings.list()[found[0].mapping.unwrap()].file, "[vdso]");
        assert!(found[0].resolved.lines.is_empty());
        assert_eq!(found[1].mapping, None);
    }

    /// Takes note of the file of a mapping, as the resolver does.
    fn module(mapping: &Mapping) -> Module {
        let mapped = mapping.head.map_or(Mapped::Unknown, Mapped::read);
        Module::new(0, mapping, mapped, Loader::default(), &[])
    }

    #[test]
    fn the_program_is_readable_after_its_file_is_gone() {
        let program = mapping(|mapping| mapping.program);
        let gone = Mapping { deleted: true, file: "/gone/shop".into(), ..program.clone() };
        let [mut there, mut deleted] = [&program, &gone].map(module);
        assert!(there.open().is_some() && deleted.open().is_some());
        assert_eq!(deleted.refusal(), None);
        assert_eq!((&there.build_id, &there.segments), (&deleted.build_id, &deleted.segments));
        // A library that is gone has no names, and says so.
        let mut library = module(&Mapping { program: false, start: 1, end: 2, ..gone });
        assert!(library.open().is_none());
        let reason = "functions of /gone/shop have no names: the file is gone";
        assert_eq!(library.refusal().as_deref(), Some(reason));
        // Where it is mapped is known all the same.
        assert_eq!((there.build_id, there.segments), (library.build_id, library.segments));
    }

    #[test]
    fn a_single_symbol_is_told_mangled() {
        let mut resolver = Resolver::new(1 << 20);
        let symbol = resolver.symbol_at(address()).unwrap();
        assert!(is_mangled(&symbol) && symbol.contains("here"), "{symbol}");
        assert_eq!(resolver.symbol_at(16), None);
        assert_eq!(resolver.symbol_at(address()), Some(symbol));
    }

    #[test]
    fn another_program_is_none_of_the_mapped_ones() {
        let program = mapping(|mapping| mapping.program);
        let libc = mapping(|mapping| mapping.file.contains("libc.so"));
        for (file, reason) in [
            (concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "it is no ELF file"),
            (&*program.file, "the file was replaced"),
            ("/proc", "it is no regular file"),
        ] {
            let mut other =
                module(&Mapping { file: file.into(), start: 1, end: 2, ..libc.clone() });
            let resolved = source::resolve(&mut other, Symbols::Dwarf, &[1], &mut Cache::new(0));
            assert_eq!(resolved, None);
            let reason = format!("functions of {file} have no names: {reason}");
            assert_eq!(other.refusal(), Some(reason));
        }
        // Positive control.
        assert!(module(&libc).open().is_some());
    }

    #[test]
    fn addresses_of_this_program_get_names_files_and_lines() {
        #[inline(never)]
        fn inside() -> u32 {
            std::hint::black_box(line!())
        }
        let address = inside as *const () as u64 + 1;
        let rows = Rows::from_iter([(native(&[address]), sums(1, 100))]);
        let resolver = Mutex::new(Resolver::new(1 << 20));
        let mappings = mappings(&resolver);
        let profile = build_among(&mappings, reading(Kind::Block, NATIVE), &rows, &resolver);
        let frame = profile.samples().next().unwrap().frames().last().unwrap();
        let name = "addresses_of_this_program_get_names_files_and_lines::inside";
        assert!(frame.function.unwrap().ends_with(name), "{frame:?}");
        assert!(frame.file.starts_with('/') && frame.file.ends_with("profile/symbolize.rs"));
        assert!((inside() - 2..=inside()).contains(&frame.line), "{frame:?}");
        let function = &profile.locations()[0].lines()[0].function;
        assert!(function.system_name.starts_with('_'), "{function:?}");

        let message = decode(&profile);
        let program = std::env::current_exe().unwrap();
        let first = usize::try_from(message.mapping[0].filename).unwrap();
        assert_eq!(message.string_table[first], program.to_string_lossy());
        assert_eq!(message.location[0].mapping_id, 1);
    }

    #[test]
    fn the_symbol_table_of_this_program_is_read() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let mut table = Elf::new(file).and_then(|elf| elf.symbols(None)).unwrap();
        assert_eq!(table.find(0), None);
        assert!(table.len() > 1000);
    }
}
