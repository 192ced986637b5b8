//! From merged rows to a profile.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustc_hash::FxHashMap;

use super::labels::{text_labels, with_number};
use super::location::{Location, Sums as Samples, Tables, finish, index};
use super::pseudo::Pseudo;
use super::symbolize::{Found, Resolver};
use super::{LabelSet, Mapping, Profile, trim};
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
    /// How many of what the kind's period counts make one.
    pub(crate) period: i64,
    /// When the rows were read.
    pub(crate) time: SystemTime,
}

/// Stands for the stack where no span was open.
const NO_SPAN: &str = "[no span]";

/// Makes a profile of rows: names their addresses, trims and cuts their stacks, forms their labels
/// and sums what has become equal.
pub(crate) fn build(reading: Reading, rows: &Rows, resolver: &Mutex<Resolver>) -> Profile {
    build_with(reading, rows, |addresses| {
        let mut resolver = resolver.lock().unwrap_or_else(PoisonError::into_inner);
        let mappings = resolver.mappings();
        let found = resolver.resolve(&mappings, addresses, reading.view.symbols);
        (mappings.list().to_vec(), found)
    })
}

/// The same, with mappings and names from `resolve`: one answer for each address.
pub(crate) fn build_with(
    reading: Reading,
    rows: &Rows,
    resolve: impl FnOnce(&[u64]) -> (Vec<Mapping>, Vec<Found>),
) -> Profile {
    let rows: Vec<(&Key, &Sums)> = rows.iter().collect();
    let column = reading.kind.default_column();
    let (sets, set_of_row) = text_labels(&rows, reading.view.labels, column);
    let mut labels = Labels { sets, numbered: FxHashMap::default() };
    let mut stacks = Stacks::new(reading, &rows, resolve);

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
            _ => samples.add(stack, labels.with_size(set, key.size), sums.values),
        }
    }
    let tables =
        Tables { mappings: stacks.mappings, locations: stacks.locations, labels: labels.sets };
    finish(reading.kind, reading.period, reading.time, Duration::ZERO, tables, samples)
}

/// Label sets, with a number added: the bucket of a wait where it is asked for, or a size.
struct Labels {
    sets: Vec<LabelSet>,
    numbered: FxHashMap<(u32, i64), u32>,
}

impl Labels {
    fn with_wait(&mut self, set: u32, bucket: usize) -> u32 {
        debug_assert!(bucket < WAIT_BUCKETS, "a bucket of Waits");
        // The shortest wait of the bucket.
        self.with_number(set, "wait", 1 << (2 * bucket), "nanoseconds")
    }

    /// Adds the size class of an allocation, without a unit, as Go does; none for 0.
    fn with_size(&mut self, set: u32, size: u64) -> u32 {
        match i64::try_from(size) {
            Ok(0) | Err(_) => set,
            Ok(size) => self.with_number(set, "bytes", size, ""),
        }
    }

    /// A profile has numbers of one key only.
    fn with_number(&mut self, set: u32, key: &str, number: i64, unit: &'static str) -> u32 {
        *self.numbered.entry((set, number)).or_insert_with(|| {
            let labels = with_number(&self.sets[set as usize], key, number, unit);
            self.sets.push(labels);
            index(self.sets.len() - 1)
        })
    }
}

/// The stacks of all rows, as handles of locations.
struct Stacks {
    reading: Reading,
    mappings: Vec<Mapping>,
    locations: Vec<Location>,
    /// The untrimmed native stacks, one behind the other, and where each row's ends.
    native: Vec<u32>,
    ends: Vec<usize>,
    roots: Vec<trim::Root>,
    pseudo: Pseudo,
}

impl Stacks {
    fn new(
        reading: Reading,
        rows: &[(&Key, &Sums)],
        resolve: impl FnOnce(&[u64]) -> (Vec<Mapping>, Vec<Found>),
    ) -> Self {
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

        let (mappings, found) = resolve(&addresses);
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
        let roots = locations.iter().map(trim::Root::of).collect();
        let markers = rows.iter().filter_map(|(key, _)| match key.stack {
            Stack::Marker(name) => Some(name),
            Stack::Native(_) => None,
        });
        let pseudo = Pseudo::new(markers.chain([NO_SPAN]));
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
        // All lines, hidden or not: the result must not depend on the order of rows.
        let lines = |&id: &u32| &*self.locations[id as usize].resolved.lines;
        let stack = self.native_stack(row).iter().map(lines);
        match capture_of(self.reading.kind) {
            Capture::Call => trim::cut(stack),
            Capture::Allocation => trim::cut_allocation(stack),
            Capture::None => trim::Cut::default(),
        }
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
            let length = trim::without_root(stack.iter().map(|&id| self.roots[id as usize]));
            return stack[..length.min(self.reading.depth)].into();
        }
        let locations = &mut self.locations;
        let logical = self.reading.view.stack == StackView::Logical;
        match &key.stack {
            // A thread that runs is on a path, though its machine stack is not known.
            Stack::Marker(name) if !logical || key.path.is_empty() => {
                [self.pseudo.marker(name, locations)].into()
            }
            Stack::Native(_) if key.path.is_empty() => {
                [self.pseudo.marker(NO_SPAN, locations)].into()
            }
            // Also where there is no machine stack, for want of a way to walk it.
            _ => key
                .path
                .iter()
                .take(self.reading.depth)
                .map(|site| self.pseudo.site(site, locations))
                .collect(),
        }
    }
}

/// Whether the leaf of a machine stack lies in our own code, because it was captured there.
enum Capture {
    None,
    /// Below a call of a lock or of another of our functions.
    Call,
    /// Below an allocation.
    Allocation,
}

const fn capture_of(kind: Kind) -> Capture {
    match kind {
        Kind::Block | Kind::Mutex | Kind::Goroutine | Kind::Threadcreate | Kind::Custom(_) => {
            Capture::Call
        }
        Kind::Allocs | Kind::Heap => Capture::Allocation,
        Kind::Profile | Kind::Spans => Capture::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::{CallSite, Name};
    use crate::config::LabelView;
    use crate::encode::testing::{
        NATIVE, START, key, labelled, native, profile, reading, sums, text,
    };

    const NAMES: &[(u64, &str)] = &[
        (START + 1, "profiler_core::capture::record"),
        (START + 2, "lock_api::mutex::Mutex<R,T>::lock | shop::checkout"),
        (START + 3, "shop::order"),
        (START + 4, "main"),
        (START + 5, "__libc_start_call_main"),
        (START + 6, "__libc_start_main_impl"),
        (START + 7, "_start"),
        (START + 8, "lock_api::mutex::Mutex<R,T>::lock"),
        (START + 9, "core::mem::drop"),
    ];

    static CHECKOUT: CallSite = CallSite::new(Name::Literal("shop::checkout"), "src/shop.rs", 7);
    static SERVE: CallSite = CallSite::new(Name::Literal("shop::serve"), "src/shop.rs", 3);

    /// Addresses of the table of names.
    fn at<const N: usize>(numbers: [u64; N]) -> [u64; N] {
        numbers.map(|number| START + number)
    }

    fn check(
        kind: Kind,
        view: View,
        rows: impl IntoIterator<Item = (Key, Sums)>,
        expected: &[&str],
    ) {
        assert_eq!(
            text(&profile(reading(kind, view), &rows.into_iter().collect(), NAMES)),
            expected
        );
    }

    #[test]
    fn the_profilers_frames_and_the_systems_are_trimmed() {
        check(
            Kind::Mutex,
            NATIVE,
            [(native(&at([1, 2, 3, 4, 5, 6, 7])), sums(1, 100))],
            &["1 100: shop::checkout; shop::order; main"],
        );
    }

    #[test]
    fn paths_that_become_equal_are_one_sample() {
        check(
            Kind::Block,
            NATIVE,
            [
                (native(&at([1, 3, 4])), sums(1, 100)),
                (native(&at([8, 3, 4])), sums(2, 50)),
                (native(&at([1, 9, 8, 3, 4, 7])), sums(4, 25)),
                (native(&at([3])), sums(1, 1)),
            ],
            &["7 175: shop::order; main", "1 1: shop::order"],
        );
    }

    #[test]
    fn samples_stand_in_the_order_of_the_last_value() {
        check(
            Kind::Block,
            NATIVE,
            [
                (native(&at([3])), sums(9, 10)),
                (native(&at([4])), sums(1, 1000)),
                (native(&at([3, 4])), sums(2, 10)),
                (native(&at([4, 3])), sums(0, 0)),
            ],
            &["1 1000: main", "9 10: shop::order", "2 10: shop::order; main"],
        );
    }

    #[test]
    fn unnamed_frames_and_empty_stacks_stay() {
        check(
            Kind::Mutex,
            NATIVE,
            [(native(&[START + 99, START + 3, 0, 0x77]), sums(1, 100)), (native(&[]), sums(1, 50))],
            &["1 100: 0x100063; shop::order; 0x77", "1 50: [no span]"],
        );
    }

    #[test]
    fn exactly_the_configured_depth_is_kept_and_the_root_is_cut() {
        let stack: Vec<u64> = [START + 1].into_iter().chain(0x20_0000..0x20_00c8).collect();
        let rows = Rows::from_iter([(native(&stack), sums(1, 1))]);
        let profile = profile(reading(Kind::Block, NATIVE), &rows, NAMES);
        let frames: Vec<u64> =
            profile.samples().next().unwrap().frames().map(|frame| frame.address).collect();
        assert_eq!(frames, (0x20_0000..0x20_0080).collect::<Vec<u64>>());
    }

    #[test]
    fn a_marker_is_a_frame_of_its_own() {
        let rows = [
            (key(Stack::Marker("[handoff]")), sums(1, 30)),
            (key(Stack::Marker("[overflow]")), sums(1, 20)),
            (native(&at([3])), sums(1, 10)),
        ];
        check(
            Kind::Mutex,
            NATIVE,
            rows.clone(),
            &["1 30: [handoff]", "1 20: [overflow]", "1 10: shop::order"],
        );
        check(
            Kind::Mutex,
            NATIVE.stack(StackView::Logical),
            rows,
            &["1 30: [handoff]", "1 20: [overflow]", "1 10: [no span]"],
        );
    }

    #[test]
    fn markers_have_the_same_address_in_every_profile() {
        let address = |rows: Rows| {
            let profile = profile(reading(Kind::Mutex, NATIVE), &rows, NAMES);
            profile.samples().last().unwrap().frames().next().unwrap().address
        };
        let handoff = (key(Stack::Marker("[handoff]")), sums(1, 1));
        let overflow = (key(Stack::Marker("[overflow]")), sums(1, 2));
        let one = address(Rows::from_iter([handoff.clone()]));
        assert_eq!(one, address(Rows::from_iter([handoff, overflow])));
        assert!((0x1000..0x1_0000).contains(&one));
    }

    #[test]
    fn the_logical_view_shows_span_paths() {
        let path = |path: &[&'static CallSite], address| Key {
            path: path.into(),
            ..native(&[START + address])
        };
        let rows = Rows::from_iter([
            (path(&[&CHECKOUT, &SERVE], 3), sums(1, 100)),
            (path(&[&CHECKOUT, &SERVE], 4), sums(1, 10)),
            (path(&[&SERVE], 3), sums(1, 1)),
            (Key { path: [&SERVE].into(), ..key(Stack::Marker("[running]")) }, sums(1, 0)),
        ]);
        let view = NATIVE.stack(StackView::Logical);
        let profile = profile(reading(Kind::Mutex, view), &rows, NAMES);
        assert_eq!(text(&profile), ["2 110: shop::checkout; shop::serve", "2 1: shop::serve"]);
        let frame = profile.samples().next().unwrap().frames().next().unwrap();
        assert_eq!((frame.file, frame.line), ("src/shop.rs", 7));
        assert_eq!(frame.address, CHECKOUT.address());
    }

    #[test]
    fn a_path_stands_for_the_stack_where_there_is_no_other() {
        let spans = Key { path: [&CHECKOUT, &SERVE].into(), ..native(&[]) };
        let mut calls = sums(3, 1000);
        calls.values[2] = 5;
        check(Kind::Spans, NATIVE, [(spans, calls)], &["3 1000 5: shop::checkout; shop::serve"]);
    }

    #[test]
    fn waits_are_split_by_length_on_request_and_the_total_stays() {
        let mut waits = Box::new([(0, 0); WAIT_BUCKETS]);
        waits[0] = (1, 3);
        waits[12] = (2, 50_000_000);
        let mut split = sums(4, 50_000_103);
        split.waits = Some(waits);
        let rows = [(labelled(&at([3]), &[("tenant", "a")]), split)];
        let view = NATIVE.labels(LabelView { wait: true, ..LabelView::NONE });
        check(
            Kind::Block,
            view,
            rows.clone(),
            &[
                "2 50000000: shop::order tenant=a wait=16777216 nanoseconds",
                "1 100: shop::order tenant=a",
                "1 3: shop::order tenant=a wait=1 nanoseconds",
            ],
        );
        check(Kind::Block, NATIVE, rows, &["4 50000103: shop::order tenant=a"]);
    }
}
