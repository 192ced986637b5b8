//! The table of label sets: equal sets are one.
//!
//! A set in force is one pointer, which records carry. It ends when nobody holds it: rows do, and
//! threads that may put it in force again. Their number is bounded by bytes, since an application
//! that labels by request number makes new ones without end. When the table is full, further sets keep
//! their keys and get `[other]` for every value, until others have ended.

#![allow(unsafe_code, reason = "sets end when nobody holds them, which the table's lock sees to")]

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::budget;
use crate::per_process::PerProcess;

/// Pairs kept of one set: more than any server takes for a series.
const MAX_PAIRS: usize = 32;
/// The value in place of those that found no room.
const OTHER: &str = "[other]";
/// Longer keys and values are cut, at a character.
const MAX_LENGTH: usize = 256;
/// Bytes of sets for which there is room however small the budget is: those of `[other]`.
const OTHERS: usize = 64 << 10;

/// A set of labels, sorted by key, keys unique. Lives while it is held.
#[derive(Debug)]
pub(crate) struct Set {
    pairs: Pairs,
    holders: AtomicU64,
}

type Pairs = Box<[(Box<str>, Box<str>)]>;

/// A set that the table has made, which ends here alone; known by its pairs.
struct Kept(NonNull<Set>);

// SAFETY: sets are shared until they end, under the table's lock.
unsafe impl Send for Kept {}

impl Kept {
    const fn set(&self) -> &'static Set {
        // SAFETY: leaked by `Table::intern`; it ends when nobody has it.
        unsafe { self.0.as_ref() }
    }
}

impl Borrow<Pairs> for Kept {
    fn borrow(&self) -> &Pairs {
        &self.set().pairs
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.set().pairs == other.set().pairs
    }
}

impl Eq for Kept {}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.set().pairs.hash(state);
    }
}

#[derive(Default)]
struct Table {
    sets: HashSet<Kept>,
    bytes: usize,
}

/// Sets in force stay as they are in the child of a fork, which begins with an empty table.
static TABLE: PerProcess<Table> = PerProcess::new(Table::default);

impl Set {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Holds the set once more. Somebody holds it, so that it is there.
    pub(crate) fn hold(&self) {
        // Relaxed: it is held, so nobody asks whether it is.
        self.holders.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives up what `hold` or `intern` gave.
    pub(crate) fn release(&self) {
        // Release: pairs with the Acquire in `end_unused`.
        self.holders.fetch_sub(1, Ordering::Release);
    }

    fn bytes(&self) -> usize {
        let strings: usize = self.iter().map(|(key, value)| key.len() + value.len()).sum();
        strings + size_of_val(&*self.pairs) + size_of::<Self>()
    }
}

/// Returns the one set of these pairs, held once more; of two with one key the later counts. Nothing
/// for none.
pub(crate) fn intern<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'static Set> {
    // Before the lock is taken: it runs code of the user's.
    let pairs = sorted(pairs);
    let mut table = TABLE.lock();
    let is_full = table.bytes >= limit();
    let set = table.intern(pairs, limit());
    if is_full {
        budget::ask_for_labels();
    }
    set
}

fn limit() -> usize {
    budget::for_labels().max(OTHERS)
}

/// Returns whether so many sets are held that it will not be long until there are too many.
pub(crate) fn are_many() -> bool {
    bytes() > limit() / 4 * 3
}

/// Returns the set with these keys and `[other]` for every value, held once more.
pub(crate) fn without_values(set: &Set) -> Option<&'static Set> {
    let mut pairs: Vec<_> = set.pairs.to_vec();
    pairs.iter_mut().for_each(|(_, value)| *value = OTHER.into());
    TABLE.lock().intern(pairs, usize::MAX)
}

/// Ends the sets that nobody holds.
///
/// Nobody may have one from a row or a thread that he does not hold: the archive's lock is taken.
pub(crate) fn end_unused() {
    let mut table = TABLE.lock();
    let mut freed = 0;
    let is_unused = |kept: &Kept| {
        // Acquire: pairs with the Release in `release`: nobody reads it any more.
        kept.set().holders.load(Ordering::Acquire) == 0
    };
    // Taken out first: the table compares those that are in it.
    for unused in table.sets.extract_if(is_unused) {
        freed += unused.set().bytes();
        // SAFETY: leaked by `intern`. Nobody holds it, and it is handed out under this lock alone.
        drop(unsafe { Box::from_raw(unused.0.as_ptr()) });
    }
    table.bytes -= freed;
}

/// Returns the bytes that all sets take.
pub(crate) fn bytes() -> usize {
    TABLE.lock().bytes
}

fn sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(Box<str>, Box<str>)> {
    let mut sorted: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (key, value) in pairs.filter(|(key, _)| !key.is_empty()) {
        let (key, value) = (cut(key), cut(value));
        match sorted.binary_search_by(|(known, _)| known.as_ref().cmp(key)) {
            Ok(at) => sorted[at].1 = value.into(),
            Err(at) => sorted.insert(at, (key.into(), value.into())),
        }
    }
    // An empty value cannot be told from none in the format.
    sorted.retain(|(_, value)| !value.is_empty());
    sorted.truncate(MAX_PAIRS);
    sorted
}

impl Table {
    /// Returns a set, making it if its table has less than `limit` bytes.
    fn intern(&mut self, pairs: Vec<(Box<str>, Box<str>)>, limit: usize) -> Option<&'static Set> {
        if pairs.is_empty() {
            return None;
        }
        let mut pairs: Pairs = pairs.into();
        if let Some(known) = self.known(&pairs) {
            return Some(known);
        }
        if self.bytes >= limit {
            pairs.iter_mut().for_each(|(_, value)| *value = OTHER.into());
            if let Some(known) = self.known(&pairs) {
                return Some(known);
            }
            if self.bytes >= limit.saturating_mul(2) {
                // Keys are made up without end as well.
                pairs = Box::new([(OTHER.into(), OTHER.into())]);
                if let Some(known) = self.known(&pairs) {
                    return Some(known);
                }
            }
        }
        let set = Box::new(Set { pairs, holders: AtomicU64::new(1) });
        self.bytes += set.bytes();
        let kept = Kept(NonNull::from(Box::leak(set)));
        let set = kept.set();
        self.sets.insert(kept);
        Some(set)
    }

    fn known(&self, pairs: &Pairs) -> Option<&'static Set> {
        let known = self.sets.get(pairs)?.set();
        known.hold();
        Some(known)
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LENGTH)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 20;

    fn intern(table: &mut Table, pairs: &[(&str, &str)], limit: usize) -> String {
        let set = table.intern(sorted(pairs.iter().copied()), limit);
        set.map_or(String::new(), |set| format!("{:?}", set.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn sets_are_sorted_and_the_last_of_a_key_counts() {
        let mut table = Table::default();
        assert_eq!(
            intern(&mut table, &[("b", "1"), ("a", "2"), ("b", "3")], LIMIT),
            r#"[("a", "2"), ("b", "3")]"#
        );
        assert_eq!(intern(&mut table, &[("b", "1"), ("b", "")], LIMIT), "");
        assert_eq!(intern(&mut table, &[("", "1")], LIMIT), "");
    }

    #[test]
    fn equal_sets_are_one() {
        let mut table = Table::default();
        let first =
            table.intern(sorted([("a", "1"), ("b", "2")].into_iter()), LIMIT).expect("a set");
        let second =
            table.intern(sorted([("b", "2"), ("a", "1")].into_iter()), LIMIT).expect("a set");
        assert!(std::ptr::eq(first, second));
    }

    #[test]
    fn a_full_table_keeps_keys_and_then_not_even_those() {
        let mut table = Table::default();
        intern(&mut table, &[("user", "1")], LIMIT);
        let limit = table.bytes;
        assert_eq!(intern(&mut table, &[("user", "3")], limit), r#"[("user", "[other]")]"#);
        assert_eq!(intern(&mut table, &[("user", "1")], limit), r#"[("user", "1")]"#);
        for key in ["k1", "k2", "k3", "k4", "k5"] {
            intern(&mut table, &[(key, "1")], limit);
        }
        assert_eq!(intern(&mut table, &[("k6", "1")], limit), r#"[("[other]", "[other]")]"#);
        assert!(table.sets.len() <= 5);
    }

    #[test]
    fn sets_end_when_nobody_holds_them() {
        // In the process's own table.
        let pairs = [("sets_end", "1"), ("when", "2")];
        let set = intern_all(pairs);
        set.hold();
        let bytes = bytes();
        set.release();
        end_unused();
        assert_eq!(intern_all(pairs).iter().next(), Some(pairs[0]), "it is held");
        set.release();
        set.release();
        end_unused();
        assert!(super::bytes() < bytes);
    }

    fn intern_all<'a>(pairs: [(&'a str, &'a str); 2]) -> &'static Set {
        super::intern(pairs.into_iter()).expect("a set")
    }

    #[test]
    fn a_set_has_so_many_pairs_at_the_most() {
        let keys: Vec<_> = (0..100).map(|number| format!("k{number:02}")).collect();
        let pairs = keys.iter().map(|key| (key.as_str(), "v"));
        let set = Table::default().intern(sorted(pairs), LIMIT).expect("a set");
        assert_eq!(set.iter().count(), MAX_PAIRS);
        assert_eq!(set.iter().next(), Some(("k00", "v")));
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let mut table = Table::default();
        let long = "é".repeat(200);
        let set = table.intern(sorted([("k", long.as_str())].into_iter()), LIMIT).expect("a set");
        assert_eq!(set.iter().next().expect("a pair").1.len(), 256);
    }
}
