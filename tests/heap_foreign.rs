//! C shares the system's allocator with Rust: with `ProfiledAllocator<System>` it may measure, resize
//! and free what Rust allocated, and use its alignment, as it may without the profiler.

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use profiler_core::{Config, ProfiledAllocator, Rates};
use profiler_tests::foreign::Foreign;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

const FOREIGN: Foreign = Foreign {
    malloc: libc::malloc,
    realloc: libc::realloc,
    free: libc::free,
    malloc_usable_size: libc::malloc_usable_size,
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

#[test]
fn c_shares_what_is_all_sampled() {
    let _turn = turn();
    FOREIGN.check(1, 3);
}

#[test]
fn c_shares_what_is_sampled_now_and_then() {
    let _turn = turn();
    FOREIGN.check(4096, 30);
    FOREIGN.check(Rates::DEFAULT.heap_bytes, 100);
}

#[test]
fn what_c_frees_leaves_the_heap_when_its_address_comes_again() {
    let _turn = turn();
    FOREIGN.check_in_use();
}
