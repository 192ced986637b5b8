//! Allocators that sample as the product does and differ in how a free is told that its block was
//! sampled. They walk no stack and keep no rows.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::buffer::counters::{Counters, Due, Sampling};
use crate::buffer::live_set::LiveSet;
use crate::buffer::registry::Owner;

/// How a free is told that its block was sampled.
pub(crate) trait Mark: Sync {
    /// Allocates a block that is sampled.
    fn allocate(&self, layout: Layout) -> *mut u8;

    /// Whether a block that was just allocated, unsampled, must be looked at.
    #[inline(always)]
    fn is_fresh_suspect(&self, _block: *mut u8) -> bool {
        false
    }

    /// Looks at such a block, which may be null.
    fn look_at(&self, _block: *mut u8) {}

    /// Returns whether a free must leave its fast path.
    fn is_suspect(&self, block: *mut u8, layout: Layout) -> bool;

    /// Frees a suspect.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::dealloc`].
    unsafe fn free(&self, block: *mut u8, layout: Layout);
}

/// `System` with the product's counters and sampling, and some mark. An allocation that fails stays
/// counted unless the mark looks at it; then the inner allocator is called, else it is jumped to.
pub(crate) struct Candidate<M>(pub(crate) M);

/// The samples that are alive, of all candidates.
pub(crate) static LIVE: LiveSet =
    LiveSet::new(AtomicPtr::new(ptr::null_mut()), AtomicU64::new(0), 512);

static SAMPLING: Sampling = Sampling::new(AtomicU64::new(512 << 10));

/// Stands in for a thread without counters: the first sample is due.
static NOBODY: Counters = counters();

thread_local! {
    static CURRENT: Cell<&'static Counters> = const { Cell::new(&NOBODY) };
}

const fn counters() -> Counters {
    Counters::new(
        [const { AtomicU64::new(0) }; 5],
        usize::MAX,
        Owner::nobody([AtomicU64::new(0), AtomicU64::new(0)]),
        AtomicPtr::new(ptr::null_mut()),
    )
}

#[inline(always)]
fn current() -> &'static Counters {
    CURRENT.with(Cell::get)
}

/// Returns this thread's counters. They live for ever, as the product's, whose readers want to see
/// what threads have done that are gone.
#[cold]
fn joined() -> &'static Counters {
    if ptr::eq(current(), &NOBODY) {
        let counters: &'static Counters = Box::leak(Box::new(counters()));
        counters.seed(ptr::from_ref(counters).addr() as u64);
        CURRENT.set(counters);
    }
    current()
}

fn gap(random: u64) -> impl Fn(u64) -> u64 {
    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let distance = -uniform.ln();
    move |rate| (distance * rate as f64).ceil().max(1.0) as u64
}

impl<M: Mark> Candidate<M> {
    #[cold]
    #[inline(never)]
    fn alloc_slow(&self, layout: Layout, due: Due) -> *mut u8 {
        let counters = joined();
        let rate = counters.decide(due, layout.size(), &SAMPLING, gap);
        counters.count_allocation(layout.size());
        if rate.is_some() {
            self.0.allocate(layout)
        } else {
            // SAFETY: no size of this bench is zero.
            unsafe { System.alloc(layout) }
        }
    }

    #[cold]
    #[inline(never)]
    fn looked_at(&self, block: *mut u8, size: usize) -> *mut u8 {
        if block.is_null() {
            current().take_back(size);
        } else {
            self.0.look_at(block);
        }
        block
    }

    /// # Safety
    ///
    /// That of [`GlobalAlloc::dealloc`].
    #[cold]
    #[inline(never)]
    unsafe fn free_slow(block: *mut u8, size: usize, align: usize, candidate: &Self) {
        // SAFETY: they come from a layout.
        let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
        // SAFETY: given by the caller.
        unsafe { candidate.0.free(block, layout) };
    }
}

// SAFETY: blocks are the system's, or those of the mark, which knows them again.
unsafe impl<M: Mark> GlobalAlloc for Candidate<M> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let counters = current();
        if let Err(due) = counters.allocate(layout.size()) {
            return self.alloc_slow(layout, due);
        }
        // SAFETY: given by the caller.
        let block = unsafe { System.alloc(layout) };
        if self.0.is_fresh_suspect(block) { self.looked_at(block, layout.size()) } else { block }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        current().count_free(layout.size());
        if self.0.is_suspect(block, layout) {
            // SAFETY: given by the caller.
            return unsafe { Self::free_slow(block, layout.size(), layout.align(), self) };
        }
        // SAFETY: not sampled, so it is the system's.
        unsafe { System.dealloc(block, layout) };
    }
}

/// Counts and samples, and no free is told anything: what the others add to.
pub(crate) struct NoMark;

impl Mark for NoMark {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        // SAFETY: no size of this bench is zero.
        unsafe { System.alloc(layout) }
    }

    #[inline(always)]
    fn is_suspect(&self, _block: *mut u8, _layout: Layout) -> bool {
        false
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        // SAFETY: given by the caller.
        unsafe { System.dealloc(block, layout) };
    }
}

/// Counters that all threads share, and nothing else.
pub(crate) struct SharedCounters {
    sums: Line,
}

#[repr(align(128))]
struct Line([AtomicU64; 4]);

impl SharedCounters {
    pub(crate) const fn new() -> Self {
        Self { sums: Line([const { AtomicU64::new(0) }; 4]) }
    }

    #[inline(always)]
    fn count(&self, first: usize, size: usize) {
        // Relaxed: sums.
        self.sums.0[first].fetch_add(size as u64, Ordering::Relaxed);
        self.sums.0[first + 1].fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: all is the system's.
unsafe impl GlobalAlloc for SharedCounters {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(0, layout.size());
        // SAFETY: given by the caller.
        unsafe { System.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.count(2, layout.size());
        // SAFETY: given by the caller.
        unsafe { System.dealloc(block, layout) };
    }
}
