//! The tracing spans that a thread has entered and not yet left.

use std::cell::Cell;

use super::tree::Node;

/// Spans kept; deeper ones are not put on the span stack.
const CAPACITY: usize = 32;

/// One entered span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    /// The layer that told of it: numbers of spans are unique within one registry only.
    pub(crate) layer: u32,
    /// The span's number in its registry.
    pub(crate) id: u64,
    /// The node that entering it moved to; nothing if it was entered already, or had no room.
    pub(crate) node: Option<&'static Node>,
}

/// The entered spans of one thread, in the order of entering. The owner's alone.
#[derive(Debug)]
pub(crate) struct Opened {
    length: Cell<usize>,
    entries: [Cell<Option<Open>>; CAPACITY],
}

impl Opened {
    pub(crate) const fn new() -> Self {
        Self { length: Cell::new(0), entries: [const { Cell::new(None) }; CAPACITY] }
    }

    pub(crate) fn len(&self) -> usize {
        self.length.get()
    }

    /// Forgets all but the first `length`.
    pub(crate) fn truncate(&self, length: usize) {
        self.length.set(self.length.get().min(length));
    }

    pub(crate) fn clear(&self) {
        self.truncate(0);
    }

    /// Adds an entry; false when there is no room.
    #[must_use]
    pub(crate) fn push(&self, open: Open) -> bool {
        let length = self.length.get();
        let Some(entry) = self.entries.get(length) else { return false };
        entry.set(Some(open));
        self.length.set(length + 1);
        true
    }

    /// Removes the innermost entry of that span.
    pub(crate) fn remove(&self, layer: u32, id: u64) -> Option<Open> {
        let position = self.position(layer, id)?;
        let removed = self.entries[position].get();
        for index in position + 1..self.len() {
            self.entries[index - 1].set(self.entries[index].get());
        }
        self.length.set(self.len() - 1);
        removed
    }

    /// Returns whether that span is entered.
    pub(crate) fn contains(&self, layer: u32, id: u64) -> bool {
        self.position(layer, id).is_some()
    }

    fn position(&self, layer: u32, id: u64) -> Option<usize> {
        (0..self.len()).rev().find(|&index| {
            self.entries[index].get().is_some_and(|open| open.layer == layer && open.id == id)
        })
    }

    /// Keeps the entries that `keep` wants.
    pub(crate) fn retain(&self, keep: impl Fn(Open) -> bool) {
        let mut kept = 0;
        for index in 0..self.len() {
            if let Some(open) = self.entries[index].get().filter(|&open| keep(open)) {
                self.entries[kept].set(Some(open));
                kept += 1;
            }
        }
        self.length.set(kept);
    }
}
