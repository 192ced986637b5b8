//! Who created the threads: how many of them told so, how many are the profiler's, and how many nobody knows.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::living::living;
use super::thread::{self, Thread};

/// Threads that joined, or will, and whose creation was recorded.
static CREATORS_KNOWN: AtomicU64 = AtomicU64::new(0);
/// Those that are the profiler's.
static OURS: AtomicU64 = AtomicU64::new(0);

/// Returns how many threads there are or were, but for the profiler's, of which it is not known who created them, as far
/// as they were seen: those that joined, and the most that were there at a time and had not. Never falls.
pub(crate) fn from_unknown() -> u64 {
    static MOST: AtomicU64 = AtomicU64::new(0);
    // In this order, so that it is not too large: a thread that is no stranger any more has not joined yet for this.
    let joined = thread::joined();
    let there = living().numbers;
    let known: HashSet<u32> = thread::all().map(Thread::owner_id).collect();
    let strangers = there.iter().filter(|thread| !known.contains(thread)).count() as u64;
    // Relaxed: figures. Creators are known before there is a thread.
    let known = CREATORS_KNOWN.load(Ordering::Relaxed);
    let ours = OURS.load(Ordering::Relaxed);
    let unknown = (joined + strangers).saturating_sub(known + ours);
    // Relaxed: a figure.
    MOST.fetch_max(unknown, Ordering::Relaxed).max(unknown)
}

/// Returns how many threads were created by whom it is known.
pub(crate) fn from_known() -> u64 {
    // Relaxed: a figure.
    CREATORS_KNOWN.load(Ordering::Relaxed)
}

/// Notes that a thread is about to be created whose creator is known.
pub(crate) fn creator_is_known() {
    // Relaxed: a figure.
    CREATORS_KNOWN.fetch_add(1, Ordering::Relaxed);
}

/// Notes that a thread of the profiler's is about to be created, which joins before all else.
pub(crate) fn ours_is_coming() {
    // Relaxed: a figure.
    OURS.fetch_add(1, Ordering::Relaxed);
}

/// Takes that back, as there is no thread after all.
pub(crate) fn ours_is_not_coming() {
    // Relaxed: a figure.
    OURS.fetch_sub(1, Ordering::Relaxed);
}

/// Takes that back, as there is no thread after all.
pub(crate) fn nobody_was_created() {
    // Relaxed: a figure.
    CREATORS_KNOWN.fetch_sub(1, Ordering::Relaxed);
}
