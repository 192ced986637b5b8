//! Where rows go whose table was taken away, and who may read rows at all.
//!
//! Readers take the archive's lock, and so does whoever ends a row, a table or a label set: nothing
//! ends under a reader's hands. Threads that record take no lock.
//!
//! When the tables of threads take too much of the budget they are taken away, and their rows added
//! up here, over all threads. When rows take too much here, those that did not change since are made
//! coarser: first without the values of their labels, then without their stack. Sums only move, so
//! totals stay; a reading from before such a move is told of it, so differences stay exact too.

#![allow(unsafe_code, reason = "rows end when nobody has them, which this lock sees to")]

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::emergency::EMERGENCY;
use super::moment::{Moment, Move, end, release_labels};
use super::names::Names;
use super::record::{Header, Marker, Source};
use super::row::Row;
use super::table::{Memory, make_row};
use super::tally::TakenAway;
use super::thread::{self, Thread};
use super::tree::{Node, Tree};
use crate::budget::{self, Part};
use crate::loaded::{Closed, earliest};
use crate::per_process::PerProcess;
use crate::stack;

/// How often something began to end which threads may have pointed at, and how often that was done.
static ENDINGS: AtomicU64 = AtomicU64::new(0);

/// The child of a fork leaves its parent's archive where it is.
static ARCHIVE: PerProcess<Archive> = PerProcess::new(Archive::default);

/// The rows of tables that were taken away.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    /// Each with the number of the emptying in which it changed last.
    rows: FxHashMap<ByKey, u64>,
    /// Rows that somebody may still add to.
    held: Vec<Row>,
    /// The paths of archived rows, so that those of several threads are one.
    tree: Option<Tree>,
    /// What rows take, in both.
    bytes: usize,
    emptied: u64,
    /// What was moved since the moment began.
    moves: Vec<Move>,
    /// The last emptying after which rows age for the values of their labels, and when that was.
    aging: Option<(u64, Instant)>,
    /// Until then label sets are left alone: most of them were held last time.
    labels_rest: Option<Instant>,
    /// What was closed until the last emptying, and the last closing that is not remembered.
    closed: (Vec<Closed>, u64),
    now: Arc<Moment>,
}

/// A row, told from others by its key.
#[derive(Debug, Clone, Copy)]
struct ByKey(Row);

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash());
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

/// Takes the lock: until it is given back nothing ends.
pub(crate) fn lock() -> MutexGuard<'static, Archive> {
    ARCHIVE.lock()
}

/// Sees to it that there is room; called at every tick with when to do so next.
pub(crate) fn tick(next: &mut Instant) {
    if !budget::is_pressing() || Instant::now() < *next {
        return;
    }
    let begin = Instant::now();
    lock().make_room();
    // In vain: what is there is held, perhaps for long. A hundredth of a core, then.
    if budget::is_pressing() {
        *next = Instant::now() + begin.elapsed() * 100;
    }
}

/// Returns how often something has ended that threads may have pointed at. What a thread pointed at
/// is there if this has not changed since, for whoever has the lock.
///
/// # Signal safety
///
/// A load.
pub(crate) fn endings() -> u64 {
    // Acquire: what the thread says of itself is read after.
    ENDINGS.load(Ordering::Acquire)
}

impl Archive {
    /// Calls `visit` with every row that there is.
    pub(crate) fn for_each_row(&self, mut visit: impl FnMut(Row)) {
        for thread in thread::all() {
            thread.for_each_row(&mut visit);
        }
        self.rows.keys().for_each(|&ByKey(row)| visit(row));
        self.held.iter().for_each(|&row| visit(row));
    }

    /// Calls `visit` with every span path that there is.
    pub(crate) fn for_each_path(&self, mut visit: impl FnMut(&'static Node)) {
        thread::all().for_each(|thread| thread.tree().for_each(&mut visit));
        self.tree.iter().for_each(|tree| tree.for_each(&mut visit));
    }

    /// Returns the moment, for what is read now.
    pub(crate) fn now(&self) -> Arc<Moment> {
        Arc::clone(&self.now)
    }

    /// Returns the bytes that archived rows take.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sees to it that there is room, if there is not enough.
    pub(crate) fn make_room(&mut self) {
        let labels_wait = budget::do_labels_wait()
            && self.labels_rest.is_none_or(|rest| Instant::now() >= rest)
            && budget::took_labels_wait();
        let paths_wait = budget::took_paths_wait();
        if !(labels_wait || paths_wait || budget::are_rows_pressing()) {
            return;
        }
        count_ending();
        self.emptied += 1;
        if labels_wait || paths_wait {
            self.end_threads();
        }
        if labels_wait || budget::are_rows_pressing() {
            self.empty_tables();
            self.make_coarser();
        }
        if labels_wait {
            self.end_labels();
        }
        self.tell_moves();
        budget::set_archived(self.bytes);
        count_ending();
    }

    /// Takes the rows of all threads in.
    fn empty_tables(&mut self) {
        self.note_closings(stack::noted());
        for thread in thread::all() {
            self.empty_tables_of(thread);
        }
        for row in std::mem::take(&mut self.held) {
            self.bytes -= row.size();
            if !self.keep(row) {
                // SAFETY: it was in no table, and `keep` has found that nobody holds it.
                unsafe { end(row) };
            }
        }
    }

    /// Has rows be one whose addresses mean the same, though libraries were closed between them: mostly one that is
    /// loaded time and again.
    fn note_closings(&mut self, closed: (Vec<Closed>, u64)) {
        if closed == self.closed {
            return;
        }
        self.closed = closed;
        let is_touched = |row: &Row| row.header().closings != 0;
        let touched: Vec<_> = self.rows.keys().map(|&ByKey(row)| row).filter(is_touched).collect();
        for row in touched {
            let emptied = self.rows.remove(&ByKey(row));
            self.bytes -= row.size();
            if !self.keep(row) {
                // SAFETY: it is in no table and not in the archive any more, and `keep` has found that nobody holds it.
                unsafe { end(row) };
            } else if let (Some(before), Some(emptied)) = (emptied, self.rows.get_mut(&ByKey(row)))
            {
                *emptied = before;
            }
        }
    }

    fn empty_tables_of(&mut self, thread: &Thread) {
        for tally in thread.tallies() {
            // SAFETY: this has the lock: nobody reads, and nobody else takes away.
            if let Some(table) = unsafe { tally.take_away() } {
                self.take_in(table);
            }
        }
    }

    /// Ends what captures of CPU time have left: none is running. The names of threads stay for another
    /// time if a thread is in a handler just now, or somebody holds a row.
    pub(crate) fn end_cpu_time(&mut self, names: &mut Names) {
        count_ending();
        thread::all().for_each(|thread| thread.set_name(None));
        // A handler that takes its tally out after this finds no name; pairs with the fence in
        // `record_struck`.
        fence(Ordering::SeqCst);
        let mut is_quiet = true;
        for thread in thread::all() {
            let [_, signal] = thread.tallies();
            // SAFETY: as above.
            match unsafe { signal.take_away() } {
                Some(table) => {
                    Part::Tables.remove(table.bytes());
                    table.end(|row| {
                        release_labels(row);
                        false
                    });
                }
                None => is_quiet &= signal.len() == 0 && !signal.is_out(),
            }
        }
        let bytes = &mut self.bytes;
        self.rows.retain(|&ByKey(row), _| {
            let stays = row.header().source != Source::Cpu || row.is_held();
            if !stays {
                *bytes -= row.size();
                // SAFETY: it is in no table, and nobody holds it.
                unsafe { end(row) };
            }
            stays
        });
        budget::set_archived(self.bytes);
        let is_cpu = |row: &Row| row.header().source == Source::Cpu;
        if is_quiet && !self.rows.keys().map(|ByKey(row)| row).chain(&self.held).any(is_cpu) {
            // SAFETY: no record carries one: the last ones have ended above. No thread has one, and those
            // in whose handlers one might have been read before were found out of them.
            unsafe { names.end() };
        }
        count_ending();
    }

    fn take_in(&mut self, table: TakenAway) {
        Part::Tables.remove(table.bytes());
        if table.has_chunks() {
            // Their memory goes with the table, so what is kept is a copy.
            let mut copies = Vec::new();
            table.end(|row| {
                match make_row(row.key(), row.is_bucketed(), Memory::SYSTEM) {
                    // The copy has the row's claim on its labels.
                    Some(copy) => {
                        copy.take_in(row);
                        copies.push(copy);
                    }
                    None => {
                        EMERGENCY.add(
                            &Header { marker: Marker::Lost, ..Header::new(row.header().source) },
                            row.values(),
                        );
                        release_labels(row);
                    }
                }
                false
            });
            for copy in copies {
                if !self.keep(copy) {
                    // SAFETY: made above.
                    unsafe { end(copy) };
                }
            }
        } else {
            table.end(|row| {
                let keeps = self.keep(row);
                if !keeps {
                    release_labels(row);
                }
                keeps
            });
        }
    }

    /// Takes a row in, or its sums; false if it is needed no more.
    fn keep(&mut self, row: Row) -> bool {
        let mut header = row.header();
        // Asked once: whoever holds it may let go at any time. Nobody takes a hold who has none.
        let is_held = row.is_held();
        if !is_held && header.source == Source::Custom && row.custom_count() == 0 {
            return false;
        }
        let path = header.node;
        header.node = path.and_then(|node| self.common(node));
        let cut = path.filter(|path| path.depth() != header.node.map_or(0, Node::depth));
        let before = cut.and_then(|path| self.before_cut(row, path));
        if header.closings != 0 {
            let (closed, forgotten) = &self.closed;
            header.closings = earliest(header.closings, row.frames(), (closed, *forgotten));
        }
        // SAFETY: it is in no table, and this has the lock.
        unsafe { row.retitle(header.words()) };
        let known = self.rows.get_key_value(&ByKey(row)).filter(|_| !is_held);
        let to = known.map_or(row, |(&ByKey(known), _)| known);
        if is_held {
            self.bytes += row.size();
            self.held.push(row);
        } else if to != row {
            if row.values() != [0; _] {
                to.take_in(row);
                self.rows.insert(ByKey(to), self.emptied);
            }
        } else {
            self.bytes += row.size();
            self.rows.insert(ByKey(row), self.emptied);
        }
        self.moves.extend(before.map(|before| before.goes_to(to)));
        to == row
    }

    /// Returns the node of the archive's own tree with the same path, or as much of it from the root as
    /// there is room for; nothing if the system has no memory.
    fn common(&mut self, node: &'static Node) -> Option<&'static Node> {
        if self.tree.is_none() {
            self.tree = Tree::new();
        }
        let tree = self.tree.as_ref()?;
        let before = tree.bytes();
        let sites: Vec<_> = node.path().collect();
        let mut common = tree.root();
        for site in sites.into_iter().rev() {
            // What stands at the root are call sites of the program: few.
            let room = common.site().is_none() || budget::has_room_for_path(tree.bytes());
            // SAFETY: this has the lock, and the parent is of this tree.
            let child = || unsafe { tree.child(common, site, room) };
            match common.cached_child(site).or_else(child) {
                Some(child) => common = child,
                None => break,
            }
        }
        Part::Paths.add(tree.bytes() - before);
        common.site().map(|_| common)
    }

    /// Ends what threads that are gone have of labels and span paths, and adds these up.
    fn end_threads(&mut self) {
        for thread in thread::all() {
            // SAFETY: this has the lock, and what handlers have said of paths is told by `ENDINGS`.
            let tree = unsafe { thread.without_owner(|| self.empty_tables_of(thread)) };
            let Some(tree) = tree else { continue };
            tree.for_each(|node| {
                if let Some(common) = self.common(node) {
                    common.add(node.values());
                }
            });
            Part::Paths.remove(tree.bytes());
            // SAFETY: the thread is gone, and its rows have nodes of the archive's tree.
            unsafe { tree.end() };
        }
    }
}

/// Before something ends and after: a thread that has said in between where it is may have pointed at what
/// ended then.
fn count_ending() {
    ENDINGS.fetch_add(1, Ordering::AcqRel);
}

mod coarser;
#[cfg(test)]
mod tests;
