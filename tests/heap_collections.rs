//! What the collections of std allocate is in the heap profile while it is alive, and nothing else,
//! at every rate.

use std::alloc::System;

use profiler_core::{Config, ProfiledAllocator, Rates};
use profiler_tests::collections::check_all;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

#[test]
fn collections_keep_what_they_hold_and_leave_nothing() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    for rate in [1, 0, 64, 4096, 512 << 10, 1] {
        check_all(rate);
    }
}
