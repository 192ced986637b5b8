//! The sums of one writer, which readers never stop and anybody may take away.
//!
//! A row is a key (a few words and the addresses of a stack) and up to four sums. The writer finds
//! the row of a key by hashing, or appends one, and adds by a load and a store: nobody else writes.
//!
//! Rows stand in a table. Whoever writes takes the table out by an exchange and puts it back. So does whoever takes it away
//! for good, to end it: the writer finds nothing there and begins another one.

#![allow(unsafe_code, reason = "a table belongs to whoever has taken it out")]

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::primitive::{AtomicPtr, Ordering};
use super::row::{Row, RowKey};
use super::table::{Memory, Table};

/// The place of a writer's table.
pub(crate) struct Tally {
    /// The table, or null.
    table: AtomicPtr<Table>,
    /// The table, for whoever takes it out to write it or to take it away; null if there is none,
    /// and [`TAKEN`] while it is out.
    right: AtomicPtr<Table>,
    first_slots: usize,
    memory: Memory,
}

/// An address that no table has.
const TAKEN: *mut Table = ptr::without_provenance_mut(1);

/// The right to write a tally, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    tally: &'a Tally,
    table: Cell<*mut Table>,
    /// It belongs to the thread that took it.
    on_this_thread: PhantomData<*mut ()>,
}

/// A table that was taken away from its writer. Its rows and its memory end with it, but for those
/// that are moved out.
#[derive(Debug)]
pub(crate) struct TakenAway(NonNull<Table>);

// SAFETY: whoever has it has the table alone.
unsafe impl Send for TakenAway {}

impl Tally {
    /// Makes an empty tally of two null pointers, the first segment of whose tables will have
    /// `first_slots` slots (a power of two).
    pub(crate) const fn new(
        [table, right]: [AtomicPtr<Table>; 2],
        first_slots: usize,
        memory: Memory,
    ) -> Self {
        Self { table, right, first_slots, memory }
    }

    fn table(&self) -> Option<&Table> {
        // Acquire: pairs with the Release in `Taken::begin`: the table is initialised.
        let table = self.table.load(Ordering::Acquire);
        // SAFETY: null, or a table that ends when it is taken away, which is not done while somebody
        // reads.
        unsafe { table.as_ref() }
    }

    /// Returns the number of rows. As for [`Tally::for_each`].
    pub(crate) fn len(&self) -> usize {
        self.table().map_or(0, Table::len)
    }

    /// Returns the bytes fetched. As for [`Tally::for_each`].
    pub(crate) fn bytes(&self) -> usize {
        self.table().map_or(0, Table::bytes)
    }

    /// Calls `visit` with every row. Any thread may at any time that nobody takes the table away.
    pub(crate) fn for_each(&self, visit: impl FnMut(Row)) {
        if let Some(table) = self.table() {
            table.for_each(visit);
        }
    }

    /// Takes the right to write; nothing if somebody has it.
    ///
    /// # Safety
    ///
    /// Only the writer calls this, at most one thread at a time. It may call it again from within
    /// itself, as from a signal's handler, and then gets nothing.
    #[inline]
    pub(crate) unsafe fn take(&self) -> Option<Taken<'_>> {
        // Acquire: pairs with the Release of whoever put the table back, or took it away.
        let table = self.right.swap(TAKEN, Ordering::Acquire);
        (table != TAKEN).then(|| Taken {
            tally: self,
            table: Cell::new(table),
            on_this_thread: PhantomData,
        })
    }

    /// Returns whether somebody is writing.
    pub(crate) fn is_out(&self) -> bool {
        // Acquire: what whoever has put it back did before is done.
        self.right.load(Ordering::Acquire) == TAKEN
    }

    /// Takes the table away, if there is one that nobody is writing.
    ///
    /// # Safety
    ///
    /// Nobody reads meanwhile, and nobody else takes away.
    pub(crate) unsafe fn take_away(&self) -> Option<TakenAway> {
        // Relaxed: the exchange decides.
        let table = self.right.load(Ordering::Relaxed);
        if table.is_null() || table == TAKEN {
            return None;
        }
        // Acquire: pairs with the Release in `drop` of the right: all that was written is seen.
        // Release: the writer that finds nothing has all of this before it.
        let none = ptr::null_mut();
        self.right.compare_exchange(table, none, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // The writer may have begun another one already: that one stays.
        // Release: pairs with the exchange in `begin`. Relaxed on failure: nothing is read then.
        let _ = self.table.compare_exchange(table, none, Ordering::AcqRel, Ordering::Relaxed);
        NonNull::new(table).map(TakenAway)
    }

    /// Gives the right to write back that a thread took which is gone.
    ///
    /// # Safety
    ///
    /// The caller is the only writer.
    pub(crate) unsafe fn recover(&self) {
        // Relaxed, all: the caller has the tally to itself but for readers, and for whoever takes the
        // table away, who does so to one that is not out.
        if self.right.load(Ordering::Relaxed) == TAKEN {
            self.right.store(self.table.load(Ordering::Relaxed), Ordering::Release);
        }
    }
}

impl Taken<'_> {
    /// Returns the row of a key and whether it is new, appending one if there is none and there is
    /// room; nothing if there is none, or the system has no memory.
    pub(crate) fn find(&self, key: RowKey<'_>, bucketed: bool, room: bool) -> Option<(Row, bool)> {
        let hash = key.hash();
        let table = match NonNull::new(self.table.get()) {
            Some(table) => table,
            None if room => self.begin()?,
            None => return None,
        };
        // SAFETY: this thread has taken it out.
        let table = unsafe { table.as_ref() };
        let known = table.look_up(hash, key).map(|row| (row, false));
        known.or_else(|| {
            let first_slots = self.tally.first_slots;
            let row = room.then(|| table.append(key, hash, bucketed, first_slots)).flatten()?;
            Some((row, true))
        })
    }

    /// Returns the bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: null, or taken out by this thread.
        unsafe { self.table.get().as_ref() }.map_or(0, Table::bytes)
    }

    /// Makes a table, since there is none.
    #[cold]
    fn begin(&self) -> Option<NonNull<Table>> {
        let table = Table::make(self.tally.memory)?;
        // Release: pairs with the Acquire in `Tally::table`. An exchange, since whoever has taken the last
        // table away may be about to exchange this for null: one of the two comes after the other.
        self.tally.table.swap(table.as_ptr(), Ordering::AcqRel);
        self.table.set(table.as_ptr());
        Some(table)
    }
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of whoever takes it next.
        self.tally.right.store(self.table.get(), Ordering::Release);
    }
}

impl TakenAway {
    fn table(&self) -> &Table {
        // SAFETY: whoever has this has the table alone.
        unsafe { self.0.as_ref() }
    }

    /// Returns the bytes that the table took.
    pub(crate) fn bytes(&self) -> usize {
        self.table().bytes()
    }

    /// Whether rows end with the table, rather than each by itself.
    pub(crate) fn has_chunks(&self) -> bool {
        self.table().has_chunks()
    }

    /// Ends the table. Rows that `keeps` stay; only where rows are fetched by themselves.
    pub(crate) fn end(self, keeps: impl FnMut(Row) -> bool) {
        // SAFETY: whoever has this has the table alone.
        unsafe { Table::end(self.0, keeps) };
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "tally/tests.rs"]
mod tests;
