//! What condition variables of both families share: who waits, and when each was notified.
//!
//! A wait on a condition variable is two records, as in Go: the wait until the notification, and
//! the wait for the lock from then on. Only the notifier knows the moment between, so the waiters
//! stand in a list, and a notification *marks* the one that waits longest: it enters that waiter
//! into the lock's ledger as of now, on its behalf, before it wakes it. The woken one may free the
//! lock at once; but first it must leave the list, whose lock the notifier still holds, so the
//! notifier is done with the ledger by then.
//!
//! Which waiter the condition variable really wakes is its own affair:
//!
//! - Whoever returns without a mark while another has one takes that mark over.
//! - If fewer were woken than marked, as far as the condition variable tells, the newest marks are
//!   taken back; what they added to the ledger until then is recorded by the one who bore them.
//! - Whoever times out is taken to wait for the lock from the deadline on. Whoever returns by chance
//!   has waited for the condition until now, since nobody knows better.
//!
//! # What is done while the caller still holds the lock
//!
//! Waiting gives the lock up inside the condition variable, and gets it back there, so rows cannot
//! be looked up outside of it, as everywhere else. They are looked up before: one walk for all, some
//! 200 ns, once for a call that enters the kernel twice. Keeping the records for the next release
//! instead would need a place that goes with the guard, and guards move.
//!
//! The list's own lock is std's; it is held for some stores, and by a notifier for the time of the
//! inner notification. The child of a fork has one of its own, and an empty list.

#![allow(unsafe_code, reason = "a list whose nodes stand on the stacks of those who wait")]

use std::panic::Location;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::monitor::Monitor;
use super::waiters::{List, Waiter};
use crate::buffer::record::Waiting;
use crate::buffer::thread::Thread;
use crate::buffer::wait::Wait;
use crate::capture::{self, Prepared, rates};
use crate::clock;
use crate::per_process::Renewed;

/// The profiler's part of a condition variable.
#[derive(Debug)]
pub(crate) struct Queue {
    /// Beside it how many stand in it.
    list: Renewed<List, AtomicU32>,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self { list: Renewed::new(List::new(), AtomicU32::new(0)) }
    }

    /// Waits by `wait`, which releases the lock of `monitor` and acquires it again; the caller holds
    /// it. `timed_out` tells from the outcome of `wait` whether `timeout` has passed.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait<O>(
        &self,
        monitor: &Monitor,
        site: &'static Location<'static>,
        timeout: Option<Duration>,
        wait: impl FnOnce() -> O,
        timed_out: impl FnOnce(&O) -> bool,
    ) -> O {
        let Some(thread) = capture::thread().filter(|_| rates::any()) else {
            return wait();
        };
        let waiter = Waiter::new(monitor);
        let pause = Pause::begin(self, &waiter, thread, monitor, site, timeout);
        let outcome = wait();
        pause.end(timed_out(&outcome));
        outcome
    }

    /// Notifies one by `notify`, which returns how many it woke, or 0 if it cannot tell.
    #[inline]
    pub(crate) fn notify_one(&self, notify: impl FnOnce() -> usize) -> usize {
        if self.is_empty() { notify() } else { self.notify(1, notify) }
    }

    /// The same for all.
    #[inline]
    pub(crate) fn notify_all(&self, notify: impl FnOnce() -> usize) -> usize {
        if self.is_empty() { notify() } else { self.notify(usize::MAX, notify) }
    }

    fn is_empty(&self) -> bool {
        // Relaxed: a waiter that had the lock before this notifier is seen, since the lock orders
        // the two; one that comes at the same time as a notifier without the lock may be missed,
        // as it may miss the notification.
        self.list.beside.load(Ordering::Relaxed) == 0
    }

    #[cold]
    #[inline(never)]
    fn notify(&self, most: usize, notify: impl FnOnce() -> usize) -> usize {
        let mut list = self.list();
        let marked = list.mark(most, clock::now());
        let woken = notify();
        list.woken(woken, marked, clock::now);
        woken
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // Nothing panics under this lock but, perhaps, an inner notification.
        self.list.lock(|of_parent| {
            // Relaxed: see `is_empty`.
            self.list.beside.store(0, Ordering::Relaxed);
            of_parent.without_waiters()
        })
    }
}

/// A thread that waits on a condition variable.
struct Pause<'a> {
    queue: &'a Queue,
    waiter: &'a Waiter,
    thread: &'static Thread,
    monitor: &'a Monitor,
    start: u64,
    deadline: Option<u64>,
    /// The wait, the re-lock and the hand-off; nothing once they are recorded.
    records: Option<[Prepared; 3]>,
    outer: Option<Wait>,
}

impl<'a> Pause<'a> {
    fn begin(
        queue: &'a Queue,
        waiter: &'a Waiter,
        thread: &'static Thread,
        monitor: &'a Monitor,
        site: &'static Location<'static>,
        timeout: Option<Duration>,
    ) -> Self {
        let start = clock::now();
        let timeout = timeout.and_then(|timeout| u64::try_from(timeout.as_nanos()).ok());
        let deadline = timeout.and_then(|timeout| start.checked_add(timeout));
        let headers = [
            monitor.waiter(Waiting::Condvar, site),
            monitor.waiter(Waiting::Mutex, site),
            monitor.handoff(Waiting::Mutex),
        ];
        let [wait, relock, handoff] = if monitor.is_settled() {
            Prepared::together(headers)
        } else {
            let [wait, relock, handoff] = headers;
            let holder = monitor.holder(Waiting::Mutex);
            let [wait, relock, handoff, holder] =
                Prepared::together([wait, relock, handoff, holder]);
            // The release to come is this caller's.
            holder.add_charge(thread, monitor.ledger().charge(clock::now()));
            [wait, relock, handoff]
        };
        // Of the lock that it will want again nobody can say now who holds it.
        let shown = Wait { since: start, row: wait.row(), monitor: 0 };
        let outer = thread.show(Some(shown));
        // SAFETY: `self` borrows the waiter and takes it out in `leave`, which both `end` and
        // `drop` call.
        unsafe { queue.list().push(waiter) };
        // Relaxed: see `is_empty`.
        queue.list.beside.fetch_add(1, Ordering::Relaxed);
        let records = Some([wait, relock, handoff]);
        Self { queue, waiter, thread, monitor, start, deadline, records, outer }
    }

    /// Ends the wait. The caller holds the lock: nothing is walked, hashed or inserted here.
    fn end(mut self, timed_out: bool) {
        let (end, relocked) = self.leave(timed_out);
        if let Some([wait, relock, handoff]) = self.records.take() {
            if let Some(relocked) = relocked {
                let rest = self.monitor.ledger().charge(end);
                relock.add_wait(self.thread, relocked);
                handoff.add_charge(self.thread, rest);
            }
            let waited = (end - self.start).saturating_sub(relocked.unwrap_or(0));
            wait.add_wait(self.thread, waited);
        }
        std::mem::forget(self);
    }

    /// Leaves the list, and the ledger if somebody entered this waiter into it. Returns when, and
    /// how long of the wait was for the lock.
    fn leave(&self, timed_out: bool) -> (u64, Option<u64>) {
        self.thread.show(self.outer);
        let mut list = self.queue.list();
        // SAFETY: pushed in `begin`.
        unsafe { list.remove(self.waiter, timed_out, clock::now) };
        drop(list);
        // Relaxed: see `is_empty`.
        self.queue.list.beside.fetch_sub(1, Ordering::Relaxed);
        let end = clock::now().max(self.start);
        (end, self.waiter.settle(self.monitor.ledger(), self.deadline.filter(|_| timed_out), end))
    }
}

/// Only when the inner wait panicked: the waiter is gone, its wait is not recorded.
impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.leave(false);
    }
}
