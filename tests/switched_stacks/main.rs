//! Coroutines with stacks of their own: what happens on one stands under the functions that are on it,
//! in every profile, and nothing that is not mapped is read.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "stacks are mapped and switched by C")]

mod ways;

use std::alloc::System;
use std::hint::black_box;
use std::sync::{Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::thread;

use profiler_core::{
    Capture, Config, CustomProfile, Kind, Profile, ProfiledAllocator, Rates, parking_lot,
    set_rates, snapshot, with_labels, write_threads,
};
use profiler_tests::cpu::{MILLISECOND, use_up};
use profiler_tests::keep;
use profiler_tests::parked::{ThreadId, start_parked};

use self::ways::{WAYS, Way};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);
static THINGS: CustomProfile = CustomProfile::new("things");

const SIZE: usize = 256 << 10;
/// Of the heap only where it is asked for: profiles are made of much.
const RATES: Rates = Rates::ALL.heap_bytes(0);

/// One test at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().rates(RATES)).expect("the first start");
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline(never)]
fn user_function(body: &mut dyn FnMut()) {
    body();
    keep!();
}

#[inline(never)]
fn caller_of_user_function(body: &mut dyn FnMut()) {
    user_function(body);
    keep!();
}

/// Calls `body` on another stack, as a function that is called by a function, under a label.
fn call(way: Way, key: &'static str, value: &'static str, body: &mut dyn FnMut()) {
    way(SIZE, &mut || {
        with_labels([(key, value)], || caller_of_user_function(body));
    });
}

fn functions<'a>(frames: impl Iterator<Item = profiler_core::Frame<'a>>) -> Vec<&'a str> {
    frames.map(|frame| frame.function.unwrap_or("?")).collect()
}

/// Whether a stack leads through both functions.
fn is_under_both(stack: &[&str]) -> bool {
    let at = |name: &str| stack.iter().position(|function| function.ends_with(name));
    let (user, caller) = (at("::user_function"), at("::caller_of_user_function"));
    user.is_some() && caller == user.map(|at| at + 1)
}

/// Asserts that there are samples with the label, and that all of them stand under both functions, and under
/// none without a name but for the one by which the C library starts a stack.
#[track_caller]
fn stands(profile: &Profile, key: &str, label: &str) {
    let labelled = profile.samples().filter(|sample| sample.label(key) == Some(label));
    let stacks: Vec<_> = labelled.map(|sample| functions(sample.frames())).collect();
    assert!(!stacks.is_empty(), "{label}: no samples");
    for stack in stacks {
        let last = stack.len() - 1;
        assert!(is_under_both(&stack) && !stack[..last].contains(&"?"), "{label}: {stack:#?}");
    }
}

#[test]
fn contended_locks_stand_under_their_users() {
    let _turn = turn();
    for (name, way) in WAYS {
        let mutex = parking_lot::Mutex::new(());
        thread::scope(|scope| {
            call(way, "lock", name, &mut || {
                let guard = mutex.lock();
                start_parked(scope, || call(way, "lock", name, &mut || drop(mutex.lock())));
                drop(guard);
            });
        });
        stands(&snapshot(Kind::Mutex).expect("available"), "lock", name);
        stands(&snapshot(Kind::Block).expect("available"), "lock", name);
    }
}

#[test]
fn allocations_and_things_stand_under_their_makers() {
    let _turn = turn();
    for (name, way) in WAYS {
        let mut kept = None;
        set_rates(Rates::ALL);
        call(way, "made", name, &mut || kept = Some((Box::new([1_u8; 5000]), THINGS.enter())));
        set_rates(RATES);
        stands(&snapshot(Kind::Heap).expect("available"), "made", name);
        stands(&snapshot(Kind::Custom("things")).expect("available"), "made", name);
    }
}

#[test]
fn cpu_time_stands_under_its_users() {
    let _turn = turn();
    for (name, way) in WAYS {
        let capture = Capture::start_with(Kind::Profile, Capture::MAX_RATE).expect("timers");
        call(way, "cpu", name, &mut || use_up(black_box(100 * MILLISECOND)));
        let profile = capture.finish();
        let stacks: Vec<_> = profile
            .samples()
            .filter(|sample| sample.label("cpu") == Some(name))
            .map(|sample| functions(sample.frames()))
            // The label is in force a moment longer.
            .filter(|stack| stack.iter().any(|function| function.ends_with("::use_up")))
            .collect();
        assert!(!stacks.is_empty(), "{name}");
        for stack in stacks {
            assert!(is_under_both(&stack), "{name}: {stack:#?}");
        }
    }
}

#[test]
fn a_thread_shows_where_it_is_on_another_stack() {
    let _turn = turn();
    for (name, way) in WAYS {
        let (end, ended) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let sleeper = thread::spawn(move || {
            call(way, "dump", name, &mut || {
                tell.send(ThreadId::current()).expect("somebody listens");
                ended.recv().expect("a word comes");
            });
        });
        let thread = told.recv().expect("it has started");
        thread.wait_until_parked();
        let mut text = Vec::new();
        write_threads(&mut text).expect("memory takes all");
        end.send(()).expect("it listens");
        sleeper.join().expect("no panic");
        let text = String::from_utf8(text).expect("text");
        let start = format!("goroutine {} [", thread.get());
        let part = text.split("\n\n").find(|part| part.starts_with(&start)).expect("it is there");
        let stack: Vec<_> = part.lines().filter_map(|line| line.strip_suffix("(...)")).collect();
        assert!(is_under_both(&stack), "{name}: {part}");
    }
}

/// Where a stack was, another one lies later, or none; the same thread goes on there.
#[test]
fn stacks_come_and_go_at_the_same_addresses() {
    let _turn = turn();
    let mut kept = Vec::new();
    for round in 0..300 {
        let (_, way) = WAYS[round % WAYS.len()];
        // Small ones and large ones, so that one ends where another one was whole.
        let size = [32, 256, 64, 1024][round % 4] << 10;
        way(size, &mut || {
            with_labels([("remapped", "yes")], || {
                caller_of_user_function(&mut || kept.push(THINGS.enter()));
            });
        });
    }
    let profile = snapshot(Kind::Custom("things")).expect("available");
    stands(&profile, "remapped", "yes");
    let remapped = profile.samples().filter(|sample| sample.label("remapped").is_some());
    assert_eq!(remapped.map(|sample| sample.values()[0]).sum::<i64>(), 300);
}

/// A stack may be as full as its owner dares to fill it.
#[test]
fn a_record_leaves_small_stacks_alone() {
    let _turn = turn();
    for (name, way) in WAYS {
        let mut entry = None;
        // What the body itself needs without optimisation, and no more than a handler's stack has.
        way(16 << 10, &mut || {
            with_labels([("small", name)], || {
                caller_of_user_function(&mut || entry = Some(THINGS.enter()));
            });
        });
        stands(&snapshot(Kind::Custom("things")).expect("available"), "small", name);
    }
}
