//! Locations, samples and the order in which a profile keeps them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::Profile;
use super::function::{Line, Resolved};
use super::handle::index;
use super::labels::LabelSet;
use super::mapping::Mapping;
use crate::kind::Kind;
use crate::merge::VALUES;

/// An address that stands in a stack.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    /// Never 0, and no other location of the profile has it: servers tell stacks by addresses.
    pub(crate) address: u64,
    /// The index of the mapping that holds it, if one does.
    pub(crate) mapping: Option<usize>,
    pub(crate) resolved: Arc<Resolved>,
    /// How many of the innermost lines belong to the profiler and are not shown.
    pub(crate) hidden: usize,
}

impl Location {
    /// Returns what is shown, innermost first.
    pub(crate) fn lines(&self) -> &[Line] {
        self.resolved.lines.get(self.hidden..).unwrap_or_default()
    }
}

/// One stack with its labels and its sums.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Indices of locations, leaf first.
    pub(crate) stack: Box<[u32]>,
    /// Index of a label set.
    pub(crate) labels: u32,
    pub(crate) values: [i64; VALUES],
}

/// Sums by stack and labels, on the way to a profile.
///
/// Two records of one call path are one sample, whatever was trimmed from their stacks.
#[derive(Debug, Default)]
pub(crate) struct Sums(FxHashMap<(Box<[u32]>, u32), [i64; VALUES]>);

impl Sums {
    pub(crate) fn with_capacity(samples: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(samples, rustc_hash::FxBuildHasher))
    }

    pub(crate) fn add(&mut self, stack: Box<[u32]>, labels: u32, values: [i64; VALUES]) {
        let sums = self.0.entry((stack, labels)).or_default();
        for (sum, value) in sums.iter_mut().zip(values) {
            // Wrapping keeps addition and subtraction exact opposites.
            *sum = sum.wrapping_add(value);
        }
    }
}

/// The tables that samples point into.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) locations: Vec<Location>,
    pub(crate) labels: Vec<LabelSet>,
}

/// Puts everything in its final order: samples by value, tables by first use, unused entries gone.
pub(crate) fn finish(
    kind: Kind,
    period: i64,
    time: SystemTime,
    duration: Duration,
    tables: Tables,
    sums: Sums,
) -> Profile {
    let Tables { mappings, locations, labels } = tables;
    let column = kind.default_column();
    let mut samples: Vec<Sample> = sums
        .0
        .into_iter()
        .filter(|(_, values)| values.iter().any(|&value| value != 0))
        .map(|((stack, labels), values)| Sample { stack, labels, values })
        .collect();
    let address = |&id: &u32| locations[id as usize].address;
    samples.sort_unstable_by(|a, b| {
        b.values[column]
            .cmp(&a.values[column])
            .then_with(|| b.values.cmp(&a.values))
            .then_with(|| a.stack.iter().map(address).cmp(b.stack.iter().map(address)))
            .then_with(|| labels[a.labels as usize].cmp(&labels[b.labels as usize]))
    });

    let mut location_order = Order::new(locations.len());
    let mut label_order = Order::new(labels.len());
    for sample in &mut samples {
        for id in &mut sample.stack {
            *id = location_order.place(*id);
        }
        sample.labels = label_order.place(sample.labels);
    }
    Profile {
        kind,
        period,
        time,
        duration,
        comments: Vec::new(),
        memory: None,
        read_at: None,
        mappings,
        locations: location_order.pick(&locations),
        labels: label_order.pick(&labels),
        samples,
    }
}

/// The order of first use.
struct Order {
    new: Vec<Option<u32>>,
    old: Vec<u32>,
}

impl Order {
    fn new(length: usize) -> Self {
        Self { new: vec![None; length], old: Vec::with_capacity(length) }
    }

    fn place(&mut self, id: u32) -> u32 {
        *self.new[id as usize].get_or_insert_with(|| {
            self.old.push(id);
            index(self.old.len() - 1)
        })
    }

    fn pick<T: Clone>(&self, table: &[T]) -> Vec<T> {
        self.old.iter().map(|&id| table[id as usize].clone()).collect()
    }
}
