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

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::buffer::emergency::EMERGENCY;
use crate::buffer::record::{Header, Marker, Source};
use crate::buffer::row::{Row, RowKey, VALUES};
use crate::buffer::thread::{self, Thread};
use crate::buffer::writer::{Scratch, TallyWriter};
use crate::capture::rates::Weighted;
use crate::stack;
use crate::sys::Registers;

pub use future::{Labelled, Profiled, future, labelled};
pub use labels::{CallLabels, enter_labels};

/// Whether anything is recorded. The one load on every path before the profiler starts.
static ON: AtomicBool = AtomicBool::new(false);
static DEPTH: AtomicUsize = AtomicUsize::new(128);
static MAX_STACKS: AtomicUsize = AtomicUsize::new(0);
static MAX_SPANS: AtomicUsize = AtomicUsize::new(0);

/// Starts recording, with so many frames a stack, stacks a thread and span paths a thread.
pub(crate) fn switch_on(depth: usize, max_stacks: usize, max_spans: usize) {
    // Relaxed: figures; a thread that joins sees these or, at a race with the start, the defaults.
    DEPTH.store(depth, Ordering::Relaxed);
    MAX_STACKS.store(max_stacks, Ordering::Relaxed);
    MAX_SPANS.store(max_spans, Ordering::Relaxed);
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

fn max_spans() -> usize {
    // Relaxed: a limit.
    MAX_SPANS.load(Ordering::Relaxed)
}

/// A record whose row is known and whose values are still to come.
///
/// Made before a thread waits, since nothing may be looked up while it holds the user's lock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prepared {
    header: Header,
    /// Nothing: the record goes to the emergency tally.
    row: Option<Row>,
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
        let mut rows = find(headers).into_iter().flatten();
        headers.map(|header| Self { header, row: rows.next().flatten() })
    }

    /// A record for the emergency tally.
    pub(crate) const fn without_row(header: Header) -> Self {
        Self { header, row: None }
    }

    pub(crate) const fn row(&self) -> Option<Row> {
        self.row
    }

    /// Adds values. On the thread that made it.
    pub(crate) fn add(&self, values: [i64; VALUES]) {
        match self.row {
            Some(row) => row.add(values),
            None => self.lose(values),
        }
    }

    /// The same for records that a signal's handler may make too.
    pub(crate) fn add_reentrant(&self, values: [i64; VALUES]) {
        match self.row {
            Some(row) => row.add_reentrant(values),
            None => self.lose(values),
        }
    }

    #[cold]
    fn lose(&self, values: [i64; VALUES]) {
        let header = Header { marker: Marker::Lost, node: None, size: 0, ..self.header };
        EMERGENCY.add(&header, values);
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
        if let Some(row) = self.row {
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

/// Records what happens here and now.
pub(crate) fn record(header: Header, values: [i64; VALUES]) {
    Prepared::new(header).add(values);
}

/// Records what a signal has struck, in its handler; under `[lost]` if it is not known where.
///
/// # Signal safety
///
/// Allocates nothing, waits for nothing.
pub(crate) fn record_struck(source: Source, at: Option<Registers>, values: [i64; VALUES]) {
    let header = Header::new(source);
    let row = at.and_then(|at| {
        let mut writer = thread::join_in_signal()?.write_in_signal()?;
        let thread = writer.thread();
        let node = Some(thread.node()).filter(|node| node.site().is_some());
        let header = Header { node, labels: thread.labels(), name: thread.name(), ..header };
        let bounds = thread.bounds_in_signal(at);
        let (tally, Scratch { frames, .. }) = writer.parts();
        let depth = stack::capture_interrupted(at, bounds, frames);
        let key = RowKey { header: header.words(), frames: &frames[..depth] };
        find_or_overflow(tally, key, &header)
    });
    Prepared { header, row }.add(values);
}

/// Adds to the row of this key, or to `[overflow]` or `[lost]` where there is no room.
pub(crate) fn record_again(key: RowKey<'static>, header: Header, values: [i64; VALUES]) {
    let row = thread().and_then(Thread::write).and_then(|mut writer| {
        let (tally, _) = writer.parts();
        find_or_overflow(tally, key, &header)
    });
    Prepared { header, row }.add(values);
}

fn find<const N: usize>(headers: [Header; N]) -> Option<[Option<Row>; N]> {
    let mut writer = thread()?.write()?;
    let thread = writer.thread();
    let node = Some(thread.node()).filter(|node| node.site().is_some());
    let labels = thread.labels();
    let (tally, Scratch { bounds, frames: scratch, copy }) = writer.parts();
    let depth = if headers.iter().any(|header| header.marker == Marker::No) {
        stack::capture(bounds, copy, scratch)
    } else {
        0
    };
    Some(headers.map(|header| {
        let (header, frames) = match header.marker {
            Marker::No => (Header { node, labels, ..header }, &scratch[..depth]),
            _ => (header, &[][..]),
        };
        find_or_overflow(tally, RowKey { header: header.words(), frames }, &header)
    }))
}

fn find_or_overflow(tally: TallyWriter<'_>, key: RowKey<'_>, header: &Header) -> Option<Row> {
    let source = header.source;
    let bucketed = source == Source::Block;
    // The name of a custom profile says which one it is, and there are few.
    let name = header.name.filter(|_| source == Source::Custom);
    // Relaxed: a limit.
    let limit = MAX_STACKS.load(Ordering::Relaxed);
    tally.find(key, bucketed, limit).or_else(|| {
        let overflow = Header { marker: Marker::Overflow, name, ..Header::new(source) };
        tally.find(RowKey { header: overflow.words(), frames: &[] }, bucketed, usize::MAX)
    })
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
