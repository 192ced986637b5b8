//! A day of a service in fast motion: what the profiler keeps does not grow, and what is new in the
//! evening is named first.

#![allow(unsafe_code, reason = "libraries are loaded by calls of C")]

use std::alloc::System;
use std::hint::black_box;
use std::thread;
use std::time::Duration;

use profiler_core::sync::Mutex;
use profiler_core::{
    Capture, Config, Kind, Profile, ProfiledAllocator, Rates, memory, profiled, snapshot, stats,
    wait, with_labels,
};
use profiler_tests::cpu::{MILLISECOND, use_up};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// The rounds of a day, each with so many requests, label sets, threads and libraries.
const ROUNDS: usize = 200;
const REQUESTS: usize = 5_000;
const LABEL_SETS: usize = 500;
const THREADS: usize = 50;
const LIBRARIES: usize = 5;
/// Of bytes: what may come in the second half that is new.
const SLACK: u64 = 1 << 20;

static STOCK: Mutex<u64> = Mutex::new(0);
static PRICES: Mutex<u64> = Mutex::new(0);

/// One of four sites, so that stacks are many.
fn request(number: usize, sites: u32) {
    match (sites, number % 4) {
        (0, _) => return serve(),
        (_, 0) => request(number / 4, sites - 1),
        (_, 1) => request(number / 4, sites - 1),
        (_, 2) => request(number / 4, sites - 1),
        (..) => request(number / 4, sites - 1),
    }
    // No call in the tail.
    black_box(());
}

#[profiled]
fn serve() {
    wait("reply", || drop(black_box(vec![0_u8; 2048])));
    *STOCK.lock().expect("no panic") += 1;
}

fn round(number: usize) {
    let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
    for request_number in 0..REQUESTS {
        let distinct = number * REQUESTS + request_number;
        if request_number % (REQUESTS / LABEL_SETS) == 0 {
            with_labels([("user", format!("user {distinct}"))], || request(distinct, 7));
        } else {
            with_labels([("route", "/checkout")], || request(distinct, 7));
        }
    }
    for thread in 0..THREADS {
        let name = format!("worker {number} {thread}");
        let worker = thread::Builder::new().name(name).spawn(move || request(thread, 3));
        worker.expect("the system has threads").join().expect("no panic");
    }
    for _ in 0..LIBRARIES {
        // SAFETY: this part of the C library runs nothing when it is loaded.
        let library = unsafe { libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "every glibc has it");
        // SAFETY: loaded above, and nothing of it is in use.
        unsafe { libc::dlclose(library) };
    }
    drop(capture);
    if number.is_multiple_of(10) {
        black_box(read(Kind::Block));
        black_box(read(Kind::Heap));
    }
}

/// What is held: by the profiler's tables, and by Rust.
fn held() -> [u64; 2] {
    let stats = stats();
    assert!(stats.bytes <= stats.budget + (4 << 20), "{stats:?}");
    let live = memory().allocations.expect("the allocator is the profiler's").live_bytes();
    println!("{stats:?}, {live} bytes of Rust");
    [stats.bytes as u64, live]
}

fn read(kind: Kind) -> Profile {
    snapshot(kind).expect("available")
}

/// Returns the functions of the largest sample.
fn first(profile: &Profile) -> Vec<String> {
    let sample = profile.samples().next().expect("there is one");
    sample.frames().filter_map(|frame| Some(frame.function?.to_owned())).collect()
}

#[track_caller]
fn is_first(profile: &Profile, function: &str) {
    let first = first(profile);
    assert!(first.iter().any(|name| name.contains(function)), "{function}: {first:?}");
}

#[inline(never)]
fn new_leak() -> Vec<Vec<u8>> {
    (0..64).map(|_| black_box(vec![1; 1 << 20])).collect()
}

#[inline(never)]
fn new_holder() {
    let guard = PRICES.lock().expect("no panic");
    thread::scope(|scope| {
        scope.spawn(|| *PRICES.lock().expect("no panic") += 1);
        thread::sleep(Duration::from_millis(300));
        drop(guard);
    });
}

#[inline(never)]
fn new_hot_function() {
    use_up(300 * MILLISECOND);
}

#[test]
fn the_evening_is_as_clear_as_the_morning() {
    let config = Config::default().rates(Rates::ALL.heap_bytes(64 << 10)).memory(8 << 20);
    profiler_core::start(config).expect("the first start");
    (0..ROUNDS / 2).for_each(round);
    let noon = held();
    (ROUNDS / 2..ROUNDS).for_each(round);
    let evening = held();
    for (noon, evening) in noon.into_iter().zip(evening) {
        assert!(evening <= noon + SLACK, "grows from {noon} to {evening} bytes");
    }
    assert_eq!(read(Kind::Block).totals()[0] as usize, ROUNDS * (REQUESTS + THREADS));

    let leak = new_leak();
    is_first(&read(Kind::Heap), "day::new_leak");
    drop(leak);
    let before = read(Kind::Mutex);
    new_holder();
    is_first(&read(Kind::Mutex).since(&before), "day::new_holder");
    let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
    new_hot_function();
    is_first(&capture.finish(), "day::new_hot_function");
}
