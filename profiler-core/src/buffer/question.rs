//! Questions to threads, asked by whoever reads and answered in a signal handler: where are you?
//!
//! **Problem.** Neither side may wait for the other for good. A thread may be stopped before or in
//! its handler for as long as it likes, and then still answer; who asked may have gone on by then.
//!
//! **Idea.** Places for answers live for ever, and a word tells whose turn it is:
//!
//! | state | belongs to | goes on to |
//! |---|---|---|
//! | 0 | nobody | `CLAIMED`, by whoever asks |
//! | `CLAIMED` | who asks, writing the question | `ASKED` |
//! | `ASKED` | nobody | `WRITING`, by the thread that is asked; 0, if the question is taken back |
//! | `WRITING` | the thread, writing its answer | `ANSWERED`; 0 if it was given up |
//! | `GIVEN_UP` | the thread, whose answer nobody wants | 0 |
//! | `ANSWERED` | who asked, reading | 0 |
//!
//! The thread's number stands beside the state, so that a handler finds its questions by comparing
//! words that lie side by side, 64 to a chunk.

#![allow(unsafe_code, reason = "a place belongs to whom its word says")]

use std::cell::UnsafeCell;
use std::ptr;

use super::primitive::{AtomicPtr, AtomicU64, Ordering};

const CLAIMED: u64 = 1;
const ASKED: u64 = 2;
const WRITING: u64 = 3;
const GIVEN_UP: u64 = 4;
const ANSWERED: u64 = 5;
/// Bits of the state, below the thread's number.
const STATE_BITS: u32 = 3;

/// Places of a chunk: a program has few threads that are asked at once, or hundreds.
const PLACES: usize = 64;

const fn word(thread: u32, state: u64) -> u64 {
    (thread as u64) << STATE_BITS | state
}

/// All places for answers of type `A`.
pub(crate) struct Questions<A, const N: usize = PLACES> {
    chunks: AtomicPtr<Chunk<A, N>>,
}

/// Some places; never freed.
pub(crate) struct Chunk<A, const N: usize> {
    words: [AtomicU64; N],
    answers: [UnsafeCell<A>; N],
    older: *const Self,
}

/// A place, and the thread that is asked there.
#[derive(Debug)]
pub(crate) struct Question<A: 'static> {
    word: &'static AtomicU64,
    answer: &'static UnsafeCell<A>,
    thread: u32,
}

// SAFETY: answers are touched by whom their word says alone.
unsafe impl<A: Send, const N: usize> Sync for Questions<A, N> {}
// SAFETY: the place is the question's until it is answered or taken back, on whatever thread.
unsafe impl<A: Send> Send for Question<A> {}

impl<A: 'static, const N: usize> Questions<A, N> {
    /// Takes a null pointer.
    pub(crate) const fn new(chunks: AtomicPtr<Chunk<A, N>>) -> Self {
        Self { chunks }
    }

    fn chunks(&self) -> impl Iterator<Item = &'static Chunk<A, N>> + use<A, N> {
        // Acquire: pairs with the Release in `add`.
        let newest = self.chunks.load(Ordering::Acquire).cast_const();
        let chunk = |chunk: *const Chunk<A, N>| {
            // SAFETY: null, or a chunk, which lives for ever.
            unsafe { chunk.as_ref() }
        };
        std::iter::successors(chunk(newest), move |newer| chunk(newer.older))
    }

    /// Puts a question to a thread, in a place whose answer `prepare` may change before. The thread is
    /// still to be told. Allocates if all places are taken.
    pub(crate) fn ask(&self, thread: u32, prepare: impl FnOnce(&mut A)) -> Question<A>
    where
        A: Default,
    {
        let question = loop {
            if let Some(question) = self.chunks().find_map(|chunk| chunk.claim(thread)) {
                break question;
            }
            self.add();
        };
        // SAFETY: claimed.
        prepare(unsafe { &mut *question.answer.get() });
        // Release: pairs with the Acquire in `answer`.
        question.word.store(word(thread, ASKED), Ordering::Release);
        question
    }

    fn add(&self)
    where
        A: Default,
    {
        // Relaxed: published below; whoever reads it takes it from there.
        let mut newest = self.chunks.load(Ordering::Relaxed);
        let chunk = Box::into_raw(Box::new(Chunk {
            words: std::array::from_fn(|_| AtomicU64::new(0)),
            answers: std::array::from_fn(|_| UnsafeCell::default()),
            older: newest,
        }));
        // Release: pairs with the Acquire in `chunks`; Acquire for the chunk that is found instead.
        while let Err(found) =
            self.chunks.compare_exchange(newest, chunk, Ordering::Release, Ordering::Acquire)
        {
            newest = found;
            // SAFETY: not published yet.
            unsafe { (*chunk).older = newest };
        }
    }

    /// Answers all questions to a thread, on which it must be called; false if there are none.
    ///
    /// # Signal safety
    ///
    /// Atomics and what `write` does.
    pub(crate) fn answer(&self, thread: u32, mut write: impl FnMut(&mut A)) -> bool {
        let mut any = false;
        for chunk in self.chunks() {
            for (place, answer) in chunk.words.iter().zip(&chunk.answers) {
                let exchange = |from, to, order| {
                    place.compare_exchange(
                        word(thread, from),
                        word(thread, to),
                        order,
                        Ordering::Relaxed,
                    )
                };
                // Relaxed: a hint. Acquire: pairs with the Release in `ask`.
                if place.load(Ordering::Relaxed) != word(thread, ASKED)
                    || exchange(ASKED, WRITING, Ordering::Acquire).is_err()
                {
                    continue;
                }
                any = true;
                // SAFETY: this thread's while the word says so.
                write(unsafe { &mut *answer.get() });
                // Release: pairs with the Acquire in `is_answered`.
                if exchange(WRITING, ANSWERED, Ordering::Release).is_err() {
                    // Release: pairs with the Acquire in `claim`.
                    place.store(0, Ordering::Release);
                }
            }
        }
        any
    }

    /// Frees all places, in the child of a fork, where nobody asks and nobody answers. Those stay taken that
    /// somebody was preparing, since the answer may be half written.
    ///
    /// # Signal safety
    ///
    /// Stores only.
    pub(crate) fn forked(&self) {
        for chunk in self.chunks() {
            for place in &chunk.words {
                // Relaxed, both: the child has one thread.
                if place.load(Ordering::Relaxed) & ((1 << STATE_BITS) - 1) != CLAIMED {
                    place.store(0, Ordering::Relaxed);
                }
            }
        }
    }
}

impl<A: 'static, const N: usize> Chunk<A, N> {
    fn claim(&'static self, thread: u32) -> Option<Question<A>> {
        self.words.iter().zip(&self.answers).find_map(|(place, answer)| {
            // Relaxed: a hint. Acquire: pairs with the Release stores of 0.
            let claimed = place.load(Ordering::Relaxed) == 0
                && place
                    .compare_exchange(
                        0,
                        word(thread, CLAIMED),
                        Ordering::Acquire,
                        Ordering::Relaxed,
                    )
                    .is_ok();
            // Made only then: one that is dropped takes its question back.
            claimed.then(|| Question { word: place, answer, thread })
        })
    }
}

impl<A> Question<A> {
    /// Returns the number of the thread that is asked.
    pub(crate) const fn thread(&self) -> u32 {
        self.thread
    }

    /// Returns whether the answer is there.
    pub(crate) fn is_answered(&self) -> bool {
        // Acquire: pairs with the Release in `answer`.
        self.word.load(Ordering::Acquire) == word(self.thread, ANSWERED)
    }

    /// Returns what `read` makes of the answer; nothing if there is none, and then it is taken back.
    pub(crate) fn read<R>(self, read: impl FnOnce(&A) -> R) -> Option<R> {
        // SAFETY: this question's, once it is answered, until the word says otherwise.
        self.is_answered().then(|| read(unsafe { &*self.answer.get() }))
    }
}

impl<A> Drop for Question<A> {
    fn drop(&mut self) {
        let thread = self.thread;
        let exchange = |from, to| {
            // Release, all: pairs with the Acquire in `claim`.
            let to = if to == 0 { 0 } else { word(thread, to) };
            self.word.compare_exchange(word(thread, from), to, Ordering::Release, Ordering::Relaxed)
        };
        // A place goes one way, so one of these succeeds.
        let _ = exchange(ASKED, 0)
            .or_else(|_| exchange(WRITING, GIVEN_UP))
            .or_else(|_| exchange(ANSWERED, 0));
    }
}

impl<A, const N: usize> std::fmt::Debug for Questions<A, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Questions").field("chunks", &ptr::from_ref(self)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_questions_to_one_thread_are_both_answered() {
        let questions: Questions<u64> = Questions::new(AtomicPtr::new(ptr::null_mut()));
        let asked = [1, 2].map(|number| questions.ask(7, |answer| *answer = number));
        assert!(questions.answer(7, |answer| *answer *= 10));
        assert_eq!(asked.map(|question| question.read(|answer| *answer)), [Some(10), Some(20)]);
    }
}
