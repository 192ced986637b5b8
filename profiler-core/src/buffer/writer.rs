//! The right to write one side of a thread's block.

#![allow(unsafe_code, reason = "one writer at a time, which an exchange sees to")]

use super::record::{Header, Marker, Source};
use super::row::{Row, RowKey};
use super::side::Side;
use super::tally::Taken;
use super::thread::Thread;
use super::tree::Node;
use crate::budget::{self, Part};
use crate::callsite::CallSite;
use crate::sys::StackBounds;

/// The right to write a thread's tally, held by one frame of one thread.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: &'static Thread,
    side: &'static Side,
    table: Taken<'static>,
}

impl Thread {
    /// Takes the right to write the tally; nothing if this thread is writing it already, which
    /// happens when what records is itself recorded. Only the owner may call this.
    #[inline]
    pub(crate) fn write(&'static self) -> Option<Writer> {
        let writer = Writer::take(self, &self.ordinary)?;
        self.prepare();
        Some(writer)
    }

    /// The same for the tally of signal handlers, in one of them.
    pub(crate) fn write_in_signal(&'static self) -> Option<Writer> {
        Writer::take(self, &self.signal)
    }
}

impl Writer {
    /// Takes the right to write a side; nothing if it is taken. Only the owner of the thread's block
    /// may call this.
    #[inline]
    fn take(thread: &'static Thread, side: &'static Side) -> Option<Self> {
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
