//! A few words that one thread shows and others read whole or not at all.
//!
//! A sequence number is odd while something is shown and changes with every change, so a reader can
//! tell whether what it read was shown throughout. Nobody waits: a reader that comes at a change
//! sees nothing.

use super::primitive::{AtomicU64, Ordering, fence};

/// What is shown, if anything.
#[derive(Debug)]
pub(crate) struct Slot<const N: usize> {
    sequence: AtomicU64,
    words: [AtomicU64; N],
}

impl<const N: usize> Slot<N> {
    /// Makes a slot that shows nothing, of zeroes.
    pub(crate) const fn new(words: [AtomicU64; N], sequence: AtomicU64) -> Self {
        Self { sequence, words }
    }

    /// Shows words, or nothing. Only one thread may call this.
    pub(crate) fn store(&self, words: Option<[u64; N]>) {
        // Relaxed: this thread's own store.
        let settled = self.sequence.load(Ordering::Relaxed).wrapping_add(2) & !1;
        self.sequence.store(settled, Ordering::Relaxed);
        // Release fence: whoever reads a word stored below also sees the number changed.
        fence(Ordering::Release);
        if let Some(words) = words {
            for (word, value) in self.words.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
            // Release: pairs with the Acquire in `read`: the words are those of this number.
            self.sequence.store(settled | 1, Ordering::Release);
        }
    }

    /// Returns the words that are shown, and the number that `is_still` takes.
    pub(crate) fn read(&self) -> Option<([u64; N], u64)> {
        // Acquire: pairs with the Release in `store`.
        let sequence = self.sequence.load(Ordering::Acquire);
        if sequence & 1 == 0 {
            return None;
        }
        let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
        self.is_still(sequence).then_some((words, sequence))
    }

    /// Returns whether the same words have been shown since `sequence` was read.
    pub(crate) fn is_still(&self, sequence: u64) -> bool {
        // Acquire fence: pairs with the Release fence in `store`.
        fence(Ordering::Acquire);
        self.sequence.load(Ordering::Relaxed) == sequence
    }
}
