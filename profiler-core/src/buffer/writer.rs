//! The two sides of a thread's block that are written, and the right to write one.

#![allow(unsafe_code, reason = "one writer at a time, which a flag sees to")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::NonNull;

use super::row::{Row, RowKey};
use super::tally::{Memory, Tally};
use super::thread::{OWN_FRAMES, Thread};
use super::tree::Node;
use crate::callsite::CallSite;
use crate::sys::{self, StackBounds};

/// Slots of a tally's first segment: 256 bytes, enough for 24 stacks.
const FIRST_SLOTS: usize = 32;
/// Memory of tallies that are written in signal handlers: no allocator.
pub(super) const MAPPED: Memory =
    Memory { fetch: |layout| sys::map_memory(layout.size()), chunk: 64 << 10 };

/// A tally and what its writer needs.
pub(super) struct Side {
    pub(super) tally: Tally,
    pub(super) busy: Cell<bool>,
    /// Room for the frames of a capture.
    pub(super) scratch: (NonNull<u64>, usize),
}

impl Side {
    pub(super) fn new(memory: Memory, depth: usize) -> Option<Self> {
        let frames = depth + OWN_FRAMES;
        let layout = Layout::array::<u64>(frames).ok()?;
        // SAFETY: the layout is not of size zero.
        let scratch = NonNull::new(unsafe { System.alloc_zeroed(layout) })?.cast::<u64>();
        Some(Self {
            tally: Tally::new(FIRST_SLOTS, memory),
            busy: Cell::new(false),
            scratch: (scratch, frames),
        })
    }
}

/// The right to write a thread's tally, held by one frame of one thread.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: &'static Thread,
    side: &'static Side,
}

impl Writer {
    /// Takes the right to write a side; nothing if it is taken. Only the owner of the thread's block
    /// may call this.
    #[inline]
    pub(super) fn take(thread: &'static Thread, side: &'static Side) -> Option<Self> {
        (!side.busy.replace(true)).then_some(Self { thread, side })
    }

    pub(crate) const fn thread(&self) -> &'static Thread {
        self.thread
    }

    /// Returns the child of a node of this thread's tree; see [`Tree::child`].
    pub(crate) fn child(
        &self,
        parent: &'static Node,
        site: &'static CallSite,
        limit: usize,
    ) -> Option<&'static Node> {
        // SAFETY: the right to write is held, and nodes are only ever taken from the own tree.
        unsafe { self.thread.tree().child(parent, site, limit) }
    }

    /// Returns the tally, the bounds of the thread's stack, and room for the frames of a capture.
    pub(crate) fn parts(&mut self) -> (TallyWriter<'_>, Option<StackBounds>, &mut [u64]) {
        let (first, length) = self.side.scratch;
        // SAFETY: memory of this length that was zeroed once and is never freed; there is one
        // `Writer` for it, which is borrowed mutably.
        let scratch = unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), length) };
        (TallyWriter(&self.side.tally), self.thread.bounds(), scratch)
    }
}

/// The writer's side of a tally, while the right to write is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TallyWriter<'a>(&'a Tally);

impl TallyWriter<'_> {
    /// Returns the row of a key; nothing when there is no room for another.
    pub(crate) fn find(self, key: RowKey<'_>, bucketed: bool, limit: usize) -> Option<Row> {
        // SAFETY: the right to write is held.
        unsafe { self.0.find(key, bucketed, limit) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.side.busy.set(false);
    }
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tally.fmt(f)
    }
}
