//! A side of a thread's block: one is written by its ordinary code, one by its signal handlers.

#![allow(unsafe_code, reason = "memory that one writer at a time has")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;

use super::table::Memory;
use super::tally::Tally;
use crate::sys;

/// Slots of a tally's first segment: 256 bytes, enough for 24 stacks.
const FIRST_SLOTS: usize = 32;
/// Memory of tallies that are written in signal handlers: no allocator.
pub(super) const MAPPED: Memory = Memory {
    fetch: |layout| sys::map_memory(layout.size()),
    give_back: |memory, layout| sys::unmap_memory(memory, layout.size()),
    chunk: 64 << 10,
};

/// Frames that may stand above the user's own and are cut off when a profile is read.
const OWN_FRAMES: usize = 32;

/// A tally and what its writer needs.
pub(super) struct Side {
    pub(super) tally: Tally,
    /// Room for so many frames of a capture, and behind them for so many bytes of a stack.
    pub(super) scratch: (NonNull<u64>, usize, usize),
}

/// Room for a piece of a stack that is copied, which one is that is not the thread's.
pub(super) const STACK_COPY: usize = 4096;

impl Side {
    /// Makes a side for captures of so many frames, and of stacks by copies of so many bytes.
    pub(super) fn new(memory: Memory, depth: usize, copy: usize) -> Option<Self> {
        let frames = depth + OWN_FRAMES;
        // SAFETY: the layout is not of size zero.
        let scratch = unsafe { System.alloc_zeroed(Self::layout(frames, copy)) };
        let scratch = NonNull::new(scratch)?.cast::<u64>();
        Some(Self {
            tally: Tally::new([const { AtomicPtr::new(ptr::null_mut()) }; 2], FIRST_SLOTS, memory),
            scratch: (scratch, frames, copy),
        })
    }

    fn layout(frames: usize, copy: usize) -> Layout {
        let words = frames + copy.div_ceil(size_of::<u64>());
        Layout::array::<u64>(words).expect("depths are bounded")
    }
}

/// Only of one whose block was not made: blocks stay.
impl Drop for Side {
    fn drop(&mut self) {
        let (scratch, frames, copy) = self.scratch;
        // SAFETY: from the system's allocator, with this layout; nobody has the side.
        unsafe { System.dealloc(scratch.as_ptr().cast(), Self::layout(frames, copy)) };
    }
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tally.fmt(f)
    }
}
