//! Heap: which allocations are alive, and what was allocated, where.
//!
//! **Problem.** A sample must be found again when its block is freed, by any thread, and all other
//! frees, 10,000 to one, should not pay for it.
//!
//! **Idea.** A sampled block of up to 64 KiB is handed out 8 bytes behind the address that the inner
//! allocator gave, which is a multiple of 16. Addresses ≡ 8 mod 16 are rare otherwise (glibc never
//! gives one, jemalloc and mimalloc for blocks of up to 8 bytes only), so the address alone tells a
//! free that it need not look. Larger blocks and stricter alignments are looked up at each
//! free: the former are rare and dear, the latter cannot be shifted by 8. Whether a block was sampled
//! says the set of live samples ([`buffer::live_set`](crate::buffer::live_set)) alone, so an inner
//! allocator with other habits costs time, not truth. The block's memory is never written to, large
//! blocks keep their page alignment, and `realloc` of one may still move pages instead of bytes.
//!
//! **Refused**, by what mixed sizes cost more than this (`benches/README.md`): a filter that counts the live
//! samples, asked at each free, 5.5 to 6 ns; one that forgets nothing 12 to 14 ns, and 21 and more as it fills; counters that
//! threads share, 3.4 times the inner allocator's cost when two threads run at once. A header in the shifted
//! block, and a range of addresses for sampled blocks, cost the same within the noise; the one
//! trusts any address ≡ 8 mod 16, the other is an allocator of its own.
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
use self::live::{Sample, enter};
use crate::buffer::counters::{Due, Totals};
use crate::buffer::live_set::Held;
use crate::capture::{self, rates};
use crate::sys;

/// How far behind the inner allocator's address a sampled block of up to [`LARGE`] begins.
const SHIFT: usize = 8;
/// What the inner address of a shifted block is a multiple of.
const INNER_ALIGN: usize = 2 * SHIFT;
/// From this size on blocks are looked up at each free.
const LARGE: usize = 64 << 10;
/// Moves alignments that cannot be shifted to where large sizes have their bits.
const ALIGN_BITS: u32 = LARGE.ilog2() - INNER_ALIGN.ilog2();

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

/// The bits of a free by which it is told whether to look the block up: those of the size, and above
/// them the alignment plus 16 for an address ≡ 8 mod 16. That sum is 16 or more, and so beside the
/// bits of large sizes, unless the alignment is up to 8 and the address is a multiple of 16. (An
/// alignment of 2⁵² and more would be shifted out; no address is so aligned.)
#[inline(always)]
fn bits(block: *mut u8, align: usize, size: usize) -> u64 {
    const _: () =
        assert!(INNER_ALIGN << ALIGN_BITS == LARGE && thread::WATCHED == !(LARGE as u64 - 1));
    (((block.addr() & SHIFT) * 2 + align) as u64) << ALIGN_BITS | size as u64
}

/// Whether a sampled block of that layout is shifted.
const fn is_shifted(layout: Layout) -> bool {
    layout.align() <= SHIFT && layout.size() < LARGE
}

/// Returns the layout of the inner block that holds a shifted one.
fn inner_layout(layout: Layout) -> Layout {
    let size = (layout.size() + SHIFT).max(INNER_ALIGN);
    // SAFETY: the alignment is a power of two, and the size far from the greatest.
    unsafe { Layout::from_size_align_unchecked(size, INNER_ALIGN) }
}

// SAFETY: blocks come from the inner allocator, with the layout that was asked for or, shifted, with
// one that holds it behind the shift; each is given back with the address and the layout that it came
// with, which the set of live samples tells.
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
        let bits = bits(block, layout.align(), layout.size());
        if !thread::current().free(layout.size(), bits) {
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
        let bits = bits(block, layout.align(), layout.size() | size);
        let counted =
            if counters.is_watched(bits) { Err(counters.due()) } else { counters.allocate(size) };
        if let Err(due) = counted {
            // SAFETY: given by the caller.
            return unsafe { self.realloc_slow(block, layout, size, due) };
        }
        // SAFETY: not sampled, so it is the inner allocator's with this layout.
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
            unsafe { ask(&self.inner, layout) }
        };
        let Some(rate) = rate else { return plain() };
        let shifted = is_shifted(layout);
        if !shifted {
            let block = plain();
            if !block.is_null() {
                enter(block, layout.size(), rate, false);
            }
            return block;
        }
        let inner = inner_layout(layout);
        // SAFETY: the size is not zero.
        let base = unsafe { ask(&self.inner, inner) };
        if base.is_null() {
            // There may be room for the block without the shift.
            let block = plain();
            if !block.is_null() {
                live::lose(sampler::weight(layout.size() as u64, rate));
            }
            return block;
        }
        // SAFETY: the inner block is larger by this.
        let block = unsafe { base.add(SHIFT) };
        if enter(block, layout.size(), rate, true) {
            return block;
        }
        // Without an entry a shifted block would not be known at its free.
        // SAFETY: allocated above, with this layout.
        unsafe { self.inner.dealloc(base, inner) };
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
        let sample = held.as_ref().map(Sample::of);
        // Before the inner allocator may give the address to another thread.
        if let Some(held) = held {
            held.release();
        }
        if let Some(sample) = sample {
            sample.count_free();
        }
        if sample.is_some_and(|sample| sample.shifted) {
            // SAFETY: allocated so by `alloc_decided`.
            let base = unsafe { block.sub(SHIFT) };
            // SAFETY: as above.
            unsafe { self.inner.dealloc(base, inner_layout(layout)) };
        } else {
            // SAFETY: given by the caller; it was allocated with this layout.
            unsafe { self.inner.dealloc(block, layout) };
        }
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
        let was_shifted = held.as_ref().is_some_and(|held| Sample::of(held).shifted);
        let is_in_place = !was_shifted && (rate.is_none() || !is_shifted(new));
        let moved = if is_in_place {
            // SAFETY: not shifted, so it is the inner allocator's with this layout.
            let moved = unsafe { self.inner.realloc(block, layout, size) };
            match held {
                Some(held) if moved.is_null() => held.put_back(),
                Some(held) => {
                    Sample::of(&held).count_free();
                    held.release();
                }
                None => {}
            }
            if !moved.is_null()
                && let Some(rate) = rate
            {
                enter(moved, size, rate, false);
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

    #[test]
    fn looked_up_are_shifted_and_large_blocks_and_stricter_alignments() {
        let sizes = [1, 8, 24, LARGE - 1, LARGE, LARGE + 1, isize::MAX as usize - 7];
        let aligns = (0..usize::BITS.min(52)).map(|log| 1_usize << log);
        for (size, align) in
            sizes.into_iter().flat_map(|size| aligns.clone().map(move |a| (size, a)))
        {
            for address in [0x7f00_0010, 0x7f00_0018, 0x7f00_0011, 0x7f00_0014] {
                let bits = bits(ptr::without_provenance_mut(address), align, size);
                assert_eq!(
                    bits & thread::WATCHED != 0,
                    address & SHIFT != 0 || align > SHIFT || size >= LARGE,
                    "{address:x}, {size} bytes aligned to {align}"
                );
            }
        }
    }
}
