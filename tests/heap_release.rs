//! Giving memory back asks the inner allocator and the C library.

#![allow(unsafe_code, reason = "a function of the C library is replaced")]

use std::alloc::System;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};

use profiler_core::{ProfiledAllocator, release_memory};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::with_release(System, release);

static RELEASED: AtomicUsize = AtomicUsize::new(0);
static TRIMMED: AtomicUsize = AtomicUsize::new(0);

fn release() {
    RELEASED.fetch_add(1, Ordering::Relaxed);
}

/// Stands in for that of the C library, with its types; all that one promises is to try.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_keep: usize) -> c_int {
    TRIMMED.fetch_add(1, Ordering::Relaxed);
    0
}

#[test]
fn memory_is_given_back_by_both() {
    for times in 1..=2 {
        release_memory();
        assert_eq!(RELEASED.load(Ordering::Relaxed), times);
        let trimmed = if cfg!(target_env = "gnu") { times } else { 0 };
        assert_eq!(TRIMMED.load(Ordering::Relaxed), trimmed);
    }
}
