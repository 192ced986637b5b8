//! Heap: which allocations are alive, and what was allocated, where.
//!
//! **Problem.** A sample must be found again when its block is freed, by any thread, and all other
//! frees, 10,000 to one, should not pay for it. C code may free the block too, measure it, or rely on
//! its alignment, as it may where the inner allocator is C's.
//!
//! **Idea.** A sampled block of less than 64 KiB is asked of the inner allocator with an alignment of
//! [`ALIGN`]. Few other blocks have such an address, so the address alone tells a free that it need
//! not look. Larger blocks are looked up at each free: they are rare and dear. Whether a block was
//! sampled says the set of live samples ([`buffer::live_set`](crate::buffer::live_set)) alone, so an
//! inner allocator with other habits costs time, not truth. A block is the inner allocator's own:
//! nothing is written to it or before it, and it begins where the allocator says. Large blocks keep
//! their layout, so `realloc` of one may still move pages instead of bytes.
//!
//! **What C frees** leaves an entry behind, which is *stale*: its address may be handed out again for
//! another block. The inner allocator must get each block back by the layout that it was asked for,
//! so a stale entry must not be taken for that block's. Whoever allocates looks: an address that
//! [`is_suspect`] and comes from the inner allocator ends an entry that is there. Hence at a free of
//! such an address there is an entry if and only if this very block was sampled, and the layout
//! follows from that. An entry of a large block may be at any address, and stays until its address
//! is handed out as a large or a sampled one; by its layout nothing else is asked for, so that it can
//! only be counted too long.
//!
//! **Refused**, by what mixed sizes cost more than this (`benches/README.md`): a filter that counts the live
//! samples, asked at each free, 5.5 to 6 ns; one that forgets nothing 12 to 14 ns, and 21 and more as it fills; counters that
//! threads share, 3.4 times the inner allocator's cost when two threads run at once. Blocks that begin 8 bytes
//! behind the inner address cost the same, and C can neither free them nor measure them.
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
use self::live::enter;
use crate::buffer::counters::{Due, Totals};
use crate::buffer::live_set::Held;
use crate::capture::{self, rates};
use crate::sys;

/// What the address of a sampled block of less than [`LARGE`] bytes is a multiple of.
const ALIGN: usize = 1024;
/// From this size on blocks keep their layout and are looked up at each free.
const LARGE: usize = 64 << 10;

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
/// Memory that C code allocates, and what is mapped by `mmap`. Memory that Rust allocates must be
/// freed by Rust: a pointer handed to C's `free`, which is wrong with any allocator but happens to
/// work with `System`, crashes with this one if the block was sampled.
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

/// Whether a block may be in the set of live samples by its address. So may null, for which whoever
/// allocates need not look a second time.
#[inline(always)]
fn is_suspect(block: *mut u8) -> bool {
    block.addr() & (ALIGN - 1) == 0
}

/// Returns the layout by which a sampled block is asked for and given back.
const fn sampled(layout: Layout) -> Layout {
    if layout.size() >= LARGE || layout.align() >= ALIGN {
        return layout;
    }
    // SAFETY: the alignment is a power of two, and the size far from the greatest.
    unsafe { Layout::from_size_align_unchecked(layout.size(), ALIGN) }
}

// SAFETY: blocks are the inner allocator's. Each is given back with the layout that it was asked for:
// `sampled(layout)` if it has an entry in the set of live samples, else `layout`. That there is an entry
// only if there must be one, the top of this file says.
unsafe impl<A: GlobalAlloc> GlobalAlloc for ProfiledAllocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        sys::assert_may_allocate();
        if let Err(due) = thread::current().allocate(layout.size()) {
            // SAFETY: given by the caller.
            return unsafe { self.alloc_slow(layout, A::alloc, due) };
        }
        // SAFETY: given by the caller.
        let block = unsafe { self.inner.alloc(layout) };
        if is_suspect(block) { looked_at(block, layout.size()) } else { block }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        sys::assert_may_allocate();
        if let Err(due) = thread::current().allocate(layout.size()) {
            // SAFETY: given by the caller.
            return unsafe { self.alloc_slow(layout, A::alloc_zeroed, due) };
        }
        // SAFETY: given by the caller.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        if is_suspect(block) { looked_at(block, layout.size()) } else { block }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        sys::assert_may_allocate();
        if is_suspect(block) || !thread::current().free(layout.size()) {
            // SAFETY: given by the caller.
            return unsafe { Self::dealloc_slow(block, layout.size(), layout.align(), self) };
        }
        // SAFETY: not sampled, so it is the inner allocator's with this layout.
        unsafe { self.inner.dealloc(block, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        sys::assert_may_allocate();
        let counters = thread::current();
        let counted = if is_suspect(block) || counters.is_looked_up(layout.size().max(size)) {
            Err(counters.due())
        } else {
            counters.allocate(size)
        };
        if let Err(due) = counted {
            // SAFETY: given by the caller.
            return unsafe { self.realloc_slow(block, layout, size, due) };
        }
        // SAFETY: not sampled, so it is the inner allocator's with this layout.
        let moved = unsafe { self.inner.realloc(block, layout, size) };
        if is_suspect(moved) && looked_at(moved, size).is_null() {
            return moved;
        }
        counters.count_free(layout.size());
        moved
    }
}

/// Goes on with a suspect that the inner allocator has given for an allocation that is counted and not
/// sampled, and returns it: an entry of its address is of a block that was freed by others, and null is
/// no allocation.
#[cold]
#[inline(never)]
fn looked_at(block: *mut u8, size: usize) -> *mut u8 {
    if block.is_null() {
        thread::current().take_back(size);
    } else {
        live::end_stale(block);
    }
    block
}

/// How the inner allocator is asked: `alloc` or `alloc_zeroed`.
type Ask<A> = unsafe fn(&A, Layout) -> *mut u8;

impl<A: GlobalAlloc> ProfiledAllocator<A> {
    /// # Safety
    ///
    /// That of [`GlobalAlloc::alloc`].
    #[cold]
    #[inline(never)]
    unsafe fn alloc_slow(&self, layout: Layout, ask: Ask<A>, due: Due) -> *mut u8 {
        let rate = self.decide(due, layout.size());
        // SAFETY: given by the caller.
        let block = unsafe { self.alloc_decided(layout, ask, rate) };
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

    /// Allocates, sampled if there is a rate; counts nothing.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::alloc`].
    unsafe fn alloc_decided(&self, layout: Layout, ask: Ask<A>, rate: Option<u64>) -> *mut u8 {
        let plain = || {
            // SAFETY: given by the caller.
            let block = unsafe { ask(&self.inner, layout) };
            live::end_stale(block);
            block
        };
        let Some(rate) = rate else { return plain() };
        let inner = sampled(layout);
        // SAFETY: given by the caller; the layout differs in its alignment alone.
        let block = unsafe { ask(&self.inner, inner) };
        if block.is_null() && inner != layout {
            // There may be room for the block where it need not be aligned so.
            let block = plain();
            if !block.is_null() {
                live::lose(sampler::weight(layout.size() as u64, rate));
            }
            return block;
        }
        if block.is_null() || enter(block, layout.size(), rate) || inner == layout {
            return block;
        }
        // Without an entry it would be given back by the other layout.
        // SAFETY: allocated above, with this layout.
        unsafe { self.inner.dealloc(block, inner) };
        plain()
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
        count(block, None, Some(size));
        let held = live::hold(block);
        // SAFETY: given by the caller.
        unsafe { allocator.give_back(block, layout, held) };
    }

    /// Gives a block back to the inner allocator.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::dealloc`]; `held` is the block's entry in the set of live samples.
    unsafe fn give_back(&self, block: *mut u8, layout: Layout, held: Option<Held>) {
        let inner = if held.is_some() { sampled(layout) } else { layout };
        // Before the inner allocator may give the address to another thread.
        if let Some(held) = held {
            live::end(held);
        }
        // SAFETY: given by the caller; it was asked for with this layout.
        unsafe { self.inner.dealloc(block, inner) };
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
        // SAFETY: the caller sees to it that the new size with this alignment is a layout.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let rate = self.decide(due, size);
        let held = live::hold(block);
        let keeps_layout = (held.is_none() || sampled(layout) == layout)
            && (rate.is_none() || sampled(new) == new);
        let moved = if keeps_layout {
            // SAFETY: it was asked for with this layout.
            let moved = unsafe { self.inner.realloc(block, layout, size) };
            match held {
                Some(held) if moved.is_null() => held.put_back(),
                Some(held) => live::end(held),
                None => {}
            }
            match rate {
                Some(rate) if !moved.is_null() => {
                    enter(moved, size, rate);
                }
                _ => live::end_stale(moved),
            }
            moved
        } else {
            // SAFETY: given by the caller.
            let moved = unsafe { self.alloc_decided(new, A::alloc, rate) };
            if moved.is_null() {
                if let Some(held) = held {
                    held.put_back();
                }
            } else {
                // SAFETY: both are at least so long, and a new block overlaps no other.
                unsafe { ptr::copy_nonoverlapping(block, moved, size.min(layout.size())) };
                // SAFETY: given by the caller, who has done with the old block.
                unsafe { self.give_back(block, layout, held) };
            }
            moved
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is looked up at a free holds what a sample is asked for with.
    #[test]
    fn every_sampled_block_is_looked_up() {
        let sizes = [0, 1, 24, LARGE - 1, LARGE, LARGE + 1, isize::MAX as usize / 2];
        let aligns = (0..usize::BITS - 2).map(|log| 1_usize << log);
        for (size, align) in
            sizes.into_iter().flat_map(|size| aligns.clone().map(move |align| (size, align)))
        {
            let Ok(layout) = Layout::from_size_align(size, align) else { continue };
            let inner = sampled(layout);
            assert_eq!(inner.size(), size);
            let is_aligned =
                inner.align() >= ALIGN && is_suspect(ptr::without_provenance_mut(inner.align()));
            assert!(is_aligned || size >= LARGE && inner == layout, "{layout:?}: {inner:?}");
        }
    }
}
