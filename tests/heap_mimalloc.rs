//! The same with mimalloc inside, which has a call of its own to give memory back.

#![allow(unsafe_code, reason = "the call to give memory back is C")]

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use mimalloc::MiMalloc;
use profiler_core::{Config, ProfiledAllocator, Rates, release_memory};
use profiler_tests::collections::check_all;
use profiler_tests::foreign::Foreign;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<MiMalloc> = ProfiledAllocator::with_release(MiMalloc, collect);

static COLLECTED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    /// Gives all that is free back to the system.
    safe fn mi_collect(force: bool);
    fn mi_malloc(size: usize) -> *mut c_void;
    fn mi_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn mi_free(block: *mut c_void);
    fn mi_usable_size(block: *mut c_void) -> usize;
}

/// C code that was made to use mimalloc too.
const FOREIGN: Foreign = Foreign {
    malloc: mi_malloc,
    realloc: mi_realloc,
    free: mi_free,
    malloc_usable_size: mi_usable_size,
};

/// One test at a time: they share the process's rates and sums.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect() {
    COLLECTED.fetch_add(1, Ordering::Relaxed);
    mi_collect(true);
}

#[test]
fn collections_keep_what_they_hold_and_leave_nothing() {
    let _turn = turn();
    for (times, rate) in [1, 0, 64, 4096, 512 << 10, 1].into_iter().enumerate() {
        check_all(rate);
        release_memory();
        assert_eq!(COLLECTED.load(Ordering::Relaxed), times + 1);
    }
}

#[test]
fn c_shares_mimalloc_with_rust() {
    let _turn = turn();
    for (rate, rounds) in [(1, 3), (4096, 30), (512 << 10, 30)] {
        FOREIGN.check(rate, rounds);
    }
}

#[test]
fn what_c_frees_leaves_the_heap_when_its_address_comes_again() {
    let _turn = turn();
    FOREIGN.check_in_use();
}
