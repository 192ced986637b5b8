//! Which pages of the address space hold live samples: what every free asks before it looks one up.
//!
//! **Problem.** One free in thousands is of a sampled block. All others should find out that theirs is
//! not by less than a look-up, and without a mark on the block, which is the inner allocator's.
//!
//! **Idea.** A word for each page of 4 KiB: how many samples in it are alive, and the exclusive or of their
//! addresses' hashes. At the default rate one page in 128 holds a sample, most of them one, whose hash
//! then tells it from its neighbours. Pages that lie a multiple of [`PAGES`] apart share a word. Blocks
//! that a program uses together lie together, so their words do too: a line of the cache has those of
//! 128 KiB. In a filter by a hash of the address every free asks another line.
//!
//! **Why relaxed orders suffice.** Whoever frees a block was handed it after it was entered, and so reads
//! a word that has it. What others do to the word meanwhile takes out only what they had entered.

use super::primitive::{AtomicU16, Ordering};

/// Words, in 2 MiB, of which the system gives what is used: 4 KiB for 8 MiB of heap. They repeat after
/// 4 GiB, so that of a heap of 10 GiB one page in 50 shares its word with the page of a sample.
pub(crate) const PAGES: usize = 1 << 20;
const PAGE_BITS: u32 = 12;

/// What one sample adds to the upper half of a word; the lower one has the hashes.
const ONE: u16 = 1 << 8;
/// A word that stays, once so many samples were alive at a time: what may be taken back is not known.
const FULL: u16 = u16::MAX;

/// The words of all pages.
pub(crate) struct Vicinity<const PAGES: usize>([AtomicU16; PAGES]);

impl<const PAGES: usize> Vicinity<PAGES> {
    /// Makes one of so many zeros, a power of two.
    pub(crate) const fn new(zeros: [AtomicU16; PAGES]) -> Self {
        const { assert!(PAGES.is_power_of_two()) };
        Self(zeros)
    }

    /// Returns whether there are samples in the page of this address. `bits` are those of the page's number
    /// that count: all, or none, to ask about page 0 whatever the address.
    #[inline(always)]
    pub(crate) fn is_inhabited(&self, address: usize, bits: usize) -> bool {
        self.word(address, bits) != 0
    }

    /// Returns whether a block at this address may be sampled: seldom, if it is not. `bits` as above.
    pub(crate) fn may_hold(&self, address: usize, bits: usize) -> bool {
        let word = self.word(address, bits);
        word >= 2 * ONE || word == ONE | hash(address)
    }

    #[inline(always)]
    fn word(&self, address: usize, bits: usize) -> u16 {
        // Relaxed: see the top of this file.
        self.0[(address >> PAGE_BITS) & bits & (PAGES - 1)].load(Ordering::Relaxed)
    }

    /// Enters a sample, before it is handed out.
    pub(crate) fn enter(&self, address: usize) {
        self.change(address, |word| word.wrapping_add(ONE));
    }

    /// Takes back what [`Vicinity::enter`] has entered.
    pub(crate) fn leave(&self, address: usize) {
        self.change(address, |word| word.wrapping_sub(ONE));
    }

    /// Has the page of this address be inhabited for ever.
    pub(crate) fn fill(&self, address: usize) {
        // Relaxed: whoever asks was handed a block after this.
        self.0[(address >> PAGE_BITS) & (PAGES - 1)].store(FULL, Ordering::Relaxed);
    }

    fn change(&self, address: usize, count: impl Fn(u16) -> u16) {
        let change = |word: u16| match word {
            FULL => None,
            _ if count(word) >= FULL - FULL % ONE => Some(FULL),
            _ => Some(count(word) ^ hash(address)),
        };
        let word = &self.0[(address >> PAGE_BITS) & (PAGES - 1)];
        // Relaxed: see the top of this file. An error is a word that stays.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }
}

/// Returns eight bits that depend on all of an address.
fn hash(address: usize) -> u16 {
    ((address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u16
}

impl<const PAGES: usize> std::fmt::Debug for Vicinity<PAGES> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vicinity").finish_non_exhaustive()
    }
}

// The model checker and a bench include this file from elsewhere.
#[cfg(test)]
#[path = "vicinity/tests.rs"]
mod tests;
