//! What whoever has the archive does with a thread's block.

#![allow(unsafe_code, reason = "a tree of paths is replaced")]

use super::{ARCHIVE, Side, Thread, is_left, new_tree};
use crate::buffer::row::Row;
use crate::buffer::tally::Tally;
use crate::buffer::tree::Tree;
use crate::sys::Process;

impl Thread {
    /// Calls `visit` with every row of both tallies; for whoever has the archive.
    pub(in crate::buffer) fn for_each_row(&self, mut visit: impl FnMut(Row)) {
        self.ordinary.tally.for_each(&mut visit);
        self.signal.tally.for_each(visit);
    }

    pub(in crate::buffer) const fn tallies(&self) -> [&Tally; 2] {
        [&self.ordinary.tally, &self.signal.tally]
    }

    /// Returns the bytes held for this block, its tally and its span paths.
    pub(crate) fn bytes(&self) -> usize {
        let side =
            |side: &Side| side.scratch.1 * size_of::<u64>() + side.scratch.2 + side.tally.bytes();
        size_of::<Self>()
            + side(&self.ordinary)
            + side(&self.signal)
            + self.tree().bytes()
            + self.label_cache.bytes()
    }

    /// Ends the claims on labels of a thread that is gone; for whoever owns the block meanwhile.
    pub(super) fn end_claims(&self) {
        self.set_labels(None);
        self.label_cache.end();
    }

    /// Has the tables emptied of a thread that is gone, ends its claims on labels, takes its tree, and begins
    /// another one. Nothing if the block has an owner, or the system no memory.
    ///
    /// # Safety
    ///
    /// The caller has the archive.
    pub(in crate::buffer) unsafe fn without_owner(
        &self,
        empty_tables: impl FnOnce(),
    ) -> Option<Tree> {
        let gone = self.owner.take(ARCHIVE, is_left(Process::current(), ARCHIVE))?;
        for side in [&self.ordinary, &self.signal] {
            // SAFETY: nobody else owns the block now.
            unsafe { side.tally.recover() };
        }
        self.end_claims();
        empty_tables();
        let tree = new_tree().map(|new| {
            self.set_node_anew(&new);
            // SAFETY: nobody owns the block, and whoever has the archive is the caller.
            unsafe { self.tree.get().replace(new) }
        });
        self.owner.give_back(gone);
        tree
    }
}
