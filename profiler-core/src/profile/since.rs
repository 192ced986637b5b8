//! The difference of two profiles.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::location::{Sums, Tables, finish, index};
use super::{LabelSet, Profile};

impl Profile {
    /// Returns what has come since `earlier`: the difference, sample by sample.
    ///
    /// Both must come from this process: stacks are told by their addresses. Samples with no
    /// difference are left out; negative values stay.
    ///
    /// # Panics
    ///
    /// If the two are of different kinds.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        assert_eq!(self.kind, earlier.kind, "a difference needs two profiles of one kind");
        let mut tables = Tables {
            mappings: self.mappings.clone(),
            locations: self.locations.clone(),
            labels: self.labels.clone(),
        };
        let locations = self.adopt_locations(earlier, &mut tables);
        let labels = adopt_labels(earlier, &mut tables.labels);

        let mut sums = Sums::with_capacity(self.len());
        for sample in &self.samples {
            sums.add(sample.stack.clone(), sample.labels, sample.values);
        }
        for sample in &earlier.samples {
            let stack = sample.stack.iter().map(|&id| locations[id as usize]).collect();
            let values = sample.values.map(i64::wrapping_neg);
            sums.add(stack, labels[sample.labels as usize], values);
        }
        let duration = self.time.duration_since(earlier.time).unwrap_or(Duration::ZERO);
        let mut difference = finish(self.kind, self.time, duration, tables, sums);
        difference.drop_unused_mappings();
        difference
    }

    /// Returns the handle here of each of the earlier profile's locations, adding those that only
    /// it has.
    fn adopt_locations(&self, earlier: &Self, tables: &mut Tables) -> Vec<u32> {
        let mut known: FxHashMap<u64, u32> = self
            .locations
            .iter()
            .enumerate()
            .map(|(id, location)| (location.address, index(id)))
            .collect();
        earlier
            .locations
            .iter()
            .map(|location| {
                *known.entry(location.address).or_insert_with(|| {
                    let mut location = location.clone();
                    location.mapping = location
                        .mapping
                        .map(|id| adopt_mapping(&earlier.mappings[id], &mut tables.mappings));
                    tables.locations.push(location);
                    index(tables.locations.len() - 1)
                })
            })
            .collect()
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
