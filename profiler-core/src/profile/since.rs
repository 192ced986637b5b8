//! The difference of two profiles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::handle::index;
use super::location::{Sums as Samples, Tables, finish};
use super::{LabelSet, Profile};

impl Profile {
    /// Returns what has come since `earlier`, with what was moved from row to row meanwhile back in its
    /// place.
    ///
    /// # Panics
    ///
    /// If the two are of different kinds.
    pub(crate) fn difference(&self, earlier: &Self, moved: Option<&Self>) -> Self {
        assert_eq!(self.kind, earlier.kind, "a difference needs two profiles of one kind");
        let mut tables = Tables {
            mappings: self.mappings.clone(),
            locations: self.locations.clone(),
            labels: self.labels.clone(),
        };
        let mut sums = Samples::with_capacity(self.len());
        for sample in &self.samples {
            sums.add(sample.stack.clone(), sample.labels, sample.values);
        }
        let taken = i64::wrapping_neg as fn(i64) -> i64;
        let others = [(Some(earlier), taken), (moved, |value| value)];
        for (other, sign) in others.into_iter().filter_map(|(other, sign)| Some((other?, sign))) {
            let locations = adopt_locations(other, &mut tables);
            let labels = adopt_labels(other, &mut tables.labels);
            for sample in &other.samples {
                let stack = sample.stack.iter().map(|&id| locations[id as usize]).collect();
                sums.add(stack, labels[sample.labels as usize], sample.values.map(sign));
            }
        }
        let duration = self.time.duration_since(earlier.time).unwrap_or(Duration::ZERO);
        // As Go: the rate may have changed.
        let period = self.period.max(earlier.period);
        let mut difference = finish(self.kind, period, self.time, duration, tables, sums);
        difference.memory = self.memory;
        difference.read_at.clone_from(&self.read_at);
        difference.comments.clone_from(&self.comments);
        difference.drop_unused_mappings();
        difference
    }

    /// Drops mappings that nothing points at, but never the first: it names the program.
    fn drop_unused_mappings(&mut self) {
        let mut used = vec![false; self.mappings.len()];
        for location in &self.locations {
            if let Some(id) = location.mapping {
                used[id] = true;
            }
        }
        if let Some(first) = used.first_mut() {
            *first = true;
        }
        let mut kept = 0;
        let new: Vec<usize> = used
            .iter()
            .map(|&used| {
                kept += usize::from(used);
                kept.saturating_sub(1)
            })
            .collect();
        for location in &mut self.locations {
            location.mapping = location.mapping.map(|id| new[id]);
        }
        let mut used = used.into_iter();
        self.mappings.retain(|_| used.next() == Some(true));
    }
}

/// Returns the handle in these tables of each of another profile's locations, adding those that only it has.
fn adopt_locations(other: &Profile, tables: &mut Tables) -> Vec<u32> {
    let known = tables.locations.iter().enumerate();
    let mut known: FxHashMap<u64, u32> =
        known.map(|(id, location)| (location.address, index(id))).collect();
    other
        .locations
        .iter()
        .map(|location| {
            *known.entry(location.address).or_insert_with(|| {
                let mut location = location.clone();
                location.mapping = location
                    .mapping
                    .map(|id| adopt_mapping(&other.mappings[id], &mut tables.mappings));
                tables.locations.push(location);
                index(tables.locations.len() - 1)
            })
        })
        .collect()
}

fn adopt_mapping(mapping: &super::Mapping, mappings: &mut Vec<super::Mapping>) -> usize {
    mappings.iter().position(|known| known == mapping).unwrap_or_else(|| {
        mappings.push(mapping.clone());
        mappings.len() - 1
    })
}

fn adopt_labels(earlier: &Profile, labels: &mut Vec<LabelSet>) -> Vec<u32> {
    let mut known: HashMap<LabelSet, u32> =
        labels.iter().enumerate().map(|(id, set)| (Arc::clone(set), index(id))).collect();
    earlier
        .labels
        .iter()
        .map(|set| {
            *known.entry(Arc::clone(set)).or_insert_with(|| {
                labels.push(Arc::clone(set));
                index(labels.len() - 1)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::encode::testing::{
        MEMORY, NATIVE, START, allocated, decode, labelled, native, profile, reading, sums, text,
    };
    use crate::kind::Kind;
    use crate::merge::{Key, Rows, Sums};
    use crate::profile::Reading;

    const NAMES: &[(u64, &str)] = &[(START + 1, "a"), (START + 2, "b"), (START + 3, "c")];

    /// A profile of rows `(stack, tenant, count, nanoseconds)`, so many seconds after the first.
    fn at(seconds: u64, rows: &[(&[u64], &str, i64, i64)]) -> Profile {
        let mut reading = reading(Kind::Block, NATIVE);
        reading.time += Duration::from_secs(seconds);
        let mut sum = Rows::default();
        for &(stack, tenant, count, nanoseconds) in rows {
            let stack: Vec<u64> = stack.iter().map(|address| START + address).collect();
            let row = sum.entry(labelled(&stack, &[("tenant", tenant)])).or_default();
            row.values[0] += count;
            row.values[1] += nanoseconds;
        }
        profile(reading, &sum, NAMES)
    }

    #[test]
    fn a_difference_is_taken_sample_by_sample() {
        let earlier = at(0, &[(&[1], "x", 1, 100), (&[2], "x", 2, 50), (&[3], "x", 1, 9)]);
        let later = at(
            30,
            &[(&[1], "x", 3, 170), (&[2], "x", 2, 50), (&[1], "y", 1, 5), (&[3, 1], "x", 1, 1)],
        );
        let difference = later.since(&earlier);
        decode(&difference);
        assert_eq!(
            text(&difference),
            [
                "2 70: a tenant=x",
                "1 5: a tenant=y",
                "1 1: c; a tenant=x",
                // Gone since: it stays visible.
                "-1 -9: c tenant=x",
            ]
        );
        assert_eq!(difference.duration(), Duration::from_secs(30));
        assert_eq!(difference.time(), later.time());
    }

    #[test]
    fn nothing_since_itself() {
        let profile = at(0, &[(&[1], "x", 1, 100)]);
        let difference = profile.since(&profile);
        assert!(difference.is_empty());
        let message = decode(&difference);
        assert_eq!(message.sample_type.len(), 2);
        assert_eq!(message.mapping.len(), 1, "the program's mapping stays");
        assert_eq!((message.location.len(), message.function.len()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "of one kind")]
    fn kinds_must_agree() {
        let other = profile(reading(Kind::Mutex, NATIVE), &Rows::from_iter([]), NAMES);
        let _ = at(0, &[]).since(&other);
    }

    #[test]
    fn unused_mappings_go_but_the_first() {
        let mut profile = at(0, &[(&[1], "x", 1, 100)]);
        let mapping = |start| super::super::Mapping {
            start,
            end: start + 0x1000,
            file: "/lib/x.so".into(),
            ..Default::default()
        };
        profile.mappings = vec![mapping(0x1000), mapping(0x2000), mapping(START)];
        profile.locations[0].mapping = Some(2);
        let difference = profile.since(&at(0, &[]));
        let starts: Vec<u64> = difference.mappings.iter().map(|mapping| mapping.start).collect();
        assert_eq!(starts, [0x1000, START]);
        assert_eq!(difference.locations[0].mapping, Some(1));
        decode(&difference);
    }

    /// Rows of a few stacks and tenants.
    fn rows() -> impl Strategy<Value = Vec<(Vec<u64>, usize, i64, i64)>> {
        vec((vec(1_u64..5, 0..4), 0_usize..2, 0_i64..100, 0_i64..100), 0..12)
    }

    fn some(rows: &[(Vec<u64>, usize, i64, i64)]) -> Profile {
        let rows: Vec<_> = rows
            .iter()
            .map(|(stack, tenant, n, ns)| (&**stack, ["x", "y"][*tenant], *n, *ns))
            .collect();
        at(0, &rows)
    }

    proptest! {
        #[test]
        fn what_was_added_is_the_difference(before in rows(), added in rows()) {
            let after: Vec<_> = before.iter().chain(&added).cloned().collect();
            let difference = some(&after).since(&some(&before));
            prop_assert_eq!(text(&difference), text(&some(&added)));
            decode(&difference);
        }

        #[test]
        fn differences_add_up(a in rows(), b in rows(), c in rows()) {
            let (a, b, c) = (some(&a), some(&b), some(&c));
            let total = |profile: &Profile| profile.totals();
            let sum: Vec<i64> =
                total(&b.since(&a)).iter().zip(total(&c.since(&b))).map(|(x, y)| x + y).collect();
            prop_assert_eq!(sum, total(&c.since(&a)));
        }
    }

    #[test]
    fn sums_of_the_test_rows_are_what_they_say() {
        // A positive control: the properties above would hold for profiles that are all empty.
        assert_eq!(at(0, &[(&[1], "x", 1, 2), (&[1], "x", 3, 4)]).totals(), [4, 6]);
        assert_eq!(sums(4, 6).values[..2], [4, 6]);
    }

    #[test]
    fn of_the_heap_what_was_freed_is_negative_and_the_larger_rate_is_the_period() {
        let sized = |address: u64, size| Key { size, ..native(&[START + address]) };
        let at = |period, rows: [(Key, Sums); 2]| {
            let reading = Reading { period, ..reading(Kind::Heap, NATIVE) };
            profile(reading, &Rows::from_iter(rows), NAMES).with_memory(Some(MEMORY))
        };
        let earlier = at(
            512,
            [(sized(1, 64), allocated(5, 320, 5, 320)), (sized(2, 8), allocated(1, 8, 1, 8))],
        );
        let later = at(
            1,
            [(sized(1, 64), allocated(6, 384, 2, 128)), (sized(2, 16), allocated(1, 16, 1, 16))],
        );
        let difference = later.since(&earlier);
        assert_eq!(
            text(&difference),
            ["1 16 1 16: b bytes=16", "-1 -8 -1 -8: b bytes=8", "1 64 -3 -192: a bytes=64",]
        );
        assert_eq!(decode(&difference).period, 512);
        assert_eq!(earlier.since(&later).period(), 512);
        assert_eq!(difference.memory(), Some(&MEMORY));
    }
}
