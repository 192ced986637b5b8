//! Signals that strike within the allocator, whose handler allocates too, with everything sampled: nobody
//! hangs, every block comes back, and what is in use is nothing at the end and never negative.
//!
//! The inner allocator takes no lock, since a signal may strike within it.

#![allow(unsafe_code, reason = "an allocator is called by hand, and in a handler")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use profiler_core::{Config, Kind, ProfiledAllocator, Rates, Symbols, View, snapshot_with};
use profiler_tests::bits::Bits;
use profiler_tests::keep;

static ALLOCATOR: ProfiledAllocator<Bits> = ProfiledAllocator::new(Bits);

const SIGNALS: u64 = 5_000;
/// So many stacks get rows; what comes from deeper goes to the row for all others, in which the struck
/// thread and the handler meet.
const ROWS: usize = 20;

/// Whether the thread is within the allocator.
static IS_INSIDE: AtomicBool = AtomicBool::new(false);
static STOP: AtomicBool = AtomicBool::new(false);
static STRUCK: AtomicU64 = AtomicU64::new(0);
static STRUCK_INSIDE: AtomicU64 = AtomicU64::new(0);

/// Allocates and frees at a depth of its own.
#[inline(never)]
fn allocate(depth: usize) {
    if depth > 0 {
        allocate(depth - 1);
    } else {
        let layout = Layout::new::<[u64; 5]>();
        let was_inside = IS_INSIDE.swap(true, Ordering::Relaxed);
        // SAFETY: the size is not zero.
        let block = unsafe { ALLOCATOR.alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: allocated with this layout.
        unsafe { block.write_bytes(7, layout.size()) };
        // SAFETY: as above.
        unsafe { ALLOCATOR.dealloc(block, layout) };
        IS_INSIDE.store(was_inside, Ordering::Relaxed);
    }
    keep!();
}

extern "C" fn strike(_: libc::c_int) {
    let struck = STRUCK.load(Ordering::Relaxed);
    STRUCK_INSIDE.fetch_add(IS_INSIDE.load(Ordering::Relaxed).into(), Ordering::Relaxed);
    allocate(struck as usize % (2 * ROWS));
    STRUCK.store(struck + 1, Ordering::SeqCst);
}

#[track_caller]
fn check_heap(is_at_the_end: bool) -> i64 {
    let view = View::default().symbols(Symbols::None);
    let profile = snapshot_with(Kind::Heap, view).expect("available");
    for sample in profile.samples() {
        let values = sample.values();
        assert!(values.iter().all(|value| *value >= 0), "{values:?}");
        assert!(!is_at_the_end || values[2..] == [0, 0], "in use: {values:?}");
    }
    profile.totals()[0]
}

#[test]
fn a_signal_within_the_allocator_may_allocate() {
    // SAFETY: the handler calls an allocator that is made for it, and touches atomics.
    unsafe { libc::signal(libc::SIGUSR1, strike as extern "C" fn(_) as libc::sighandler_t) };
    let config = Config::default().rates(Rates::ALL).memory(1);
    profiler_core::start(config).expect("the first start");
    let (say, said) = mpsc::channel();
    let struck = thread::spawn(move || {
        // The thread and its tables are known before the first signal.
        allocate(0);
        // SAFETY: takes nothing and cannot fail.
        say.send(unsafe { libc::pthread_self() }).expect("the test listens");
        let mut allocated = 1_i64;
        for round in 0.. {
            if STOP.load(Ordering::Relaxed) {
                break;
            }
            allocate(round % (2 * ROWS));
            allocated += 1;
        }
        allocated
    });
    let thread = said.recv().expect("it lives");
    for number in 0..SIGNALS {
        // SAFETY: the thread lives until it is told to stop.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
        while STRUCK.load(Ordering::SeqCst) == number {
            thread::yield_now();
        }
        if number % 1000 == 0 {
            check_heap(false);
        }
    }
    STOP.store(true, Ordering::Relaxed);
    let allocated = struck.join().expect("no panic");
    let struck_inside = STRUCK_INSIDE.load(Ordering::Relaxed);
    assert!(struck_inside > SIGNALS / 10, "{struck_inside} of {SIGNALS} struck inside");
    assert_eq!(Bits::out(), 0, "blocks that did not come back");
    let sampled = check_heap(true);
    // What a handler has done within a count may be missing there, and then in the distance to the next
    // sample.
    assert!(sampled >= allocated, "{sampled} of {allocated} and {SIGNALS}");
}
