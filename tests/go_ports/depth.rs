//! A deep stack keeps its leaf side, 128 frames of it.

use std::thread;

use profiler_core::Kind;
use profiler_core::parking_lot::Mutex;
use profiler_core::sync;
use profiler_tests::keep;
use profiler_tests::parked::start_parked;

use super::{depth, is, read, the_sample};

/// As deep as a stack is shown.
const SHOWN: usize = 128;
const DEEP: usize = 500;
const SHALLOW: usize = 20;

#[inline(never)]
fn dive(depth: usize, at_the_bottom: &mut dyn FnMut()) {
    if depth == 0 {
        at_the_bottom();
    } else {
        dive(depth - 1, at_the_bottom);
    }
    keep!();
}

#[inline(never)]
fn wait<Guard>(lock: &impl Fn() -> Guard) {
    drop(lock());
    keep!();
}

#[inline(never)]
fn release<Guard>(guard: &mut Option<Guard>) {
    drop(guard.take());
    keep!();
}

/// Asserts that a stack is full, has its leaf side, and nothing of what is at the root.
#[track_caller]
fn check_deep(kind: Kind, lock: &str, leaf: &str) {
    let (names, depth) = stack(kind, lock, leaf);
    assert_eq!(depth, SHOWN, "{kind}: {names:#?}");
    assert!(names[SHOWN / 2..].iter().all(|frame| is(frame, "depth::dive")), "{names:#?}");
}

/// Asserts that a stack is whole.
#[track_caller]
fn check_shallow(kind: Kind, lock: &str, leaf: &str) {
    let (names, _) = stack(kind, lock, leaf);
    let dives = names.iter().filter(|frame| is(frame, "depth::dive")).count();
    assert_eq!(dives, SHALLOW + 1, "{kind}: {names:#?}");
    let root = names.last().expect("a root");
    assert!(root.ends_with("::thread_start"), "{kind}: {names:#?}");
}

/// Returns the functions of the one stack of a lock and its depth, after a look at the leaf.
#[track_caller]
fn stack(kind: Kind, lock: &str, leaf: &str) -> (Vec<String>, usize) {
    let profile = read(kind);
    let sample = the_sample(&profile, lock);
    let names = sample.names.clone();
    // The closure that takes the lock stands below the function that calls it.
    let position = names.iter().position(|frame| is(frame, leaf));
    assert!(position.is_some_and(|position| position <= 1), "{kind}: {names:#?}");
    (names, depth(&profile, sample))
}

/// Waits for a lock that deep, and releases it that deep.
#[track_caller]
fn check<Guard>(
    name: &str,
    depth: usize,
    check: fn(Kind, &str, &str),
    lock: impl Fn() -> Guard + Sync,
) {
    super::start();
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut guard = Some(lock());
            start_parked(scope, || dive(depth, &mut || wait(&lock)));
            check(Kind::Goroutine, name, "depth::wait");
            dive(depth, &mut || release(&mut guard));
        });
        holder.join().expect("no panic");
    });
    check(Kind::Block, name, "depth::wait");
    check(Kind::Mutex, name, "depth::release");
}

#[test]
fn a_deep_stack_has_128_frames_and_its_leaf_on_parking_lot() {
    static MUTEX: Mutex<()> = Mutex::named("deep", ());
    check("deep", DEEP, check_deep, || MUTEX.lock());
}

#[test]
fn a_deep_stack_has_128_frames_and_its_leaf_on_std() {
    static MUTEX: sync::Mutex<()> = sync::Mutex::named("std deep", ());
    check("std deep", DEEP, check_deep, || MUTEX.lock().expect("no panic"));
}

#[test]
fn a_stack_that_fits_has_its_root() {
    static MUTEX: Mutex<()> = Mutex::named("shallow", ());
    check("shallow", SHALLOW, check_shallow, || MUTEX.lock());
}
