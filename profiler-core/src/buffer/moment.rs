//! What was moved to coarser rows since something was read, and how such rows end.

#![allow(unsafe_code, reason = "rows end when nobody has them")]

use std::sync::{Arc, OnceLock};

use super::row::{HeldRow, Row};
use super::table::{Memory, end_row};
use crate::callsite::CallSite;
use crate::labels;

/// A moment between two coarsenings; whoever has it learns what was moved since.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    /// Set under the lock, and never waited for. Not a `First`, since it ends.
    then: OnceLock<(Vec<Move>, Arc<Moment>)>,
}

/// A row whose sums were added to another one's.
#[derive(Debug)]
pub(crate) struct Move {
    from: Row,
    /// The span path of that row, leaf first, if its node has ended.
    path: Option<Path>,
    to: HeldRow,
}

/// Call sites, leaf first.
pub(crate) type Path = Arc<[&'static CallSite]>;

impl Move {
    /// Takes a row whose sums were added to another one's.
    ///
    /// # Safety
    ///
    /// The row was fetched by itself, is in no table, and nobody holds it.
    pub(super) const unsafe fn new(from: Row, path: Option<Path>, to: HeldRow) -> Self {
        Self { from, path, to }
    }

    /// Returns the row as it was, and the one that its sums went to.
    pub(crate) fn rows(&self) -> (Row, Row) {
        (self.from, *self.to)
    }

    /// Returns the span path of the row as it was, if its header does not tell it.
    pub(crate) const fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }
}

impl Drop for Move {
    fn drop(&mut self) {
        // SAFETY: `new` was given it alone.
        unsafe { end(self.from) };
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        // One after the other: a long chain would take much stack.
        let mut next = self.then.take();
        while let Some((_, moment)) = next {
            next = Arc::into_inner(moment).and_then(|mut moment| moment.then.take());
        }
    }
}

impl Moment {
    /// Tells whoever has this moment what was moved after it, and the moment that came then. Once.
    pub(super) fn is_followed_by(&self, moves: Vec<Move>, next: &Arc<Self>) {
        let _ = self.then.set((moves, Arc::clone(next)));
    }

    /// Calls `visit` with everything that was moved between this moment and a later one.
    pub(crate) fn moves_until(self: &Arc<Self>, later: &Arc<Self>, mut visit: impl FnMut(&Move)) {
        let mut moment = self;
        while !Arc::ptr_eq(moment, later)
            && let Some((moves, next)) = moment.then.get()
        {
            moves.iter().for_each(&mut visit);
            moment = next;
        }
    }
}

pub(super) fn release_labels(row: Row) {
    row.header().labels.into_iter().for_each(labels::Set::release);
}

/// Ends a row and its claim on its labels.
///
/// # Safety
///
/// It was fetched by itself, is in no table, and nobody holds it.
pub(super) unsafe fn end(row: Row) {
    release_labels(row);
    // SAFETY: given by the caller: nobody has the row, and its memory is the system's.
    unsafe { end_row(row, Memory::SYSTEM) };
}
