//! Stage 1: what happens on the application's threads becomes records.
//!
//! One file a source; all records go through [`record`] or [`Prepared`]. Nothing here fails, blocks
//! or allocates from the program's allocator, but what the application asks for by a call of its
//! own: labels that are put in force, and call sites of tracing seen for the first time. What cannot
//! be kept is counted under a marker.

pub(crate) mod alloc;
pub mod birth;
pub(crate) mod cpu;
pub(crate) mod custom;
mod future;
pub(crate) mod labels;
#[cfg(feature = "tracing")]
pub(crate) mod layer;
pub(crate) mod ledger;
pub(crate) mod lock;
pub(crate) mod rates;
pub(crate) mod scope;
pub(crate) mod signal;
pub(crate) mod wait;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use crate::buffer::emergency::EMERGENCY;
use crate::buffer::record::{Header, Marker, Source};
use crate::buffer::row::{HeldRow, Row, VALUES};
use crate::buffer::thread::{self, Thread};
use crate::buffer::writer::Scratch;
use crate::capture::rates::Weighted;
use crate::stack;
use crate::sys::Registers;

pub use future::{Labelled, Profiled, future, labelled};
pub use labels::{CallLabels, enter_labels};

/// Whether anything is recorded. The one load on every path before the profiler starts.
static ON: AtomicBool = AtomicBool::new(false);
static DEPTH: AtomicUsize = AtomicUsize::new(128);

/// Starts recording, with so many frames a stack.
pub(crate) fn switch_on(depth: usize) {
    // Relaxed: a figure; a thread that joins sees this or, at a race with the start, the default.
    DEPTH.store(depth, Ordering::Relaxed);
    // Release: pairs with the Acquire in `thread`.
    ON.store(true, Ordering::Release);
}

/// Returns whether anything is recorded.
#[inline]
pub(crate) fn is_on() -> bool {
    // Relaxed: what the start has written is read by `thread`, with Acquire.
    ON.load(Ordering::Relaxed)
}

/// Returns this thread's block, joining at the first call; nothing while the profiler is off.
#[inline]
pub(crate) fn thread() -> Option<&'static Thread> {
    // A thread that has a block joined after the start: for it the switch need not be read.
    thread::current().or_else(|| if is_on() { join() } else { None })
}

#[cold]
fn join() -> Option<&'static Thread> {
    // Acquire: pairs with the Release in `switch_on`.
    if !ON.load(Ordering::Acquire) {
        return None;
    }
    thread::join(DEPTH.load(Ordering::Relaxed))
}

/// Returns how many frames a stack keeps.
pub(crate) fn depth() -> usize {
    // Relaxed: as in `join`.
    DEPTH.load(Ordering::Relaxed)
}

/// A record whose row is known and whose values are still to come.
///
/// Made before a thread waits, since nothing may be looked up while it holds the user's lock.
#[derive(Debug)]
pub(crate) struct Prepared {
    header: Header,
    /// Nothing: the record goes to the emergency tally.
    row: Option<HeldRow>,
}

impl Prepared {
    /// Finds the row of what this thread does here and now; walks the stack unless the header has a
    /// marker in its place.
    pub(crate) fn new(header: Header) -> Self {
        let [prepared] = Self::together([header]);
        prepared
    }

    /// Finds the rows of several such records, by one walk.
    #[inline(never)]
    pub(crate) fn together<const N: usize>(headers: [Header; N]) -> [Self; N] {
        let mut rows = find(headers, |row| row.hold()).into_iter().flatten();
        headers.map(|header| Self { header, row: rows.next().flatten() })
    }

    /// Returns the row, which is there while this is.
    pub(crate) fn row(&self) -> Option<Row> {
        self.row.as_deref().copied()
    }

    /// Gives the row to somebody else who adds to it.
    pub(crate) fn into_row(self) -> Option<HeldRow> {
        self.row
    }

    /// Adds values. On the thread that made it.
    pub(crate) fn add(&self, values: [i64; VALUES]) {
        match &self.row {
            Some(row) => row.add(values),
            None => lose(&self.header, values),
        }
    }

    /// The same for records that a signal's handler may make too.
    pub(crate) fn add_reentrant(&self, values: [i64; VALUES]) {
        match &self.row {
            Some(row) => row.add_reentrant(values),
            None => lose(&self.header, values),
        }
    }

    /// Adds a wait of that length, as the rates decide. On the thread that made it.
    pub(crate) fn add_wait(&self, thread: &Thread, length: u64) {
        if let Some(weighted) = rates::wait(thread, length) {
            self.add_weighted_wait(length, weighted);
        }
    }

    /// Adds what the rates have made of a wait of that length. On the thread that made it.
    pub(crate) fn add_weighted_wait(&self, length: u64, (count, nanoseconds): Weighted) {
        self.add([count, nanoseconds, 0, 0]);
        if let Some(row) = &self.row {
            row.add_to_bucket(bucket(length), count, nanoseconds);
        }
    }

    /// Adds what a holder is charged, as the rates decide. On the thread that made it.
    pub(crate) fn add_charge(&self, thread: &Thread, nanoseconds: i64) {
        if nanoseconds != 0
            && let Some((count, sum)) = rates::charge(thread, nanoseconds)
        {
            self.add([count, sum, 0, 0]);
        }
    }
}

/// Counts a record whose row was not to be had.
#[cold]
pub(crate) fn lose(header: &Header, values: [i64; VALUES]) {
    let header = Header { marker: Marker::Lost, node: None, labels: None, size: 0, ..*header };
    EMERGENCY.add(&header, values);
}

/// Records what happens here and now.
pub(crate) fn record(header: Header, values: [i64; VALUES]) {
    let added = find([header], |row| row.add(values));
    if !matches!(added, Some([Some(())])) {
        lose(&header, values);
    }
}

/// Records what a signal has struck, in its handler; under `[lost]` if it is not known where.
///
/// # Signal safety
///
/// Allocates nothing, waits for nothing.
pub(crate) fn record_struck(source: Source, at: Option<Registers>, values: [i64; VALUES]) {
    let header = Header::new(source);
    let added = at.and_then(|at| {
        let mut writer = thread::join_in_signal()?.write_in_signal()?;
        // Pairs with the fence in `end_cpu_time`: a name that is seen now does not end meanwhile.
        fence(Ordering::SeqCst);
        let thread = writer.thread();
        let node = thread.shown_node();
        let header = Header { node, labels: thread.labels(), name: thread.name(), ..header };
        let bounds = thread.bounds_in_signal(at);
        let (tally, Scratch { frames, .. }) = writer.parts();
        let depth = stack::capture_interrupted(at, bounds, frames);
        let frames = &frames[..depth];
        let header = Header { closings: stack::closings_under(frames), ..header };
        tally.find(&header, frames)?.add(values);
        Some(())
    });
    if added.is_none() {
        lose(&header, values);
    }
}

/// Finds the rows of these records, by one walk, and does something with each before anybody can end
/// it.
fn find<const N: usize, R>(
    headers: [Header; N],
    found: impl Fn(Row) -> R,
) -> Option<[Option<R>; N]> {
    let thread = thread()?;
    scope::settle(thread);
    let mut writer = thread.write()?;
    let node = Some(thread.node()).filter(|node| node.site().is_some());
    let labels = thread.labels();
    let (tally, Scratch { bounds, frames: scratch, copy }) = writer.parts();
    let depth = if headers.iter().any(|header| header.marker == Marker::No) {
        stack::capture(bounds, copy, scratch)
    } else {
        0
    };
    let frames = &scratch[..depth];
    let closings = stack::closings_under(frames);
    Some(headers.map(|header| {
        let (header, frames) = match header.marker {
            Marker::No => (Header { node, labels, closings, ..header }, frames),
            _ => (header, &[][..]),
        };
        tally.find(&header, frames).map(&found)
    }))
}

/// Returns the bucket of a wait: the power of four that it reaches.
const fn bucket(nanoseconds: u64) -> usize {
    (nanoseconds | 1).ilog2() as usize / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_powers_of_four() {
        for (nanoseconds, expected) in
            [(0, 0), (1, 0), (3, 0), (4, 1), (15, 1), (16, 2), (1 << 36, 18)]
        {
            assert_eq!(bucket(nanoseconds), expected, "{nanoseconds}");
        }
    }
}
