//! From merged rows to a profile.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::handle::index;
use super::labels::{text_labels, with_number};
use super::location::{Sums as Samples, Tables, finish};
use super::mappings::Mappings;
use super::reading::Reading;
use super::stacks::Stacks;
use super::symbolize::{Found, Resolver};
use super::{LabelSet, Mapping, Profile};
use crate::merge::{Key, Rows, Sums, VALUES, WAIT_BUCKETS};

/// Returns what is mapped now. Dear where there are many threads: each stack is a line to be read.
pub(crate) fn mappings(resolver: &Mutex<Resolver>) -> Mappings {
    resolver.lock().unwrap_or_else(PoisonError::into_inner).mappings()
}

/// Makes a profile of rows: names their addresses among what was mapped a moment ago, trims and cuts their stacks, forms
/// their labels and sums what has become equal.
pub(crate) fn build_among(
    mappings: &Mappings,
    reading: Reading,
    rows: &Rows,
    resolver: &Mutex<Resolver>,
) -> Profile {
    let mut reasons = Vec::new();
    let place = |address, closings| mappings.place(address, closings);
    let profile = build_with(reading, rows, place, |addresses| {
        let mut resolver = resolver.lock().unwrap_or_else(PoisonError::into_inner);
        let found;
        (found, reasons) = resolver.resolve(mappings, addresses, reading.view.symbols);
        (mappings.list().to_vec(), found)
    });
    profile.remarked(reasons)
}

/// The same, with mappings and names from `resolve`: one answer for each address, and that one from `place`, which tells
/// addresses apart that had another meaning before a closing.
pub(crate) fn build_with(
    reading: Reading,
    rows: &Rows,
    place: impl Fn(u64, u64) -> u64,
    resolve: impl FnOnce(&[u64]) -> (Vec<Mapping>, Vec<Found>),
) -> Profile {
    let rows: Vec<(&Key, &Sums)> = rows.iter().collect();
    let column = reading.kind.default_column();
    let (sets, set_of_row) = text_labels(&rows, reading.view.labels, column);
    let mut labels = Labels { sets, numbered: FxHashMap::default() };
    let mut stacks = Stacks::new(reading, &rows, place, resolve);

    let mut samples = Samples::with_capacity(rows.len());
    for (row, ((key, sums), set)) in rows.iter().zip(set_of_row).enumerate() {
        if key.on_cpu == Some(false) && !reading.view.idle && stacks.is_idle(row) {
            continue;
        }
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
    let (mappings, locations) = stacks.into_tables();
    let tables = Tables { mappings, locations, labels: labels.sets };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callsite::{CallSite, Name};
    use crate::encode::testing::{
        NATIVE, START, allocated, key, labelled, native, profile, reading, sums, text,
    };
    use crate::kind::Kind;
    use crate::merge::Stack;
    use crate::profile::PSEUDO;
    use crate::view::{LabelView, StackView, View};

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
        assert!(PSEUDO.contains(&one));
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
        let distance = SERVE.address().wrapping_sub(CHECKOUT.address());
        let outer = profile.samples().next().unwrap().frames().nth(1).unwrap();
        assert!(PSEUDO.contains(&frame.address) && PSEUDO.contains(&outer.address));
        // The same in every run of a program.
        assert_eq!(outer.address.wrapping_sub(frame.address), distance);
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

    /// Addresses of the parts of an allocation's stack: the allocator, a vector, and the user's functions.
    const ALLOCATION: &[(u64, &str)] = &[
        (START + 1, "profiler_core::capture::alloc::live::begin"),
        (START + 2, "alloc::raw_vec::RawVec<T,A>::grow_one"),
        (START + 3, "alloc::vec::Vec<T,A>::push_mut | alloc::vec::Vec<T,A>::push | shop::put"),
        (START + 4, "alloc::raw_vec::RawVec<T,A>::grow_amortized"),
        (START + 5, "main"),
    ];

    #[test]
    fn the_leaf_of_an_allocation_is_what_the_user_called() {
        let rows = Rows::from_iter([
            (native(&at([1, 2, 3, 5])), allocated(2, 64, 1, 32)),
            // The same, by another way through the library.
            (native(&at([1, 4, 3, 5])), allocated(1, 32, 0, 0)),
            (native(&at([3, 5])), allocated(1, 1, 1, 1)),
        ]);
        for kind in [Kind::Heap, Kind::Allocs] {
            let profile = profile(reading(kind, NATIVE), &rows, ALLOCATION);
            assert_eq!(text(&profile), ["4 97 2 33: alloc::vec::Vec<T,A>::push; shop::put; main"]);
        }
        // What one profile hides of a location, another one shows, where the library has not called the profiler.
        let rows = Rows::from_iter([
            (native(&at([2, 3, 5])), sums(3, 0)),
            (native(&at([4, 3, 5])), sums(2, 0)),
            (native(&at([3, 5])), sums(1, 0)),
        ]);
        let profile = profile(reading(Kind::Custom("own"), NATIVE), &rows, ALLOCATION);
        let put = "alloc::vec::Vec<T,A>::push_mut; alloc::vec::Vec<T,A>::push; shop::put; main";
        assert_eq!(
            text(&profile),
            [
                format!("3: alloc::raw_vec::RawVec<T,A>::grow_one; {put}"),
                format!("2: alloc::raw_vec::RawVec<T,A>::grow_amortized; {put}"),
                format!("1: {put}"),
            ]
        );
    }

    #[test]
    fn sizes_are_a_label_and_rows_without_one_have_none() {
        let sized = |size, labels: &[_]| Key { size, ..labelled(&at([3]), labels) };
        let rows = Rows::from_iter([
            (sized(64, &[]), allocated(4, 256, 4, 256)),
            (sized(64, &[("bytes", "mine"), ("tenant", "a")]), allocated(3, 192, 3, 192)),
            (sized(1 << 40, &[]), allocated(1, 1 << 40, 0, 0)),
            (Key { size: 0, ..key(Stack::Marker("[lost]")) }, allocated(1, 8, 1, 8)),
        ]);
        let profile = profile(reading(Kind::Heap, NATIVE), &rows, &[(START + 3, "shop::put")]);
        assert_eq!(
            text(&profile),
            [
                "4 256 4 256: shop::put bytes=64",
                "3 192 3 192: shop::put bytes=64 tenant=a",
                "1 8 1 8: [lost]",
                "1 1099511627776 0 0: shop::put bytes=1099511627776",
            ]
        );
    }

    #[test]
    fn sizes_do_not_count_as_sets_of_labels() {
        let rows: Rows = (1..=300)
            .map(|size| {
                (
                    Key { size, ..labelled(&at([3]), &[("tenant", "a")]) },
                    allocated(1, size as i64, 0, 0),
                )
            })
            .collect();
        let profile = profile(reading(Kind::Allocs, NATIVE), &rows, &[]);
        assert_eq!(profile.len(), 300);
        assert!(text(&profile).iter().all(|sample| sample.ends_with(" tenant=a")));
    }
}
