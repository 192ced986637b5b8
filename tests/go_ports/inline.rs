//! Functions that were inlined have frames of their own.

use std::thread;

use profiler_core::Kind;
use profiler_core::parking_lot::Mutex;
use profiler_core::sync;
use profiler_tests::keep;
use profiler_tests::parked::start_parked;

use super::{is, is_one_location, read, read_text, the_sample};

static MUTEX: Mutex<()> = Mutex::named("inlined", ());
static STD_MUTEX: sync::Mutex<()> = sync::Mutex::named("std inlined", ());

#[inline(always)]
fn inlined_wait<Guard>(lock: impl Fn() -> Guard) {
    drop(lock());
}

#[inline(never)]
fn physical_wait() {
    inlined_wait(|| MUTEX.lock());
    keep!();
}

#[inline(never)]
fn physical_wait_std() {
    inlined_wait(|| STD_MUTEX.lock());
    keep!();
}

#[inline(always)]
fn inlined_release<Guard>(guard: Guard) {
    drop(guard);
}

#[inline(never)]
fn physical_release<Guard>(guard: Guard) {
    inlined_release(guard);
    keep!();
}

/// Asserts that the one stack of a lock has a location of both functions, the inlined one first.
#[track_caller]
fn check(kind: Kind, lock: &str, inlined: &str, physical: &str) {
    let profile = read(kind);
    let sample = the_sample(&profile, lock);
    let position = |name: &str| {
        let name = format!("inline::{name}");
        let found = sample.names.iter().position(|frame| is(frame, &name));
        found.unwrap_or_else(|| panic!("{name} is not in {:#?}", sample.names))
    };
    let (inner, outer) = (position(inlined), position(physical));
    assert_eq!(inner + 1, outer, "{:#?}", sample.names);
    let leaf = &sample.names[outer];
    assert!(is_one_location(&profile, &sample.names[inner], leaf), "{kind}: two locations");

    // The text form has a line for each.
    let text = read_text(kind);
    assert!(text.records.iter().any(|record| record.names == sample.names), "{text:#?}");
}

#[test]
fn inlined_frames_are_expanded_in_one_location() {
    super::start();
    thread::scope(|scope| {
        let guard = MUTEX.lock();
        start_parked(scope, physical_wait);
        physical_release(guard);
    });
    check(Kind::Block, "inlined", "inlined_wait", "physical_wait");
    check(Kind::Mutex, "inlined", "inlined_release", "physical_release");

    thread::scope(|scope| {
        let guard = STD_MUTEX.lock();
        start_parked(scope, physical_wait_std);
        physical_release(guard);
    });
    check(Kind::Block, "std inlined", "inlined_wait", "physical_wait_std");
    check(Kind::Mutex, "std inlined", "inlined_release", "physical_release");
}
