//! The bounded table of label sets.
//!
//! A set in force is one pointer, which records carry; so sets live for ever, and their number must
//! be bounded: an application that labels by request number would grow without end. When the table
//! is full, further sets keep their keys and get `[other]` for every value.

use std::collections::HashSet;

use crate::per_process::PerProcess;

/// Sets kept: more than any server takes as series from one process.
const MAX_SETS: usize = 4096;
/// Pairs kept of one set: more than any server takes for a series.
const MAX_PAIRS: usize = 32;
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

/// Sets in force stay as they are in the child of a fork, which begins with an empty table.
static TABLE: PerProcess<Table> = PerProcess::new(Table::default);

impl Set {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// Returns the one set of these pairs; of two with one key the later counts. Nothing for none.
pub(crate) fn intern<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Option<&'static Set> {
    TABLE.lock().intern(pairs, MAX_SETS)
}

/// Returns the bytes that all sets take.
pub(crate) fn bytes() -> usize {
    TABLE.lock().bytes
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
        sorted.truncate(MAX_PAIRS);
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
    fn a_set_has_so_many_pairs_at_the_most() {
        let keys: Vec<_> = (0..100).map(|number| format!("k{number:02}")).collect();
        let pairs = keys.iter().map(|key| (key.as_str(), "v"));
        let set = Table::default().intern(pairs, 9).expect("a set");
        assert_eq!(set.iter().count(), MAX_PAIRS);
        assert_eq!(set.iter().next(), Some(("k00", "v")));
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let mut table = Table::default();
        let long = "é".repeat(200);
        let set = table.intern([("k", long.as_str())].into_iter(), 9).expect("a set");
        assert_eq!(set.iter().next().expect("a pair").1.len(), 256);
    }
}
