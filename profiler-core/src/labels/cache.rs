//! The label sets that a thread has used: found again without a lock and without memory.

#![allow(unsafe_code, reason = "entries that the owning thread alone touches")]

use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};

use super::intern::{Set, intern};

/// Sets kept of a thread; a power of two.
const ENTRIES: usize = 32;
/// Places that a set may stand in.
const REACH: usize = 4;

/// The cache of one thread; the owner's alone.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: Cell<Option<NonNull<[Entry; ENTRIES]>>>,
    /// Set while an entry is written: what that calls may come back here.
    busy: Cell<bool>,
}

#[derive(Debug, Default)]
struct Entry {
    /// The set in force before, held: another one may not get its address.
    before: Cell<Option<&'static Set>>,
    /// The pairs as they were given, one behind the other with their lengths.
    given: UnsafeCell<Box<[u8]>>,
    /// The set of all, held.
    set: Cell<Option<&'static Set>>,
    hash: Cell<u64>,
    /// How often it is in force.
    uses: Cell<u32>,
}

/// A set in force, until it is given back to the thread's cache.
#[derive(Debug)]
#[must_use = "the set stays in force"]
pub(crate) struct InForce {
    set: Option<&'static Set>,
    /// The entry that has it; nothing if it is held for this use alone.
    entry: Option<NonNull<Entry>>,
}

impl InForce {
    pub(crate) const fn set(&self) -> Option<&'static Set> {
        self.set
    }
}

impl Drop for InForce {
    fn drop(&mut self) {
        match self.entry {
            Some(entry) => {
                // SAFETY: entries are never freed; the thread that owns the cache has this.
                let uses = unsafe { &entry.as_ref().uses };
                uses.set(uses.get() - 1);
            }
            None => self.set.into_iter().for_each(Set::release),
        }
    }
}

impl Cache {
    pub(crate) const fn new() -> Self {
        Self { entries: Cell::new(None), busy: Cell::new(false) }
    }

    /// Returns the bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.get().map_or(0, |_| size_of::<[Entry; ENTRIES]>())
    }

    /// Forgets what was in force on a thread that is gone.
    pub(crate) fn reset(&self) {
        self.busy.set(false);
        // SAFETY: the owner's alone.
        let entries = self.entries.get().map(|entries| unsafe { entries.as_ref() });
        entries.into_iter().flatten().for_each(|entry| entry.uses.set(0));
    }

    /// Gives up all sets. Nobody owns the block but the caller; its thread is gone.
    pub(crate) fn end(&self) {
        // An entry that the thread was writing, at a fork, stays as it is.
        if self.busy.get() {
            return;
        }
        // SAFETY: the caller's alone.
        let entries = self.entries.get().map(|entries| unsafe { entries.as_ref() });
        for entry in entries.into_iter().flatten() {
            entry.uses.set(0);
            entry.set.take().into_iter().chain(entry.before.take()).for_each(Set::release);
            // SAFETY: as above.
            drop(std::mem::take(unsafe { &mut *entry.given.get() }));
        }
    }

    /// Returns the set of what is in force already and these pairs. Owner only.
    #[inline]
    pub(crate) fn get<'a>(
        &self,
        before: Option<&'static Set>,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> InForce {
        let hash = hash(before.map_or(0, |set| ptr::from_ref(set).addr()), pairs.clone());
        if let Some(entry) = self.find(before, hash, pairs.clone()) {
            entry.uses.set(entry.uses.get() + 1);
            return InForce { set: entry.set.get(), entry: Some(NonNull::from(entry)) };
        }
        self.make(before, hash, pairs)
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = &Entry> {
        // SAFETY: never freed; cells, of the owner alone.
        let entries = self.entries.get().map(|entries| unsafe { entries.as_ref() });
        entries.into_iter().flat_map(move |entries| {
            (0..REACH).map(move |step| &entries[(hash as usize + step) % ENTRIES])
        })
    }

    #[inline]
    fn find<'a>(
        &self,
        before: Option<&'static Set>,
        hash: u64,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Option<&Entry> {
        let before = before.map(ptr::from_ref);
        self.places(hash).find(|entry| {
            entry.set.get().is_some()
                && entry.hash.get() == hash
                && entry.before.get().map(ptr::from_ref) == before
                // SAFETY: the owner's alone, and not being written: who writes has taken the set out.
                && is_given(unsafe { &*entry.given.get() }, pairs.clone())
        })
    }

    #[cold]
    #[inline(never)]
    fn make<'a>(
        &self,
        before: Option<&'static Set>,
        hash: u64,
        pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> InForce {
        let inherited = before.into_iter().flat_map(Set::iter);
        let set = intern(inherited.chain(pairs.clone()));
        let alone = InForce { set, entry: None };
        if set.is_none() {
            return alone;
        }
        // Before it is busy: it runs code of the user's, which may panic.
        let given = given(pairs);
        if self.busy.replace(true) {
            return alone;
        }
        if self.entries.get().is_none() {
            self.entries.set(Some(NonNull::from(Box::leak(Box::default()))));
        }
        let free = self.places(hash).filter(|entry| entry.uses.get() == 0);
        let entry = free.min_by_key(|entry| entry.set.get().is_some());
        let cached = entry.map(|entry| {
            // Taken out first: from here on nobody finds it.
            let old = entry.set.take();
            entry.uses.set(1);
            // SAFETY: nobody reads it: a reader looks at the set first.
            let old_given = std::mem::replace(unsafe { &mut *entry.given.get() }, given);
            before.into_iter().for_each(Set::hold);
            let old_before = entry.before.replace(before);
            entry.hash.set(hash);
            entry.set.set(set);
            old.into_iter().chain(old_before).for_each(Set::release);
            drop(old_given);
            NonNull::from(entry)
        });
        self.busy.set(false);
        if cached.is_some() {
            // Its hold is the entry's now.
            std::mem::forget(alone);
            return InForce { set, entry: cached };
        }
        alone
    }
}

#[inline]
fn hash<'a>(before: usize, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = before as u64;
    let mut mix = |word: u64| hash = (hash.rotate_left(23) ^ word).wrapping_mul(K);
    for text in pairs.flat_map(|(key, value)| [key, value]) {
        // The ends and the length: the whole text is compared where these agree.
        let bytes = text.as_bytes();
        let ends = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>());
        if let (Some(first), Some(last)) = ends {
            mix(u64::from_ne_bytes(*first));
            mix(u64::from_ne_bytes(*last));
        } else {
            mix(bytes.iter().fold(1, |word, &byte| word << 8 | u64::from(byte)));
        }
        mix(bytes.len() as u64);
    }
    hash ^ hash >> 32
}

fn given<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Box<[u8]> {
    let mut given = Vec::new();
    for text in pairs.flat_map(|(key, value)| [key, value]) {
        given.extend(text.len().to_ne_bytes());
        given.extend(text.as_bytes());
    }
    given.into()
}

/// Whether these are the pairs, which `given` has put together.
#[inline]
fn is_given<'a>(mut given: &[u8], pairs: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
    for text in pairs.flat_map(|(key, value)| [key, value]) {
        let Some((length, rest)) = given.split_first_chunk() else { return false };
        if usize::from_ne_bytes(*length) != text.len() {
            return false;
        }
        let Some(rest) = rest.strip_prefix(text.as_bytes()) else { return false };
        given = rest;
    }
    given.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(cache: &Cache, before: Option<&'static Set>, pairs: &[(&str, &str)]) -> InForce {
        cache.get(before, pairs.iter().copied())
    }

    fn text(set: Option<&Set>) -> String {
        set.map_or(String::new(), |set| format!("{:?}", set.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn what_was_used_is_found_again() {
        let cache = Cache::new();
        let first = get(&cache, None, &[("a", "1")]);
        let second = get(&cache, first.set(), &[("a", "2"), ("b", "3")]);
        assert_eq!(text(second.set()), r#"[("a", "2"), ("b", "3")]"#);
        let again = get(&cache, None, &[("a", "1")]);
        assert!(ptr::eq(again.set().expect("a set"), first.set().expect("a set")));
        assert_eq!(again.entry, first.entry);
        assert_eq!(text(get(&cache, None, &[]).set()), "");
    }

    #[test]
    fn what_is_in_force_is_not_replaced() {
        let cache = Cache::new();
        let values: Vec<_> = (0..1000).map(|value| format!("in force {value}")).collect();
        let all: Vec<_> = values.iter().map(|v| get(&cache, None, &[("v", v.as_str())])).collect();
        for (value, set) in values.iter().zip(&all) {
            assert_eq!(text(set.set()), format!("{:?}", [("v", value)]));
        }
        assert!(all.iter().filter(|set| set.entry.is_some()).count() <= ENTRIES);
    }

    #[test]
    fn texts_that_run_into_each_other_differ() {
        let cache = Cache::new();
        for pairs in [[("a", "bc")], [("ab", "c")], [("a", "b")]] {
            assert_eq!(text(get(&cache, None, &pairs).set()), format!("{pairs:?}"));
            assert_eq!(text(get(&cache, None, &pairs).set()), format!("{pairs:?}"));
        }
    }
}
