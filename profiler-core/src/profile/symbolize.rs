//! From addresses to names.
//!
//! Debug information is mapped, asked once about all addresses that are not in the cache, and given
//! back: as much as the file holds of it, while the names that are kept are a few megabytes. A reading
//! that finds all addresses in the cache opens no file. Runs where a profile is read, never where one is recorded.

use std::fs::File;
use std::sync::Arc;

use super::cache::{Cache, CacheKey};
use super::elf::{SymbolTable, address_at};
use super::function::Resolved;
use super::mapping::{Mapping, Mappings};
use super::module::Module;
use super::moved::{GONE, Moved};
use super::source;
use crate::view::Symbols;

/// What is known about the files in memory, and the names found before.
#[derive(Debug)]
pub(crate) struct Resolver {
    modules: Vec<Module>,
    cache: Cache,
    /// For single questions ([`Resolver::symbol_at`]), until the next profile is read.
    single: Option<Single>,
}

#[derive(Debug)]
struct Single {
    mappings: Mappings,
    /// The last closing of which they know.
    closed: u64,
    table: Option<(u32, SymbolTable<File>)>,
}

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
        Self { modules: Vec::new(), cache: Cache::new(cache_bytes), single: None }
    }
    /// Returns what is mapped now, with build ids.
    pub(crate) fn mappings(&mut self) -> Mappings {
        self.single = None;
        let program = std::env::current_exe().unwrap_or_default();
        let program = program.to_string_lossy();
        let mut mappings = Mappings::parse(&crate::sys::memory_maps(), &program);
        for mapping in mappings.list_mut().iter_mut().filter(|mapping| mapping.is_file()) {
            let module = self.module(mapping);
            mapping.build_id = self.modules[module as usize].build_id.clone();
            mapping.module = Some(module);
        }
        // After what is mapped was read: what was closed before that is known then.
        let (closed, forgotten) = crate::stack::closed();
        if !closed.is_empty() || forgotten != 0 {
            mappings.tell_apart(Moved::new(mappings.list(), closed, forgotten));
            for mapping in mappings.list_mut().iter_mut().filter(|mapping| mapping.gone) {
                mapping.module = self.closed_module(mapping);
            }
        }
        mappings
    }

    /// Returns the file of a library that was closed, if it is known. Its names may be read as long as what is there
    /// under its name has the build id that the library had in memory; then those in the cache are left.
    fn closed_module(&mut self, mapping: &Mapping) -> Option<u32> {
        let file = mapping.file.strip_suffix(GONE)?;
        let is_it = |module: &Module| *module.file == *file && module.build_id == mapping.build_id;
        if mapping.build_id.is_empty() {
            return None;
        }
        let there = Module::open(&Mapping { file: file.into(), ..Mapping::default() });
        let is_there = is_it(&there);
        let position = match self.modules.iter().position(is_it) {
            Some(position) => position,
            None if is_there => {
                self.modules.push(there);
                self.modules.len() - 1
            }
            None => return None,
        };
        if !is_there {
            self.modules[position].path = None;
        }
        Some(super::location::index(position))
    }

    /// Finds mapping and names of each address.
    pub(crate) fn resolve(
        &mut self,
        mappings: &Mappings,
        addresses: &[u64],
        symbols: Symbols,
    ) -> Vec<Found> {
        let mut found = Vec::with_capacity(addresses.len());
        let mut misses = Vec::new();
        // Addresses without names share one value.
        let nothing = Arc::<Resolved>::default();
        for (position, &address) in addresses.iter().enumerate() {
            let mapping = mappings.find(address);
            let mut resolved = None;
            if symbols != Symbols::None
                && let Some(mapping) = mapping
                && let Some((module, address)) = self.translate(&mappings.list()[mapping], address)
            {
                resolved = self.cache.get(CacheKey::new(module, address, symbols));
                if resolved.is_none() {
                    misses.push(Miss { module, address, position });
                }
            }
            found.push(Found {
                mapping,
                resolved: resolved.unwrap_or_else(|| Arc::clone(&nothing)),
            });
        }
        misses.sort_unstable_by_key(|miss| (miss.module, miss.address));
        for misses in misses.chunk_by(|a, b| a.module == b.module) {
            let module = &self.modules[misses[0].module as usize];
            let addresses: Vec<u64> = misses.iter().map(|miss| miss.address).collect();
            let resolved = source::resolve(module, symbols, &addresses, &mut self.cache);
            for (miss, resolved) in misses.iter().zip(resolved) {
                let resolved = Arc::new(resolved);
                let key = CacheKey::new(miss.module, miss.address, symbols);
                self.cache.insert(key, Arc::clone(&resolved));
                found[miss.position].resolved = resolved;
            }
        }
        self.cache.shrink();
        found
    }

    /// Returns the file that holds an address, and the address in its own numbering.
    fn translate(&self, mapping: &Mapping, address: u64) -> Option<(u32, u64)> {
        let module = mapping.module?;
        let position = (address - mapping.start).checked_add(mapping.offset)?;
        Some((module, address_at(&self.modules[module as usize].segments, position)?))
    }

    /// Returns the file of a mapping, opening it the first time it is seen.
    fn module(&mut self, mapping: &Mapping) -> u32 {
        let known = self
            .modules
            .iter()
            .position(|module| module.inode == mapping.inode && module.file == mapping.file);
        let position = known.unwrap_or_else(|| {
            self.modules.push(Module::open(mapping));
            self.modules.len() - 1
        });
        super::location::index(position)
    }

    /// Returns the mangled name of the function at an address of this process.
    pub(crate) fn symbol_at(&mut self, address: u64) -> Option<String> {
        let closed = crate::stack::closed().0.last().map_or(0, |closed| closed.number);
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
        let mapping = single.mappings.find(address)?;
        let (module, address) = self.translate(&single.mappings.list()[mapping], address)?;
        if single.table.as_ref().is_none_or(|(held, _)| *held != module) {
            single.table = Some((module, self.modules[module as usize].symbols(None)?));
        }
        let (_, table) = single.table.as_mut()?;
        table.find(address).map(|(name, _)| name)
    }
}

#[cfg(all(test, profiler_native))]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use super::super::elf::Elf;
    use super::super::function::is_mangled;
    use super::super::module::PROGRAM;
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
        let found = resolver.resolve(&mappings, &[address], symbols);
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
        for module in &mut resolver.modules {
            module.path = None;
        }
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
        let found = resolver.resolve(&mappings, &[vdso.start + 16, 16], Symbols::Dwarf);
        assert_eq!(&*mappings.list()[found[0].mapping.unwrap()].file, "[vdso]");
        assert!(found[0].resolved.lines.is_empty());
        assert_eq!(found[1].mapping, None);
    }

    #[test]
    fn the_program_is_readable_after_its_file_is_gone() {
        let program = mapping(|mapping| mapping.program);
        let gone = Mapping { deleted: true, file: "/gone/shop".into(), ..program.clone() };
        let [module, deleted] = [&program, &gone].map(Module::open);
        assert_eq!(deleted.path.as_deref(), Some(Path::new(PROGRAM)));
        assert_eq!((module.build_id, module.segments), (deleted.build_id, deleted.segments));
        // A library that is gone has no names, and that is all.
        let library = Module::open(&Mapping { program: false, start: 1, end: 2, ..gone });
        assert_eq!((library.path, library.segments), (None, Vec::new()));
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
    fn files_that_are_no_programs_do_no_harm() {
        let text = Module::open(&Mapping { file: "/proc/self/maps".into(), ..Mapping::default() });
        assert!(text.path.is_none());
        let mut module = Module::open(&mapping(|mapping| mapping.program));
        module.path = Some("/proc/self/maps".into());
        let resolved = source::resolve(&module, Symbols::Dwarf, &[1], &mut Cache::new(0));
        assert_eq!(resolved, [Resolved::default()]);
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
