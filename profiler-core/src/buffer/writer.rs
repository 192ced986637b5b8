//! The two sides of a thread's block that are written, and the right to write one.

#![allow(unsafe_code, reason = "one writer at a time, which an exchange sees to")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;

use super::record::{Header, Marker, Source};
use super::row::{Row, RowKey};
use super::table::Memory;
use super::tally::{Taken, Tally};
use super::thread::{OWN_FRAMES, Thread};
use super::tree::Node;
use crate::budget::{self, Part};
use crate::callsite::CallSite;
use crate::sys::{self, StackBounds};

/// Slots of a tally's first segment: 256 bytes, enough for 24 stacks.
const FIRST_SLOTS: usize = 32;
/// Memory of tallies that are written in signal handlers: no allocator.
pub(super) const MAPPED: Memory = Memory {
    fetch: |layout| sys::map_memory(layout.size()),
    give_back: |memory, layout| sys::unmap_memory(memory, layout.size()),
    chunk: 64 << 10,
};

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

/// The right to write a thread's tally, held by one frame of one thread.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: &'static Thread,
    side: &'static Side,
    table: Taken<'static>,
}

impl Writer {
    /// Takes the right to write a side; nothing if it is taken. Only the owner of the thread's block
    /// may call this.
    #[inline]
    pub(super) fn take(thread: &'static Thread, side: &'static Side) -> Option<Self> {
        // SAFETY: the owner alone writes its tallies.
        unsafe { side.tally.take() }.map(|table| Self { thread, side, table })
    }

    pub(crate) const fn thread(&self) -> &'static Thread {
        self.thread
    }

    /// Returns the child of a node of this thread's tree; see [`Tree::child`].
    pub(crate) fn child(
        &self,
        parent: &'static Node,
        site: &'static CallSite,
        room: bool,
    ) -> Option<&'static Node> {
        let tree = self.thread.tree();
        let before = tree.bytes();
        // SAFETY: the right to write is held, and nodes are only ever taken from the own tree.
        let child = unsafe { tree.child(parent, site, room) };
        budget::add_paths(tree.bytes() - before);
        child
    }

    /// Returns the tally and what a capture needs.
    pub(crate) fn parts(&mut self) -> (TallyWriter<'_>, Scratch<'_>) {
        let (first, frames, copy) = self.side.scratch;
        let behind = first.as_ptr().wrapping_add(frames);
        // SAFETY: memory of this length that was zeroed once and is never freed; there is one
        // `Writer` for it, which is borrowed mutably.
        let frames = unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), frames) };
        // SAFETY: as above; the rest of the same memory.
        let copy = unsafe { std::slice::from_raw_parts_mut(behind.cast(), copy) };
        (TallyWriter(&self.table), Scratch { bounds: self.thread.bounds(), frames, copy })
    }
}

/// What a capture needs of its thread.
#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    /// The bounds of the thread's stack, if they are known.
    pub(crate) bounds: Option<StackBounds>,
    /// Room for the frames.
    pub(crate) frames: &'a mut [u64],
    /// Room for a piece of a stack; none in signal handlers.
    pub(crate) copy: &'a mut [u8],
}

/// The writer's side of a tally, while the right to write is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TallyWriter<'a>(&'a Taken<'static>);

impl TallyWriter<'_> {
    /// Returns the row of a record: that of its key, or `[overflow]` where there is no room for
    /// another; nothing if the system has no memory.
    pub(crate) fn find(self, header: &Header, frames: &[u64]) -> Option<Row> {
        let source = header.source;
        self.row(header, frames, budget::has_room_for_rows()).or_else(|| {
            // The name of a custom profile says which one it is, and there are few.
            let name = header.name.filter(|_| source == Source::Custom);
            let overflow = Header { marker: Marker::Overflow, name, ..Header::new(source) };
            self.row(&overflow, &[], true)
        })
    }

    fn row(self, header: &Header, frames: &[u64], room: bool) -> Option<Row> {
        let Self(table) = self;
        let before = table.bytes();
        let key = RowKey { header: header.words(), frames };
        let found = table.find(key, header.source == Source::Block, room);
        let more = table.bytes() - before;
        if more != 0 {
            Part::Tables.add(more);
        }
        let (row, is_new) = found?;
        if is_new && let Some(labels) = header.labels {
            labels.hold();
        }
        Some(row)
    }
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tally.fmt(f)
    }
}
