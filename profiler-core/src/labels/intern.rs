//! The bounded table of label sets.
//!
//! A set in force is one pointer, which records carry; so sets live for ever, and their number must
//! be bounded: an application that labels by request number would grow without end. When the table
//! is full, further sets keep their keys and get `[other]` for every value.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

/// Sets kept: more than any server takes as series from one process.
const MAX_SETS: usize = 4096;
/// The value in place of those that found no room.
const OTHER: &str = "[other]";
/// Longer keys and values are cut, at a character.
const MAX_LENGTH: usize = 256;

/// A set of labels, sorted by key, keys unique. Lives for ever.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Set {
    pairs: Box<[(Box<str>, Box<str>)]>,
}

#[derive(Default)]
struct Table {
    sets: HashSet<&'static Set>,
    bytes: usize,
}

/// The table of one process. The child of a fork begins with another, since a thread that it has not
/// may hold the lock of its parent's for ever.
struct OfProcess {
    forks: u32,
    table: LazyLock<Mutex<Table>>,
    child: OnceLock<&'static Self>,
}

static FIRST: OfProcess = OfProcess::new(0);
/// Forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

impl OfProcess {
    const fn new(forks: u32) -> Self {
        Self { forks, table: LazyLock::new(Mutex::default), child: OnceLock::new() }
    }
}

/// Begins with an empty table, in the child of a fork. Sets in force stay as they are.
///
/// # Signal safety
///
/// One atomic addition.
pub(crate) fn forked() {
    // Relaxed: the child has one thread.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

fn table() -> MutexGuard<'static, Table> {
    // Relaxed: set before this thread existed or by this thread.
    let forks = FORKS.load(Ordering::Relaxed);
    let mut process = &FIRST;
    while process.forks != forks {
        process = process.child.get_or_init(|| Box::leak(Box::new(OfProcess::new(forks))));
    }
    process.table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Set {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// Returns the one set of these pairs; of two with one key the later counts. Nothing for none.
pub(crate) fn intern<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'static Set> {
    table().intern(pairs, MAX_SETS)
}

/// Returns the bytes that all sets take.
pub(crate) fn bytes() -> usize {
    table().bytes
}

impl Table {
    fn intern<'a>(
        &mut self,
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        limit: usize,
    ) -> Option<&'static Set> {
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
        if sorted.is_empty() {
            return None;
        }
        let mut set = Set { pairs: sorted.into() };
        if let Some(known) = self.sets.get(&set) {
            return Some(known);
        }
        if self.sets.len() >= limit {
            set.pairs.iter_mut().for_each(|(_, value)| *value = OTHER.into());
            if let Some(known) = self.sets.get(&set) {
                return Some(known);
            }
            if self.sets.len() >= 2 * limit {
                // Keys are made up without end as well.
                set.pairs = Box::new([(OTHER.into(), OTHER.into())]);
                if let Some(known) = self.sets.get(&set) {
                    return Some(known);
                }
            }
        }
        let strings: usize = set.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.bytes += strings + size_of_val(&*set.pairs) + size_of::<Set>();
        let set: &'static Set = Box::leak(Box::new(set));
        self.sets.insert(set);
        Some(set)
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LENGTH)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(table: &mut Table, pairs: &[(&str, &str)], limit: usize) -> String {
        let set = table.intern(pairs.iter().copied(), limit);
        set.map_or(String::new(), |set| format!("{:?}", set.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn sets_are_sorted_and_the_last_of_a_key_counts() {
        let mut table = Table::default();
        assert_eq!(
            intern(&mut table, &[("b", "1"), ("a", "2"), ("b", "3")], 9),
            r#"[("a", "2"), ("b", "3")]"#
        );
        assert_eq!(intern(&mut table, &[("b", "1"), ("b", "")], 9), "");
        assert_eq!(intern(&mut table, &[("", "1")], 9), "");
    }

    #[test]
    fn equal_sets_are_one() {
        let mut table = Table::default();
        let first = table.intern([("a", "1"), ("b", "2")].into_iter(), 9).expect("a set");
        let second = table.intern([("b", "2"), ("a", "1")].into_iter(), 9).expect("a set");
        assert!(std::ptr::eq(first, second));
    }

    #[test]
    fn a_full_table_keeps_keys_and_then_not_even_those() {
        let mut table = Table::default();
        for value in ["1", "2"] {
            intern(&mut table, &[("user", value)], 2);
        }
        assert_eq!(intern(&mut table, &[("user", "3")], 2), r#"[("user", "[other]")]"#);
        assert_eq!(intern(&mut table, &[("user", "1")], 2), r#"[("user", "1")]"#);
        for key in ["k1", "k2", "k3", "k4", "k5"] {
            intern(&mut table, &[(key, "1")], 2);
        }
        assert_eq!(intern(&mut table, &[("k6", "1")], 2), r#"[("[other]", "[other]")]"#);
        assert!(table.sets.len() <= 5);
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let mut table = Table::default();
        let long = "é".repeat(200);
        let set = table.intern([("k", long.as_str())].into_iter(), 9).expect("a set");
        assert_eq!(set.iter().next().expect("a pair").1.len(), 256);
    }
}
