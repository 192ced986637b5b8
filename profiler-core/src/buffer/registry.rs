//! A list of blocks, each of which one thread at a time owns.
//!
//! Blocks are pushed and never taken out. A block whose thread is gone, by the kernel's word, is
//! free for the next thread that asks; a compare-and-swap of its owner's number decides between
//! two that ask at once. What a block holds stays: the next owner adds to it.

#![allow(unsafe_code, reason = "a list of blocks that are never freed")]

use std::ptr;
use std::ptr::NonNull;

use super::primitive::{AtomicPtr, AtomicU32, Ordering};

/// What the registry needs of a block.
pub(crate) trait Block: Sync + 'static {
    /// The number of the thread that owns it.
    fn owner(&self) -> &AtomicU32;
    /// The next block of the list; written by the registry before the block is seen.
    fn next(&self) -> &AtomicPtr<Self>
    where
        Self: Sized;
}

/// The list.
pub(crate) struct Registry<B> {
    newest: AtomicPtr<B>,
}

impl<B: Block> Registry<B> {
    /// Makes a list of a null pointer.
    pub(crate) const fn new(newest: AtomicPtr<B>) -> Self {
        Self { newest }
    }

    /// Returns all blocks, newest first; any thread may call this at any time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static B> {
        // Acquire: pairs with the Release in `push`; the block is initialised.
        let mut next = self.newest.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: null, or a block that was initialised before it was pushed; never freed.
            let block: &'static B = unsafe { next.as_ref() }?;
            // Relaxed: written before the block was pushed, never after.
            next = block.next().load(Ordering::Relaxed);
            Some(block)
        })
    }

    /// Takes over a block whose owner is gone.
    ///
    /// A block that names `owner` itself belonged to a thread that is gone and whose number has
    /// come round again: numbers of living threads are unique.
    pub(crate) fn claim(&self, owner: u32, is_alive: impl Fn(u32) -> bool) -> Option<&'static B> {
        self.iter().find(|block| {
            // Relaxed: only a hint; the exchange below decides.
            let held_by = block.owner().load(Ordering::Relaxed);
            if held_by == owner {
                return true;
            }
            // AcqRel: a thread that has ended has written all it will, and the kernel's word for
            // its end orders that before; two claimants are ordered by this exchange.
            !is_alive(held_by)
                && block
                    .owner()
                    .compare_exchange(held_by, owner, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        })
    }

    /// Adds a block, which its owner has filled in.
    pub(crate) fn push(&self, block: NonNull<B>) -> &'static B {
        // SAFETY: given initialised, and never freed.
        let block: &'static B = unsafe { block.as_ref() };
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the exchange below.
            block.next().store(newest, Ordering::Relaxed);
            // Release: pairs with the Acquire in `iter`. Relaxed on failure: only the pointer is
            // used, to try again.
            match self.newest.compare_exchange_weak(
                newest,
                ptr::from_ref(block).cast_mut(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return block,
                Err(changed) => newest = changed,
            }
        }
    }
}
