//! Vectors of many MiB grow as without the profiler: the inner allocator gets its own address back and
//! may move pages instead of bytes.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;

use profiler_core::{Config, ProfiledAllocator, Rates};
use profiler_tests::collections::{at, sums_under};
use profiler_tests::keep;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<Noting> = ProfiledAllocator::new(Noting);

const MIB: usize = 1 << 20;
/// Smaller ones are not noted.
const NOTED: usize = 32 * MIB;

/// What the system is asked for large blocks, of which the test alone has some.
static CALLS: Mutex<Calls> = Mutex::new(Calls { number: 0, calls: [Call::None; 16] });

struct Calls {
    number: usize,
    calls: [Call; 16],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    None,
    /// Size and address.
    Allocate(usize, usize),
    /// Address.
    Free(usize),
    /// Address, size and new address.
    Resize(usize, usize, usize),
}

/// The system's allocator, with a note of what is done with large blocks.
struct Noting;

fn note(size: usize, call: Call) {
    if size >= NOTED {
        let mut calls = CALLS.lock().expect("no panic");
        let number = calls.number;
        calls.calls[number] = call;
        calls.number += 1;
    }
}

/// Takes the one call since the last time.
#[track_caller]
fn the_call() -> Call {
    let mut calls = CALLS.lock().expect("no panic");
    let taken = calls.calls[0];
    let number = std::mem::take(&mut calls.number);
    drop(calls);
    assert_eq!(number, 1, "calls since {taken:?}");
    taken
}

// SAFETY: blocks are the system's.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: given by the caller.
        let block = unsafe { System.alloc(layout) };
        note(layout.size(), Call::Allocate(layout.size(), block.addr()));
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: given by the caller.
        let block = unsafe { System.alloc_zeroed(layout) };
        note(layout.size(), Call::Allocate(layout.size(), block.addr()));
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: given by the caller.
        unsafe { System.dealloc(block, layout) };
        note(layout.size(), Call::Free(block.addr()));
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: given by the caller.
        let moved = unsafe { System.realloc(block, layout, size) };
        note(layout.size().max(size), Call::Resize(block.addr(), size, moved.addr()));
        moved
    }
}

#[inline(never)]
fn make() -> Vec<u8> {
    // Zeroed pages are not touched before they are written to.
    let vector = vec![0; 64 * MIB];
    keep!();
    vector
}

#[inline(never)]
fn resize(vector: &mut Vec<u8>, size: usize) {
    if size > vector.capacity() {
        vector.reserve_exact(size - vector.len());
    } else {
        vector.shrink_to(size);
    }
    keep!();
}

fn check(first: u64, then: u64) {
    // Reading is not sampled: it allocates much.
    let in_use_under_make = || at(0, || sums_under(&make))[2..].to_vec();
    let in_use_under_resize = || at(0, || sums_under(&resize))[2..].to_vec();
    let mut vector = at(first, make);
    let mut address = vector.as_ptr().addr();
    assert_eq!(the_call(), Call::Allocate(64 * MIB, address));
    let in_use = |rate: u64, size: usize| if rate == 1 { [1, size as i64] } else { [0, 0] };
    assert_eq!(in_use_under_make(), in_use(first, 64 * MIB));
    let offset = address % 4096;
    for page in 0..64 {
        vector[page * MIB] = page as u8;
        vector[page * MIB + MIB - 1] = !page as u8;
    }
    for size in [128 * MIB, 200 * MIB + 8, 512 * MIB, 64 * MIB] {
        at(then, || resize(&mut vector, size));
        let now = vector.as_ptr().addr();
        assert_eq!(the_call(), Call::Resize(address, size, now));
        assert_eq!(now % 4096, offset, "its place within a page");
        assert_eq!(in_use_under_make(), [0, 0]);
        assert_eq!(in_use_under_resize(), in_use(then, size));
        address = now;
    }
    for page in 0..64 {
        assert_eq!(vector[page * MIB..][..2], [page as u8, 0]);
        assert_eq!(vector[page * MIB + MIB - 2..][..2], [0, !page as u8]);
    }
    at(then, || drop(vector));
    assert_eq!(the_call(), Call::Free(address));
    assert_eq!(in_use_under_resize(), [0, 0]);
}

#[test]
fn large_vectors_are_resized_by_the_inner_allocator_alone() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    for (first, then) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        check(first, then);
    }
}
