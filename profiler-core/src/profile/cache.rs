//! Names that were found before: bounded, so that the second reading of a profile is nearly free
//! and the hundredth no larger.

use std::collections::HashSet;
use std::sync::Arc;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::function::{Function, Line, Resolved};
use crate::view::Symbols;

/// What tells one answer from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    /// Which file.
    pub(crate) module: u32,
    /// The address in the file's own numbering, the same in every run.
    pub(crate) address: u64,
    /// Whether debug information was asked.
    pub(crate) lines: bool,
}

impl CacheKey {
    pub(crate) fn new(module: u32, address: u64, symbols: Symbols) -> Self {
        Self { module, address, lines: symbols == Symbols::Dwarf }
    }
}

/// Resolved addresses, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: FxHashMap<CacheKey, Entry>,
    functions: HashSet<Arc<Function>, FxBuildHasher>,
    /// Of the functions.
    texts: HashSet<Arc<str>, FxBuildHasher>,
    bytes: usize,
    limit: usize,
    /// Counts readings, so that what was not used lately goes first.
    reading: u64,
}

#[derive(Debug)]
struct Entry {
    resolved: Arc<Resolved>,
    used: u64,
}

impl Cache {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            entries: FxHashMap::with_hasher(FxBuildHasher),
            functions: HashSet::with_hasher(FxBuildHasher),
            texts: HashSet::with_hasher(FxBuildHasher),
            bytes: 0,
            limit,
            reading: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
        self.shrink();
    }

    pub(crate) fn get(&mut self, key: CacheKey) -> Option<Arc<Resolved>> {
        let entry = self.entries.get_mut(&key)?;
        entry.used = self.reading;
        Some(Arc::clone(&entry.resolved))
    }

    /// Keeps an answer; [`Cache::shrink`] must follow before the next reading.
    pub(crate) fn insert(&mut self, key: CacheKey, resolved: Arc<Resolved>) {
        let bytes = entry_bytes(&resolved);
        let entry = Entry { resolved, used: self.reading };
        if self.entries.insert(key, entry).is_none() {
            self.bytes += bytes;
        }
    }

    /// Returns the one value for a function.
    pub(crate) fn function(&mut self, mut function: Function) -> Arc<Function> {
        if let Some(known) = self.functions.get(&function) {
            return Arc::clone(known);
        }
        for text in function.texts() {
            if let Some(known) = self.texts.get(text) {
                text.clone_from(known);
            } else {
                self.texts.insert(Arc::clone(text));
                self.bytes += text_bytes(text);
            }
        }
        self.bytes += FUNCTION_BYTES;
        let function = Arc::new(function);
        self.functions.insert(Arc::clone(&function));
        function
    }

    /// Ends a reading: when too much is held, what was not used for the longest time goes until
    /// half is free, so that it does not happen at every reading.
    pub(crate) fn shrink(&mut self) {
        self.reading += 1;
        if self.bytes <= self.limit {
            return;
        }
        let mut ages: Vec<(u64, CacheKey)> =
            self.entries.iter().map(|(&key, entry)| (entry.used, key)).collect();
        ages.sort_unstable_by_key(|&(used, key)| (used, key.module, key.address));
        let mut ages = ages.into_iter();
        while self.bytes > self.limit / 2 && ages.len() > 0 {
            // An eighth at a time: a function's name goes with the last entry that mentions it.
            for (_, key) in ages.by_ref().take(self.entries.len().div_ceil(8)) {
                if let Some(entry) = self.entries.remove(&key) {
                    self.bytes -= entry_bytes(&entry.resolved);
                }
            }
            self.drop_functions();
        }
        self.entries.shrink_to_fit();
        self.functions.shrink_to_fit();
        self.texts.shrink_to_fit();
    }

    /// Drops functions that no entry mentions any more, and their texts.
    fn drop_functions(&mut self) {
        let mentioned: HashSet<*const Function, FxBuildHasher> = self
            .entries
            .values()
            .flat_map(|entry| &entry.resolved.lines)
            .map(|line| Arc::as_ptr(&line.function))
            .collect();
        let bytes = &mut self.bytes;
        self.functions.retain(|function| {
            let kept = mentioned.contains(&Arc::as_ptr(function));
            *bytes -= if kept { 0 } else { FUNCTION_BYTES };
            kept
        });
        let mentioned: HashSet<*const u8, FxBuildHasher> = self
            .functions
            .iter()
            .flat_map(|function| [&function.name, &function.system_name, &function.file])
            .map(|text| text.as_ptr())
            .collect();
        self.texts.retain(|text| {
            let kept = mentioned.contains(&text.as_ptr());
            *bytes -= if kept { 0 } else { text_bytes(text) };
            kept
        });
    }

    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Roughly what a function costs without its texts, with the table's spare room.
const FUNCTION_BYTES: usize = size_of::<Function>() + 16 + 2 * size_of::<Arc<Function>>();

/// Roughly what a text costs, with the table's spare room.
fn text_bytes(text: &str) -> usize {
    text.len() + 16 + 2 * size_of::<Arc<str>>()
}

/// Roughly what an entry costs without its functions, with the table's spare room.
fn entry_bytes(resolved: &Resolved) -> usize {
    2 * (size_of::<CacheKey>() + size_of::<Entry>())
        + size_of::<Resolved>()
        + 16
        + resolved.lines.len() * size_of::<Line>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: u64) -> CacheKey {
        CacheKey { module: 0, address, lines: true }
    }

    /// Keeps `count` answers with a function each, beginning at `first`.
    fn fill(cache: &mut Cache, first: u64, count: u64) {
        for address in first..first + count {
            let function = cache.function(Function::named(&format!("function_{address}"), "/a.rs"));
            let lines = Box::new([Line { function, line: 1 }]);
            cache.insert(key(address), Arc::new(Resolved { lines, offset: 0, inlines: true }));
        }
        cache.shrink();
    }

    #[test]
    fn it_never_holds_more_than_its_limit_between_readings() {
        let mut cache = Cache::new(100_000);
        for reading in 0..50 {
            fill(&mut cache, reading * 100, 100);
            assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
        }
        fill(&mut cache, 1_000_000, 10_000);
        assert!(cache.bytes() <= 100_000);
        cache.set_limit(0);
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let mut cache = Cache::new(100_000);
        fill(&mut cache, 0, 30);
        fill(&mut cache, 30, 70);
        for address in 0..30 {
            assert!(cache.get(key(address)).is_some());
        }
        cache.set_limit(cache.bytes() - 1);
        assert!((0..30).all(|address| cache.get(key(address)).is_some()));
        assert!(cache.get(key(30)).is_none());
    }

    #[test]
    fn a_function_is_held_once() {
        let mut cache = Cache::new(100_000);
        let one = cache.function(Function::named("f", "/a.rs"));
        let bytes = cache.bytes();
        let two = cache.function(Function::named("f", "/a.rs"));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(cache.bytes(), bytes);
        // Another one in the same file.
        let other = cache.function(Function::named("g", "/a.rs"));
        assert!(Arc::ptr_eq(&one.file, &other.file));
    }
}
