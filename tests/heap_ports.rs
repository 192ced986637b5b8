//! What Go's own tests ask of the heap profile (`TestMemoryProfiler`, `TestHeapRuntimeFrames` and the
//! depth of stacks), asked of ours.

use std::alloc::System;
use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use profiler_core::{Config, Kind, ProfiledAllocator, Rates, set_rates, snapshot};
use profiler_tests::pprof::{Profile, Stack};
use profiler_tests::text::{Record, Text};
use profiler_tests::{check, keep};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// One test at a time, with the profiler started and nothing sampled.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    START.call_once(|| {
        let nothing = Rates::ALL.heap_bytes(0);
        profiler_core::start(Config::default().rates(nothing)).expect("the first start");
    });
    turn
}

/// Runs `body` with every allocation sampled.
fn sampled<R>(body: impl FnOnce() -> R) -> R {
    set_rates(Rates::ALL);
    let result = body();
    set_rates(Rates::ALL.heap_bytes(0));
    result
}

fn read(kind: Kind) -> Profile {
    let mut body = Vec::new();
    snapshot(kind).expect("available").write_to(&mut body).expect("memory takes all");
    check::valid(&body)
}

fn read_text(kind: Kind) -> Text {
    let mut text = Vec::new();
    snapshot(kind).expect("available").write_text(&mut text).expect("memory takes all");
    Text::parse(std::str::from_utf8(&text).expect("text"))
}

const MIB: i64 = 1 << 20;

/// 32 bytes that are linked and stay.
struct Link {
    _next: Option<Box<Link>>,
    _pad: [u64; 3],
}

static PERSISTENT: Mutex<Option<Box<Link>>> = Mutex::new(None);

#[inline(never)]
fn allocate_persistent_1k() {
    let mut persistent = PERSISTENT.lock().expect("no panic");
    for _ in 0..32 {
        *persistent = Some(Box::new(Link { _next: persistent.take(), _pad: [0; 3] }));
    }
    drop(persistent);
    keep!();
}

#[inline(never)]
fn allocate_transient_1m() {
    for _ in 0..1024 {
        black_box(Box::new([0_u8; 1024]));
    }
    keep!();
}

#[inline(never)]
fn allocate_transient_2m() {
    black_box(vec![0_u8; 2 * MIB as usize]);
    keep!();
}

#[inline(always)]
fn allocate_transient_4m_inlined() {
    black_box(vec![0_u8; 4 * MIB as usize]);
}

#[inline(never)]
fn allocate_transient_4m() {
    allocate_transient_4m_inlined();
    keep!();
}

#[inline(never)]
fn allocate_dynamic() {
    black_box(vec![0_u8; 3 * MIB as usize]);
    keep!();
}

#[inline(never)]
fn allocate_all(dynamic: &dyn Fn()) {
    allocate_persistent_1k();
    allocate_transient_1m();
    allocate_transient_2m();
    allocate_transient_4m();
    dynamic();
    keep!();
}

/// Returns whether the functions stand in a stack one behind the other, below nothing but what they
/// called for memory.
fn is_stack(names: &[String], functions: &[&str]) -> bool {
    let own = names.iter().position(|name| name.starts_with("heap_ports::"));
    let Some(own) = own else { return false };
    let expected = functions.iter().map(|name| format!("heap_ports::{name}"));
    own <= 2 && names[own..].iter().take(functions.len()).eq(expected.collect::<Vec<_>>().iter())
}

/// Asserts what both forms say of a stack: objects and bytes in use, and then allocated.
#[track_caller]
fn check_stack(functions: &[&str], expected: [i64; 4]) {
    for kind in [Kind::Heap, Kind::Allocs] {
        let text = read_text(kind);
        let is_it = |record: &&Record| is_stack(&record.names, functions);
        let records: Vec<_> = text.records.iter().filter(is_it).collect();
        let [record] = records[..] else { panic!("{functions:?} in {kind}: {records:#?}") };
        assert_eq!(record.values, expected, "{functions:?} in {kind}");

        let profile = read(kind);
        let is_it = |sample: &&Stack| is_stack(&sample.names, functions);
        let samples: Vec<_> = profile.samples.iter().filter(is_it).collect();
        let [sample] = samples[..] else { panic!("{functions:?} in {kind}: {samples:#?}") };
        let [objects, bytes, all_objects, all_bytes] = expected;
        assert_eq!(sample.values, [all_objects, all_bytes, objects, bytes], "{functions:?}");
        assert_eq!(sample.names, record.names);
    }
}

/// `TestMemoryProfiler`: exact if everything is sampled; what is freed was allocated but is not in use.
#[test]
fn what_is_in_use_and_what_was_allocated_is_exact() {
    let _turn = turn();
    for run in 1..=2 {
        sampled(|| allocate_all(black_box(&allocate_dynamic)));
        check_stack(
            &["allocate_persistent_1k", "allocate_all"],
            [32, 1024, 32, 1024].map(|n| n * run),
        );
        let freed = |objects, bytes| [0, 0, objects * run, bytes * run];
        check_stack(&["allocate_transient_1m", "allocate_all"], freed(1024, MIB));
        check_stack(&["allocate_transient_2m", "allocate_all"], freed(1, 2 * MIB));
        let inlined = ["allocate_transient_4m_inlined", "allocate_transient_4m", "allocate_all"];
        check_stack(&inlined, freed(1, 4 * MIB));
        check_stack(&["allocate_dynamic"], freed(1, 3 * MIB));
    }
    let text = read_text(Kind::Heap);
    let [header] = &text.header[..] else { panic!("{:?}", text.header) };
    assert!(header.starts_with("heap profile: ") && header.ends_with("] @ heap/2"), "{header}");
    assert!(text.memory["TotalAlloc"] > text.memory["HeapAlloc"], "{:?}", text.memory);
    // What matters is read first: by bytes in use, and by those allocated.
    let allocs = read_text(Kind::Allocs);
    for (text, column) in [(text, 1), (allocs, 3)] {
        let key = |record: &Record| std::cmp::Reverse(record.values[column]);
        assert!(
            text.records.len() > 5 && text.records.is_sorted_by_key(key),
            "{:#?}",
            text.records
        );
    }

    *PERSISTENT.lock().expect("no panic") = None;
    check_stack(&["allocate_persistent_1k", "allocate_all"], [0, 0, 64, 2048]);
}

/// `TestHeapRuntimeFrames`: nobody sees the allocator and what leads to it, in either form.
#[test]
fn frames_of_the_allocator_are_hidden() {
    let _turn = turn();
    sampled(|| {
        // What a program does all the time, and the profiler's own allocations.
        let mut map = std::collections::HashMap::new();
        (0..100).for_each(|number| drop(map.insert(number, number.to_string())));
        black_box(read_text(Kind::Heap).records.len());
    });
    let stacks = read(Kind::Heap).samples.into_iter().map(|sample| sample.names);
    let stacks: Vec<_> =
        stacks.chain(read_text(Kind::Heap).records.into_iter().map(|it| it.names)).collect();
    assert!(stacks.len() > 20, "{stacks:#?}");
    for stack in stacks {
        for hidden in ["__rust_alloc", "__rust_realloc", "__rustc", "ProfiledAllocator", "raw_vec"]
        {
            assert!(!stack[0].contains(hidden), "{hidden}: {stack:#?}");
        }
        let allocator = |name: &String| name.contains("profiler_core::capture::");
        assert!(!stack.iter().any(allocator), "{stack:#?}");
    }
}

/// As deep as a stack is shown.
const SHOWN: usize = 128;

#[inline(never)]
fn dive(depth: usize) -> Box<[u64; 17]> {
    let block = if depth == 0 { bottom() } else { dive(depth - 1) };
    keep!();
    block
}

#[inline(never)]
fn bottom() -> Box<[u64; 17]> {
    let block = Box::new([0; 17]);
    keep!();
    block
}

/// Returns the functions of the one stack in use that has the function, and on how many frames of the
/// machine it stands.
#[track_caller]
fn in_use_under(function: &str) -> (Vec<String>, usize) {
    let profile = read(Kind::Heap);
    let of_samples = profile.samples.iter().zip(&profile.tables.samples);
    let under = of_samples.filter(|(sample, _)| {
        sample.values[2] > 0 && sample.names.iter().any(|name| name == function)
    });
    let under: Vec<_> = under.collect();
    let [(sample, raw)] = under[..] else { panic!("{function}: {under:#?}") };
    (sample.names.clone(), raw.locations.len())
}

#[test]
fn a_deep_stack_has_128_frames_and_its_leaf() {
    let _turn = turn();
    let block = sampled(|| dive(black_box(500)));
    let (names, depth) = in_use_under("heap_ports::bottom");
    assert_eq!(depth, SHOWN, "{names:#?}");
    assert!(is_stack(&names, &["bottom", "dive", "dive"]), "{names:#?}");
    assert!(names[SHOWN / 2..].iter().all(|name| name == "heap_ports::dive"), "{names:#?}");
    drop(block);

    let block = sampled(|| dive(black_box(20)));
    let (names, _) = in_use_under("heap_ports::bottom");
    assert_eq!(names.iter().filter(|name| *name == "heap_ports::dive").count(), 21, "{names:#?}");
    assert!(names.last().is_some_and(|root| root.ends_with("::thread_start")), "{names:#?}");
    drop(block);
}
