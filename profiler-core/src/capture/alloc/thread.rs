//! The counters of the calling thread, from its first allocation on, and those of all threads.

#![allow(unsafe_code, reason = "counters stand in memory that is never freed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::live;
use crate::buffer::counters::{Counters, Sampling, Totals};
use crate::buffer::registry::{Owner, Registry};
use crate::sys::{self, Process};

/// Stands in for a thread without counters: everything leads off the fast paths, since the first sample
/// is always due, and page 0, about which all frees ask without bits, is full as soon as a thread has joined.
static NOBODY: Counters = Counters::new(
    [const { AtomicU64::new(0) }; 5],
    0,
    Owner::nobody([const { AtomicU64::new(0) }; 2]),
    AtomicPtr::new(ptr::null_mut()),
);

static THREADS: Registry<Counters> = Registry::new(
    AtomicPtr::new(ptr::null_mut()),
    AtomicPtr::new(ptr::null_mut()),
    AtomicU64::new(0),
);
/// Threads that ever counted.
static JOINED: AtomicU64 = AtomicU64::new(0);

pub(super) static SAMPLING: Sampling = Sampling::new(AtomicU64::new(0));

thread_local! {
    // Has no destructor, so it can be read to the very end of a thread.
    static CURRENT: Cell<&'static Counters> = const { Cell::new(&NOBODY) };
}

/// Returns this thread's counters, or ones that lead everything off the fast paths.
#[inline(always)]
pub(super) fn current() -> &'static Counters {
    CURRENT.with(Cell::get)
}

/// Returns this thread's counters, taking over or making them; nothing if there is no memory.
pub(super) fn joined() -> Option<&'static Counters> {
    let current = current();
    if ptr::eq(current, &NOBODY) { join() } else { Some(current) }
}

/// Takes back an allocation of this thread that was counted and then failed. It finds the counters
/// again, so that the fast path need not keep them across the inner allocator's call.
#[cold]
#[inline(never)]
pub(super) fn take_back(size: usize) {
    current().take_back(size);
}

/// Counts for a thread that has no counters.
pub(super) fn count_shared(allocated: Option<usize>, freed: Option<usize>) {
    NOBODY.count_shared(allocated, freed);
}

#[cold]
fn join() -> Option<&'static Counters> {
    live::fill_page_0();
    let owner = sys::thread_id();
    // A number that could not be had is 0, and would be anybody's.
    let here = Process::current();
    let is_left =
        |thread, process| here.knows(process) && (thread == owner || !sys::is_thread_alive(thread));
    let claimed = (owner != 0).then(|| THREADS.claim(owner, is_left)).flatten();
    let counters = match claimed {
        Some(counters) => counters,
        None => THREADS.push(make(owner, here.number())?),
    };
    counters.settle(owner, here.number());
    // Relaxed: unique by the addition.
    let number = JOINED.fetch_add(1, Ordering::Relaxed) + 1;
    counters.begin(seed(owner));
    CURRENT.set(counters);
    if number == 1 {
        static FORKED: fn() = forked;
        sys::on_fork_child(&FORKED);
    }
    Some(counters)
}

/// Gives the counters of the forking thread to its copy in the child, which draws numbers of its own.
///
/// # Signal safety
///
/// Stores and system calls.
fn forked() {
    if !ptr::eq(current(), &NOBODY) {
        let thread = sys::thread_id();
        current().settle(thread, sys::process_number());
        current().seed(seed(thread));
    }
}

/// Returns a seed that no other thread has, nor one of another process: if they drew alike, what they
/// estimate together would be as far off as each of them.
fn seed(thread: u32) -> u64 {
    let place = (&raw const THREADS).addr() as u64;
    sys::monotonic_nanoseconds() ^ place << 16 ^ u64::from(thread).rotate_right(22)
}

fn make(owner: u32, process: u32) -> Option<NonNull<Counters>> {
    // SAFETY: the layout is not of size zero.
    let memory = unsafe { System.alloc(Layout::new::<Counters>()) };
    let counters = NonNull::new(memory.cast::<Counters>())?;
    let content = Counters::new(
        [const { AtomicU64::new(0) }; 5],
        usize::MAX,
        Owner::new(owner, process),
        AtomicPtr::new(ptr::null_mut()),
    );
    // SAFETY: fresh memory of this layout.
    unsafe { counters.write(content) };
    Some(counters)
}

/// Returns whether any thread counts its allocations here.
pub(super) fn any() -> bool {
    // Relaxed: a figure.
    JOINED.load(Ordering::Relaxed) != 0
}

/// Sets the mean distance of samples for all threads, in bytes.
pub(super) fn set_rate(rate: u64) {
    SAMPLING.set(rate, || THREADS.iter());
}

/// Returns what all threads have allocated and freed: nothing is freed that is not allocated.
pub(super) fn totals() -> Totals {
    let mut totals = Totals::default();
    let all = || THREADS.iter().chain([&NOBODY]);
    all().for_each(|counters| counters.add_freed(&mut totals));
    all().for_each(|counters| counters.add_allocated(&mut totals));
    totals
}
