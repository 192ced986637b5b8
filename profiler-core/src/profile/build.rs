//! From merged rows to a profile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::function::{Function, Line, Resolved};
use super::labels::{text_labels, with_wait};
use super::location::{Location, Sums as Samples, Tables, finish, index};
use super::symbolize::Resolver;
use super::{LabelSet, Profile, trim};
use crate::callsite::CallSite;
use crate::config::{StackView, View};
use crate::kind::Kind;
use crate::merge::{Key, Rows, Stack, Sums, VALUES, WAIT_BUCKETS};

/// What is read, and how it shall look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) kind: Kind,
    pub(crate) view: View,
    /// How many frames of a stack are kept; the root side is cut.
    pub(crate) depth: usize,
    /// When the rows were read.
    pub(crate) time: SystemTime,
}

/// Stands for the stack where no span was open.
const NO_SPAN: &str = "[no span]";

/// Makes a profile of rows: names their addresses, trims and cuts their stacks, forms their labels
/// and sums what has become equal.
pub(crate) fn build(reading: Reading, rows: &Rows, resolver: &Mutex<Resolver>) -> Profile {
    let rows: Vec<(&Key, &Sums)> = rows.iter().collect();
    let column = reading.kind.values().len().saturating_sub(1);
    let (sets, set_of_row) = text_labels(&rows, reading.view.labels, column);
    let mut labels = Labels { sets, waits: FxHashMap::default() };
    let mut stacks = Stacks::new(reading, &rows, resolver);

    let mut samples = Samples::with_capacity(rows.len());
    for (row, ((key, sums), set)) in rows.iter().zip(set_of_row).enumerate() {
        let stack = stacks.take(row, key);
        match &sums.waits {
            Some(waits) if reading.view.labels.wait => {
                let mut rest = sums.values;
                for (bucket, &(count, nanoseconds)) in waits.iter().enumerate() {
                    if (count, nanoseconds) != (0, 0) {
                        rest[0] = rest[0].wrapping_sub(count);
                        rest[1] = rest[1].wrapping_sub(nanoseconds);
                        let mut values = [0; VALUES];
                        [values[0], values[1]] = [count, nanoseconds];
                        samples.add(stack.clone(), labels.with_wait(set, bucket), values);
                    }
                }
                // What no bucket tells of, so that the total is the same with and without the label.
                samples.add(stack, set, rest);
            }
            _ => samples.add(stack, set, sums.values),
        }
    }
    let tables =
        Tables { mappings: stacks.mappings, locations: stacks.locations, labels: labels.sets };
    finish(reading.kind, reading.time, Duration::ZERO, tables, samples)
}

/// Label sets, with the bucket of a wait added where it is asked for.
struct Labels {
    sets: Vec<LabelSet>,
    waits: FxHashMap<(u32, usize), u32>,
}

impl Labels {
    fn with_wait(&mut self, set: u32, bucket: usize) -> u32 {
        debug_assert!(bucket < WAIT_BUCKETS, "a bucket of Waits");
        *self.waits.entry((set, bucket)).or_insert_with(|| {
            let labels = with_wait(&self.sets[set as usize], bucket);
            self.sets.push(labels);
            index(self.sets.len() - 1)
        })
    }
}

/// The stacks of all rows, as handles of locations.
struct Stacks {
    reading: Reading,
    mappings: Vec<super::Mapping>,
    locations: Vec<Location>,
    /// The untrimmed native stacks, one behind the other, and where each row's ends.
    native: Vec<u32>,
    ends: Vec<usize>,
    roots: Vec<bool>,
    pseudo: Pseudo,
}

impl Stacks {
    fn new(reading: Reading, rows: &[(&Key, &Sums)], resolver: &Mutex<Resolver>) -> Self {
        let mut addresses = Vec::new();
        let mut ids: FxHashMap<u64, u32> = FxHashMap::default();
        let mut native = Vec::new();
        let mut ends = Vec::with_capacity(rows.len());
        for (key, _) in rows {
            if let Stack::Native(stack) = &key.stack
                && reading.view.stack == StackView::Native
            {
                native.extend(stack.iter().filter(|&&address| address != 0).map(|&address| {
                    *ids.entry(address).or_insert_with(|| {
                        addresses.push(address);
                        index(addresses.len() - 1)
                    })
                }));
            }
            ends.push(native.len());
        }

        let mut resolver = resolver.lock().unwrap_or_else(PoisonError::into_inner);
        let mappings = resolver.mappings();
        let found = resolver.resolve(&mappings, &addresses, reading.view.symbols);
        drop(resolver);

        let locations: Vec<Location> = addresses
            .into_iter()
            .zip(found)
            .map(|(address, found)| Location {
                address,
                mapping: found.mapping,
                resolved: found.resolved,
                hidden: 0,
            })
            .collect();
        let roots = locations.iter().map(trim::is_root).collect();
        let mappings = mappings.list().to_vec();
        let pseudo = Pseudo::new(rows);
        let mut stacks = Self { reading, mappings, locations, native, ends, roots, pseudo };
        stacks.hide_own_lines();
        stacks
    }

    /// Hides the profiler's lines of those locations that are partly its own.
    ///
    /// Before any stack is taken, since a location looks the same wherever it stands.
    fn hide_own_lines(&mut self) {
        for row in 0..self.ends.len() {
            let cut = self.cut(row);
            if cut.lines > 0 {
                let id = self.native_stack(row)[cut.locations];
                let location = &mut self.locations[id as usize];
                location.hidden = location.hidden.max(cut.lines);
            }
        }
    }

    fn cut(&self, row: usize) -> trim::Cut {
        if !starts_in_the_profiler(self.reading.kind) {
            return trim::Cut::default();
        }
        // All lines, hidden or not: the result must not depend on the order of rows.
        let lines = |&id: &u32| &*self.locations[id as usize].resolved.lines;
        trim::cut(self.native_stack(row).iter().map(lines))
    }

    fn native_stack(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.native[start..self.ends[row]]
    }

    /// Returns the stack to show for a row.
    fn take(&mut self, row: usize, key: &Key) -> Box<[u32]> {
        let native = self.native_stack(row);
        if !native.is_empty() {
            let stack = &native[self.cut(row).locations..];
            let root = stack.iter().rposition(|&id| !self.roots[id as usize]);
            // A stack of nothing but roots stays as it is.
            let stack = root.map_or(stack, |root| &stack[..=root]);
            return stack[..stack.len().min(self.reading.depth)].into();
        }
        let locations = &mut self.locations;
        match &key.stack {
            Stack::Marker(name) => [self.pseudo.marker(name, locations)].into(),
            Stack::Native(_) if key.path.is_empty() => {
                [self.pseudo.marker(NO_SPAN, locations)].into()
            }
            // Also where there is no machine stack, for want of a way to walk it.
            Stack::Native(_) => key
                .path
                .iter()
                .take(self.reading.depth)
                .map(|site| self.pseudo.site(site, locations))
                .collect(),
        }
    }
}

/// Returns whether the leaf of a machine stack lies in our own code, because it was captured there.
const fn starts_in_the_profiler(kind: Kind) -> bool {
    match kind {
        Kind::Block | Kind::Mutex | Kind::Goroutine | Kind::Threadcreate | Kind::Custom(_) => true,
        Kind::Spans => false,
    }
}

/// Locations that are no instructions: call sites, and names in brackets.
///
/// They belong to no mapping. A call site has the address of its own static; a name gets one in
/// the first 64 KiB, where no system maps anything, by its text, so that it is the same in every
/// profile.
struct Pseudo {
    sites: FxHashMap<u64, u32>,
    markers: FxHashMap<&'static str, (u64, Option<u32>)>,
}

impl Pseudo {
    fn new(rows: &[(&Key, &Sums)]) -> Self {
        // Sorted, so that two names that want one address always share it out in the same way.
        let names: BTreeSet<&'static str> = rows
            .iter()
            .filter_map(|(key, _)| match key.stack {
                Stack::Marker(name) => Some(name),
                Stack::Native(_) => None,
            })
            .chain([NO_SPAN])
            .collect();
        let mut taken = BTreeSet::new();
        let mut markers = FxHashMap::default();
        for name in names {
            let mut address = marker_address(name);
            while !taken.insert(address) {
                address += 1;
            }
            markers.insert(name, (address, None));
        }
        Self { sites: FxHashMap::default(), markers }
    }

    fn site(&mut self, site: &'static CallSite, locations: &mut Vec<Location>) -> u32 {
        let address = site.address();
        *self.sites.entry(address).or_insert_with(|| {
            let function = Function::named(site.name(), site.file());
            push(locations, address, function, site.line())
        })
    }

    fn marker(&mut self, name: &'static str, locations: &mut Vec<Location>) -> u32 {
        let (address, id) =
            self.markers.entry(name).or_insert_with(|| (marker_address(name), None));
        *id.get_or_insert_with(|| push(locations, *address, Function::named(name, ""), 0))
    }
}

fn marker_address(name: &str) -> u64 {
    // FNV-1a: the same in every build and run, unlike the hashers of tables.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    0x1000 + hash % 0xe000
}

fn push(locations: &mut Vec<Location>, address: u64, function: Function, line: u32) -> u32 {
    let lines = Box::new([Line { function: Arc::new(function), line }]);
    let resolved = Arc::new(Resolved { lines, offset: 0, inlines: true });
    locations.push(Location { address, mapping: None, resolved, hidden: 0 });
    index(locations.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::{native, profile, reading, sums};

    fn addresses_here() -> Vec<u64> {
        vec![addresses_here as *const () as u64 + 1, trim::is_root as *const () as u64 + 1]
    }

    #[test]
    fn addresses_of_this_program_get_names_files_and_lines() {
        let rows = Rows::from([(native(&addresses_here()), sums(1, 100))]);
        let profile = profile(reading(Kind::Block, View::default()), rows);
        let frames: Vec<_> = profile.samples().next().unwrap().frames().collect();
        eprintln!("{frames:#?}");
        assert!(frames[0].function.unwrap().ends_with("tests::addresses_here"));
        assert!(frames[0].file.ends_with("profile/build.rs") && frames[0].file.starts_with('/'));
        assert!(frames[0].line > 0);
    }
}
