//! What one thread has allocated and freed, exactly, and where its next sample lies.
//!
//! One writer, by loads and stores, as in a tally. The count of allocated bytes is the sampler's
//! clock too: an allocation is sampled when it takes the count to `next_sample`, so that whoever
//! counts pays one load and one comparison for sampling. Whoever changes the rate sets every
//! thread's `next_sample` to 0; at its next allocation the thread draws again. Draws are
//! memoryless, so that drawing again biases nothing.

use std::cell::Cell;

use super::primitive::{AtomicPtr, AtomicU64, Ordering, fence};
use super::registry::{Block, Owner};

/// What the process has set, and every thread follows.
#[derive(Debug)]
pub(crate) struct Sampling {
    /// Mean bytes between two samples; 0 takes none, 1 every allocation.
    rate: AtomicU64,
}

impl Sampling {
    /// Takes an atomic of value 0: nothing is sampled.
    pub(crate) const fn new(rate: AtomicU64) -> Self {
        Self { rate }
    }

    pub(crate) fn rate(&self) -> u64 {
        // Relaxed: ordered by the fence in `draw`.
        self.rate.load(Ordering::Relaxed)
    }

    /// Sets the rate, and has all threads follow. `all` gives the counters of every thread that has
    /// joined; it is called after the rate is set.
    pub(crate) fn set<'a, All>(&self, rate: u64, all: impl Fn() -> All)
    where
        All: Iterator<Item = &'a Counters>,
    {
        // Relaxed: ordered by the fence.
        self.rate.store(rate, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `draw`. A thread either sees the rate after it
        // has placed its next sample, or that place is overwritten here.
        fence(Ordering::SeqCst);
        for counters in all() {
            // Relaxed: ordered by the fence.
            counters.next_sample.store(0, Ordering::Relaxed);
        }
    }
}

/// The sums of one thread.
#[repr(C, align(64))]
pub(crate) struct Counters {
    allocated_bytes: AtomicU64,
    allocated_objects: AtomicU64,
    freed_bytes: AtomicU64,
    freed_objects: AtomicU64,
    /// The count of allocated bytes at which the next sample is due; the greatest number for never.
    next_sample: AtomicU64,
    /// Bits of the number of a block's page by which a free asks about it.
    page_bits: usize,
    owner: Owner,
    next: AtomicPtr<Counters>,
    // The owner's alone.
    /// The rate by which `next_sample` was drawn.
    rate: Cell<u64>,
    random: Cell<u64>,
}

// SAFETY: the cells are touched by the owning thread alone, which `decide` demands.
#[allow(unsafe_code, reason = "cells of the one thread that owns the block")]
unsafe impl Sync for Counters {}

impl Block for Counters {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

/// The count of allocated bytes at which a sample is due; 0 if that is still to be drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due(u64);

/// Bytes and objects, allocated and freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) allocated_bytes: u64,
    pub(crate) allocated_objects: u64,
    pub(crate) freed_bytes: u64,
    pub(crate) freed_objects: u64,
}

impl Counters {
    /// Makes counters from five atomics of value 0, a null pointer, and the bits of the number
    /// of its page by which a free asks: all, or none to lead all frees off their fast path. `next_sample` is
    /// 0 too, so the first allocation leaves it as well.
    pub(crate) const fn new(
        zeros: [AtomicU64; 5],
        page_bits: usize,
        owner: Owner,
        next: AtomicPtr<Self>,
    ) -> Self {
        let [allocated_bytes, allocated_objects, freed_bytes, freed_objects, next_sample] = zeros;
        Self {
            allocated_bytes,
            allocated_objects,
            freed_bytes,
            freed_objects,
            next_sample,
            page_bits,
            owner,
            next,
            rate: Cell::new(0),
            random: Cell::new(0),
        }
    }

    /// Begins with a thread that has added the counters to those that [`Sampling::set`] is given.
    pub(crate) fn begin(&self, seed: u64) {
        self.seed(seed);
        // Relaxed: whoever sets the rate meanwhile stores the same, or is heard by `draw`.
        self.next_sample.store(0, Ordering::Relaxed);
    }

    /// Seeds the generator of random numbers: seeds that differ in any bit give sequences that have
    /// nothing in common. Owner only.
    pub(crate) fn seed(&self, seed: u64) {
        // The finalizer of splitmix64; the generator never leaves zero.
        let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.random.set((x ^ x >> 31) | 1);
    }

    /// Counts an allocation unless a sample is due, for [`Counters::decide`]. Owner only.
    #[inline]
    pub(crate) fn allocate(&self, size: usize) -> Result<(), Due> {
        // Relaxed, here and below: sums, of which this thread is the one writer.
        let bytes = self.allocated_bytes.load(Ordering::Relaxed).wrapping_add(size as u64);
        let due = self.due();
        if bytes >= due.0 {
            return Err(due);
        }
        self.allocated_bytes.store(bytes, Ordering::Relaxed);
        bump(&self.allocated_objects, 1);
        Ok(())
    }

    /// Returns when the next sample is due.
    #[inline]
    pub(crate) fn due(&self) -> Due {
        // Relaxed: whoever changes it meanwhile is heard at the next allocation.
        Due(self.next_sample.load(Ordering::Relaxed))
    }

    /// Counts an allocation whatever is due. Owner only.
    pub(crate) fn count_allocation(&self, size: usize) {
        bump(&self.allocated_bytes, size as u64);
        bump(&self.allocated_objects, 1);
    }

    /// Takes back an allocation that was counted and then failed. Owner only.
    #[cold]
    pub(crate) fn take_back(&self, size: usize) {
        bump(&self.allocated_bytes, (size as u64).wrapping_neg());
        bump(&self.allocated_objects, u64::MAX);
        self.forget_sample();
    }

    /// Returns the bits of the number of a block's page by which a free asks about it.
    #[inline]
    pub(crate) fn page_bits(&self) -> usize {
        self.page_bits
    }

    /// Counts a free. Owner only.
    #[inline]
    pub(crate) fn count_free(&self, size: usize) {
        // Release, both: pairs with the Acquire in `add_freed`: what is freed was allocated before.
        // PERF: each load beside its store becomes one instruction.
        let objects = self.freed_objects.load(Ordering::Relaxed).wrapping_add(1);
        self.freed_objects.store(objects, Ordering::Release);
        let bytes = self.freed_bytes.load(Ordering::Relaxed).wrapping_add(size as u64);
        self.freed_bytes.store(bytes, Ordering::Release);
    }

    /// Counts for threads that have no counters of their own: many writers.
    pub(crate) fn count_shared(&self, allocated: Option<usize>, freed: Option<usize>) {
        if let Some(size) = allocated {
            self.allocated_bytes.fetch_add(size as u64, Ordering::Relaxed);
            self.allocated_objects.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(size) = freed {
            // Release, both: as in `count_free`.
            self.freed_objects.fetch_add(1, Ordering::Release);
            self.freed_bytes.fetch_add(size as u64, Ordering::Release);
        }
    }

    /// Decides whether an allocation of that size, not counted yet, is sampled, and returns the rate
    /// by which it is. `due` is what the allocation found when it began; `gap` makes of a random number what
    /// says the distance to the next sample by a rate. Owner only.
    ///
    /// What was drawn when the allocation began decides, though the rate may change meanwhile: to draw
    /// again because a sample is due would lose samples.
    pub(crate) fn decide<G: Fn(u64) -> u64>(
        &self,
        due: Due,
        size: usize,
        sampling: &Sampling,
        gap: impl Fn(u64) -> G,
    ) -> Option<u64> {
        let before = self.allocated_bytes.load(Ordering::Relaxed);
        let next = match (self.due().0, due.0) {
            (0, 0) => self.draw(before, sampling, &gap),
            (0, drawn) | (drawn, _) => drawn,
        };
        let after = before.wrapping_add(size as u64);
        let rate = self.rate.get();
        if rate == 0 || after < next {
            return None;
        }
        self.draw(after, sampling, &gap);
        Some(rate)
    }

    /// Has the next allocation draw again, after one has failed, sampled or not: if it was not, the next
    /// sample is known to lie beyond its size, and to keep that would bias.
    pub(crate) fn forget_sample(&self) {
        self.next_sample.store(0, Ordering::Relaxed);
    }

    /// Draws once, whatever the rate is by then: a rate that changes has the rest done again, and if that
    /// took longer with some numbers than with others, it would be those that are seldom taken.
    fn draw<G: Fn(u64) -> u64>(
        &self,
        from: u64,
        sampling: &Sampling,
        gap: impl Fn(u64) -> G,
    ) -> u64 {
        let gap = gap(self.random());
        loop {
            let rate = sampling.rate();
            let next = if rate == 0 { u64::MAX } else { from.saturating_add(gap(rate)) };
            self.rate.set(rate);
            // Relaxed: ordered by the fence.
            self.next_sample.store(next, Ordering::Relaxed);
            // SeqCst: pairs with the fence in `Sampling::set`.
            fence(Ordering::SeqCst);
            if sampling.rate() == rate {
                return next;
            }
        }
    }

    /// Returns the next of a sequence of random numbers (xorshift64).
    fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// Adds what was freed. To be read of all threads before [`Counters::add_allocated`] of any.
    pub(crate) fn add_freed(&self, totals: &mut Totals) {
        // Acquire, both: pairs with the Release in `count_free`.
        totals.freed_bytes += self.freed_bytes.load(Ordering::Acquire);
        totals.freed_objects += self.freed_objects.load(Ordering::Acquire);
    }

    /// Adds what was allocated.
    pub(crate) fn add_allocated(&self, totals: &mut Totals) {
        totals.allocated_bytes += self.allocated_bytes.load(Ordering::Relaxed);
        totals.allocated_objects += self.allocated_objects.load(Ordering::Relaxed);
    }

    /// Gives the counters of the forking thread to its copy in the child. Owner only.
    pub(crate) fn settle(&self, thread: u32, process: u32) {
        self.owner.settle(thread, process);
    }
}

/// Adds where there is one writer: a load and a store, not a locked instruction.
#[inline]
fn bump(sum: &AtomicU64, value: u64) {
    sum.store(sum.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut totals = Totals::default();
        self.add_freed(&mut totals);
        self.add_allocated(&mut totals);
        totals.fmt(f)
    }
}

// The model checker includes this file from elsewhere.
#[cfg(test)]
#[path = "counters/tests.rs"]
mod tests;
