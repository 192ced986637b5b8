//! The same with mimalloc inside, which has a call of its own to give memory back.

#![allow(unsafe_code, reason = "the call to give memory back is C")]

use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;
use profiler_core::{Config, ProfiledAllocator, Rates, release_memory};
use profiler_tests::collections::check_all;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<MiMalloc> = ProfiledAllocator::with_release(MiMalloc, collect);

static COLLECTED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    /// Gives all that is free back to the system.
    safe fn mi_collect(force: bool);
}

fn collect() {
    COLLECTED.fetch_add(1, Ordering::Relaxed);
    mi_collect(true);
}

#[test]
fn collections_keep_what_they_hold_and_leave_nothing() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    for (times, rate) in [1, 0, 64, 4096, 512 << 10, 1].into_iter().enumerate() {
        check_all(rate);
        release_memory();
        assert_eq!(COLLECTED.load(Ordering::Relaxed), times + 1);
    }
}
