//! Which pages of the address space hold live samples: what every free asks before it looks one up.
//!
//! **Problem.** One free in thousands is of a sampled block. All others should find out that theirs is
//! not by less than a look-up, and without a mark on the block, which is the inner allocator's.
//!
//! **Idea.** A count for each page of 4 KiB of how many samples in it are alive; pages that lie a
//! multiple of [`PAGES`] apart share one. At the default rate one page in 128 holds a sample, and only
//! blocks of that page are looked up in vain. Blocks that a program uses together lie together, so their
//! counts do too: a line of the cache has those of 256 KiB. A filter by a hash of the address has the same chance
//! of a look-up in vain, but every free asks another line.
//!
//! **Why relaxed orders suffice.** Whoever frees a block was handed it after it was entered, and so reads
//! a count that has it. What others do to the count meanwhile takes out only what they had entered.

use super::primitive::{AtomicU8, Ordering};

/// Counts, in 2 MiB, of which the system gives what is used: 4 KiB for 16 MiB of heap. They repeat after
/// 8 GiB, so that of the frees of a heap of 10 GiB one in 100 looks in vain for the sake of others' samples.
pub(crate) const PAGES: usize = 1 << 21;
const PAGE_BITS: u32 = 12;

/// A count that stays: what made it so great is not known any more.
const FULL: u8 = u8::MAX;

/// Counts of live samples.
pub(crate) struct Vicinity<const PAGES: usize>([AtomicU8; PAGES]);

impl<const PAGES: usize> Vicinity<PAGES> {
    /// Makes one of so many zeros, a power of two.
    pub(crate) const fn new(zeros: [AtomicU8; PAGES]) -> Self {
        const { assert!(PAGES.is_power_of_two()) };
        Self(zeros)
    }

    /// Returns whether a block at this address may be sampled. `bits` are those of the number of its page
    /// that count: all, or none, to ask about page 0 whatever the address.
    #[inline(always)]
    pub(crate) fn may_hold(&self, address: usize, bits: usize) -> bool {
        // Relaxed: see the top of this file.
        self.0[(address >> PAGE_BITS) & bits & (PAGES - 1)].load(Ordering::Relaxed) != 0
    }

    /// Counts a sample at this address, before it is handed out.
    pub(crate) fn enter(&self, address: usize) {
        self.change(address, |count| (count != FULL).then(|| count + 1));
    }

    /// Takes back what [`Vicinity::enter`] has counted.
    pub(crate) fn leave(&self, address: usize) {
        self.change(address, |count| (count != FULL).then(|| count - 1));
    }

    /// Has a page be asked about for ever.
    pub(crate) fn fill(&self, address: usize) {
        self.change(address, |_| Some(FULL));
    }

    fn change(&self, address: usize, to: impl FnMut(u8) -> Option<u8>) {
        let count = &self.0[(address >> PAGE_BITS) & (PAGES - 1)];
        // Relaxed: see the top of this file. An error is a count that stays.
        let _ = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, to);
    }
}

impl<const PAGES: usize> std::fmt::Debug for Vicinity<PAGES> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vicinity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = usize::MAX;

    #[test]
    fn a_page_is_asked_about_as_long_as_it_holds_a_sample() {
        let vicinity = Vicinity::<4>::new([const { AtomicU8::new(0) }; 4]);
        let (first, second) = (0x7f00_0000_1010, 0x7f00_0000_1ff0);
        vicinity.enter(first);
        vicinity.enter(second);
        for address in [first, second, 0x1000, 0x5abc] {
            assert!(vicinity.may_hold(address, ALL), "{address:#x}");
        }
        for address in [0, 0x2010, 0x7f00_0000_0ff0] {
            assert!(!vicinity.may_hold(address, ALL), "{address:#x}");
        }
        vicinity.leave(first);
        assert!(vicinity.may_hold(first, ALL));
        vicinity.leave(second);
        assert!(!vicinity.may_hold(first, ALL));
    }

    #[test]
    fn a_count_that_is_full_stays() {
        let vicinity = Vicinity::<1>::new([const { AtomicU8::new(0) }]);
        for _ in 0..1000 {
            vicinity.enter(0);
        }
        for _ in 0..1000 {
            vicinity.leave(0);
            assert!(vicinity.may_hold(0, ALL));
        }
    }

    #[test]
    fn without_bits_every_address_is_that_of_page_0() {
        let vicinity = Vicinity::<2>::new([const { AtomicU8::new(0) }; 2]);
        assert!(!vicinity.may_hold(0x1000, 0));
        vicinity.fill(0);
        assert!(vicinity.may_hold(0x1000, 0));
        assert!(!vicinity.may_hold(0x1000, ALL));
    }
}
