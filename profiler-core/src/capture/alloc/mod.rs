//! Heap: which allocations are alive, and what was allocated, where.
//!
//! **Problem.** A sample must be found again when its block is freed, by any thread, and all other
//! frees, 10,000 to one, should not pay for it.
//!
//! **Idea.** A sampled block is like any other: the inner allocator is asked for what the program asks
//! for, and the program gets what it gives. So C code may free, resize and measure what Rust allocated
//! where the inner allocator is C's, alignment is the inner allocator's, and `realloc` may move
//! pages instead of bytes. A free asks one count, of the live samples in the block's page
//! ([`buffer::vicinity`](crate::buffer::vicinity)); if there are some, the set of live samples
//! ([`buffer::live_set`](crate::buffer::live_set)) says whether the block is one.
//!
//! **What C frees** leaves its entry behind. The entry ends when its address comes again and is freed,
//! resized or sampled. Until then the block counts as alive, at most once for each address.
//!
//! **Refused**, by what mixed sizes cost more than this (`benches/README.md`): a filter that is asked by a hash of the
//! address, 3 to 5 ns; one that forgets nothing 9 ns, and 15 as it fills; counters that threads share, 7 times the inner
//! allocator's cost when two threads run at once. Sampled blocks of an alignment that others seldom have,
//! 512 to 4,096: 2 to 5 ns, since allocators use memory again, so that after some samples many blocks
//! are aligned so; and a block that C has freed would be given back by a wrong layout if its address
//! came again. Sampled blocks that begin 8 bytes behind the inner address, a header there, and a range of
//! addresses for sampled blocks cost the same within the noise, and C can do nothing with such blocks.
//! To look at each allocation whether C has freed a sample at its address would cost 0.7 to 1 ns: a call where there is a
//! jump.
//!
//! A sample and its free are sums in the row of the stack that allocated it: the row's thread adds
//! the one, whoever frees adds the other.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

mod live;
mod sampler;
mod thread;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

pub(crate) use self::live::bytes;
use crate::buffer::counters::{Due, Totals};
use crate::capture::{self, rates};
use crate::sys;

/// An allocation of fewer bytes that fails stays counted, as if it had not: to look whether it has would
/// take a frame around the inner allocator's call, half of what an allocation costs, and where so little
/// memory cannot be had a program hardly goes on.
const SMALL: usize = 4 << 10;

/// The inner allocator's call to give memory back, a `fn()`, or null.
static RELEASE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// An allocator that samples what another one allocates, for the profiles `heap` and `allocs`.
///
/// ```
/// use std::alloc::System;
///
/// use profiler_core::ProfiledAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);
/// # fn main() {}
/// ```
///
/// jemalloc, mimalloc or any other [`GlobalAlloc`] may stand in the place of `System`.
///
/// Bytes and objects are counted exactly from the start of the process on ([`memory`](crate::memory())); only
/// an allocation of less than 4 KiB that fails is counted as if it had not. Samples are
/// taken from [`start`](crate::start) on, one in [`Rates::heap_bytes`](crate::Rates::heap_bytes) bytes
/// in the mean, and stand for all others without bias. A `realloc` counts as a free of the old and an
/// allocation of the new size.
///
/// Two allocators of this type in one process share one profile.
///
/// # What it does not see
///
/// Memory that C code allocates, and what is mapped by `mmap`. What C does with memory that Rust
/// allocated, where both use one allocator: it works as without the profiler, since every block is the
/// inner allocator's own, but the profiler learns nothing of a free by C. The sample of such a block stays in
/// use until its address comes again and is freed by Rust or sampled; [`memory`](crate::memory()) counts the
/// block as alive for ever.
///
/// # Signals
///
/// It adds no lock: an allocation in a signal handler is as safe as the inner allocator's, but for a
/// sample that needs memory for a table, which comes from the system's allocator. One that strikes between
/// the two halves of a count may be missing in [`memory`](crate::memory()); the profile has it.
///
/// # Sizes
///
/// Any that [`GlobalAlloc`] allows. It forbids zero, which the collections of std never ask for; an inner
/// allocator that allows it is asked for it, and the profile shows an object without bytes if all is sampled.
#[derive(Debug, Default)]
pub struct ProfiledAllocator<A> {
    inner: A,
    release: Option<fn()>,
}

impl<A> ProfiledAllocator<A> {
    /// Wraps an allocator.
    pub const fn new(inner: A) -> Self {
        Self { inner, release: None }
    }

    /// Wraps an allocator that can be told to give unused memory back to the system, by `release`:
    /// what `heap?gc=1` and [`release_memory`](crate::release_memory) call, for example jemalloc's `arena.purge`.
    pub const fn with_release(inner: A, release: fn()) -> Self {
        Self { inner, release: Some(release) }
    }
}

// SAFETY: every block is the inner allocator's, asked for and given back by the same layout.
unsafe impl<A: GlobalAlloc> GlobalAlloc for ProfiledAllocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        sys::assert_may_allocate();
        match thread::current().allocate(layout.size()) {
            // SAFETY: given by the caller.
            Ok(()) if layout.size() < SMALL => unsafe { self.inner.alloc(layout) },
            // SAFETY: given by the caller.
            Ok(()) => unsafe { self.alloc_large(layout, A::alloc) },
            // SAFETY: given by the caller.
            Err(due) => unsafe { self.alloc_slow(layout, A::alloc, due) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        sys::assert_may_allocate();
        match thread::current().allocate(layout.size()) {
            // SAFETY: given by the caller.
            Ok(()) if layout.size() < SMALL => unsafe { self.inner.alloc_zeroed(layout) },
            // SAFETY: given by the caller.
            Ok(()) => unsafe { self.alloc_large(layout, A::alloc_zeroed) },
            // SAFETY: given by the caller.
            Err(due) => unsafe { self.alloc_slow(layout, A::alloc_zeroed, due) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        sys::assert_may_allocate();
        let counters = thread::current();
        if live::is_near(block, counters.page_bits()) {
            // SAFETY: given by the caller.
            return unsafe { Self::dealloc_slow(block, layout.size(), layout.align(), self) };
        }
        counters.count_free(layout.size());
        // SAFETY: given by the caller.
        unsafe { self.inner.dealloc(block, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        sys::assert_may_allocate();
        let counters = thread::current();
        let counted = if live::is_near(block, counters.page_bits()) {
            Err(counters.due())
        } else {
            counters.allocate(size)
        };
        if let Err(due) = counted {
            // SAFETY: given by the caller.
            return unsafe { self.realloc_slow(block, layout, size, due) };
        }
        // SAFETY: given by the caller.
        let moved = unsafe { self.inner.realloc(block, layout, size) };
        if moved.is_null() {
            thread::take_back(size);
        } else {
            counters.count_free(layout.size());
        }
        moved
    }
}

/// How the inner allocator is asked: `alloc` or `alloc_zeroed`.
type Ask<A> = unsafe fn(&A, Layout) -> *mut u8;

impl<A: GlobalAlloc> ProfiledAllocator<A> {
    /// Allocates what is counted already and not sampled.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::alloc`].
    #[inline(never)] // PERF: else its frame would be made for small allocations too.
    unsafe fn alloc_large(&self, layout: Layout, ask: Ask<A>) -> *mut u8 {
        // SAFETY: given by the caller.
        let block = unsafe { ask(&self.inner, layout) };
        if block.is_null() {
            thread::take_back(layout.size());
        }
        block
    }

    /// # Safety
    ///
    /// That of [`GlobalAlloc::alloc`].
    #[cold]
    #[inline(never)]
    unsafe fn alloc_slow(&self, layout: Layout, ask: Ask<A>, due: Due) -> *mut u8 {
        let rate = self.decide(due, layout.size());
        // SAFETY: given by the caller.
        let block = unsafe { ask(&self.inner, layout) };
        live::begin(block, layout.size(), rate);
        count(block, Some(layout.size()), None);
        block
    }

    /// Decides whether an allocation is sampled, and returns the rate by which it is.
    fn decide(&self, due: Due, size: usize) -> Option<u64> {
        let counters = thread::joined()?;
        if let Some(release) = self.release {
            // Relaxed: a function, which is there from the start.
            RELEASE.store(release as *mut (), Ordering::Relaxed);
        }
        counters.decide(due, size, &thread::SAMPLING, sampler::gap)
    }

    /// PERF: takes what the global allocator is called with, in that order, and itself last, so that
    /// the fast path moves no arguments.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn dealloc_slow(block: *mut u8, size: usize, align: usize, allocator: &Self) {
        // SAFETY: they come from a layout.
        let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
        let counters = thread::current();
        if !live::may_hold(block, counters.page_bits()) {
            // A neighbour of a sample.
            counters.count_free(size);
            // SAFETY: given by the caller.
            return unsafe { allocator.inner.dealloc(block, layout) };
        }
        count(block, None, Some(size));
        // Before the inner allocator may give the address to another thread.
        live::end(block);
        // SAFETY: given by the caller.
        unsafe { allocator.inner.dealloc(block, layout) };
    }

    /// # Safety
    ///
    /// That of [`GlobalAlloc::realloc`].
    #[cold]
    #[inline(never)]
    unsafe fn realloc_slow(
        &self,
        block: *mut u8,
        layout: Layout,
        size: usize,
        due: Due,
    ) -> *mut u8 {
        let rate = self.decide(due, size);
        // Taken out before the inner allocator may give the address to another thread.
        let held = live::hold(block);
        // SAFETY: given by the caller.
        let moved = unsafe { self.inner.realloc(block, layout, size) };
        match held {
            Some(held) if moved.is_null() => held.put_back(),
            Some(held) => live::end_held(block, held),
            None => {}
        }
        live::begin(moved, size, rate);
        count(moved, Some(size), Some(layout.size()));
        moved
    }
}

/// Counts what was done, unless the allocation has failed.
fn count(block: *mut u8, allocated: Option<usize>, freed: Option<usize>) {
    match thread::joined() {
        Some(counters) if block.is_null() => counters.forget_sample(),
        Some(counters) => {
            if let Some(size) = allocated {
                counters.count_allocation(size);
            }
            if let Some(size) = freed {
                counters.count_free(size);
            }
        }
        None if block.is_null() => {}
        None => thread::count_shared(allocated, freed),
    }
}

/// Follows the rate of the profiler, which is 0 until it is started.
pub(crate) fn follow_rate() {
    thread::set_rate(if capture::is_on() { rates::get().heap_bytes } else { 0 });
}

/// Returns whether a [`ProfiledAllocator`] has allocated anything.
pub(crate) fn is_installed() -> bool {
    thread::any()
}

/// Returns what was allocated and freed since the process began.
pub(crate) fn totals() -> Totals {
    thread::totals()
}

/// Returns the inner allocator's call to give memory back.
pub(crate) fn release() -> Option<fn()> {
    // Relaxed: a function, which is there from the start.
    let release = RELEASE.load(Ordering::Relaxed);
    // SAFETY: null, or stored from a `fn()`.
    unsafe { std::mem::transmute::<*mut (), Option<fn()>>(release) }
}
