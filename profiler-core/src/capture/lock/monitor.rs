//! What stands in a lock beside the lock itself: who holds it, who waits, what is charged.
//!
//! The fast path stores the holder and where it acquired, and reads one flag at release. All else is
//! out of line. While the caller holds the user's lock, only the clock, the ledger and rows found
//! before are touched; stacks are walked before parking and after release, and nothing reads the
//! lock's memory after release.

#![allow(unsafe_code, reason = "a call site is kept as an atomic pointer")]

use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::buffer::record::{Header, Marker, Source, Waiting};
use crate::buffer::thread::{self, Thread, Wait};
use crate::capture::ledger::Ledger;
use crate::capture::{self, Prepared, rates};
use crate::clock;

/// The profiler's part of a lock.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Monitor {
    /// The thread that holds the lock exclusively, or held it last; null for readers.
    holder: AtomicPtr<Thread>,
    /// Where it was acquired.
    site: AtomicPtr<Location<'static>>,
    ledger: Ledger,
    name: Option<&'static str>,
}

// A panic can leave a figure behind that is for people, and nothing worse.
impl UnwindSafe for Monitor {}
impl RefUnwindSafe for Monitor {}

/// What a release owes: made before it, recorded after it.
#[derive(Debug)]
#[must_use = "a charge that is not recorded is lost"]
pub(crate) struct Charge {
    nanoseconds: u64,
    header: Header,
}

impl Monitor {
    pub(crate) const fn new(name: Option<&'static str>) -> Self {
        Self {
            holder: AtomicPtr::new(ptr::null_mut()),
            site: AtomicPtr::new(ptr::null_mut()),
            ledger: Ledger::new(),
            name,
        }
    }

    pub(crate) const fn name(&self) -> Option<&'static str> {
        self.name
    }

    /// Notes that this caller now holds the lock exclusively.
    #[inline]
    pub(crate) fn acquired(&self, caller: Caller) {
        let holder = caller.thread.map_or(ptr::null_mut(), |t| ptr::from_ref(t).cast_mut());
        // Relaxed: for people; the lock itself orders what it protects.
        self.holder.store(holder, Ordering::Relaxed);
        self.site.store(ptr::from_ref(caller.site).cast_mut(), Ordering::Relaxed);
    }

    /// Notes that nobody holds the lock exclusively any more.
    #[inline]
    pub(crate) fn released_exclusive(&self) {
        // Relaxed: as in `acquired`.
        self.holder.store(ptr::null_mut(), Ordering::Relaxed);
        self.site.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Returns whether a release owes nothing.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.ledger.is_settled()
    }

    pub(crate) const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Charges the caller, who is about to release the lock. `waiting` is what others wait for when
    /// they wait for this caller.
    ///
    /// Call [`Charge::record`] after the release.
    #[cold]
    pub(crate) fn charge(&self, waiting: Waiting) -> Charge {
        let nanoseconds = self.ledger.charge(clock::now());
        Charge { nanoseconds, header: self.holder_header(waiting) }
    }

    /// Returns the key of what is charged to the caller, who holds the lock.
    fn holder_header(&self, waiting: Waiting) -> Header {
        // A reader does not know where it acquired; what stands here is an upgradable holder's.
        let acquired_at = if waiting == Waiting::Read { None } else { self.acquired_at() };
        Header { waiting, name: self.name, acquired_at, ..Header::new(Source::Mutex) }
    }

    fn acquired_at(&self) -> Option<&'static Location<'static>> {
        // Relaxed: for people.
        let site = self.site.load(Ordering::Relaxed);
        // SAFETY: null, or stored from a reference that lives for ever.
        unsafe { site.as_ref() }
    }

    /// Waits for the lock: calls `acquire` after a first attempt has failed, and records how long it
    /// took and what of that was hand-off.
    ///
    /// `acquire` blocks until it has the lock or gives up; `settles` tells from its outcome whether
    /// no release is to come that could be charged with the rest: the caller has the lock, or
    /// nobody has.
    #[cold]
    #[inline(never)]
    pub(crate) fn wait<O>(
        &self,
        waiting: Waiting,
        site: &'static Location<'static>,
        acquire: impl FnOnce() -> O,
        settles: impl FnOnce(&O) -> bool,
    ) -> O {
        let Some(thread) = capture::thread().filter(|_| rates::any()) else {
            return acquire();
        };
        let contention = Contention::begin(self, thread, waiting, site);
        let outcome = acquire();
        contention.end(settles(&outcome));
        outcome
    }
}

/// Who asks for a lock, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    thread: Option<&'static Thread>,
    pub(crate) site: &'static Location<'static>,
}

impl Caller {
    /// Returns this thread at its caller's place. Before the lock is taken, since the first call of
    /// a thread joins the profiler.
    #[inline]
    #[track_caller]
    pub(crate) fn here() -> Self {
        let thread = thread::current().or_else(|| if capture::is_on() { newcomer() } else { None });
        Self { thread, site: Location::caller() }
    }
}

#[cold]
#[inline(never)]
fn newcomer() -> Option<&'static Thread> {
    capture::thread()
}

/// A thread that waits for a lock, from the failed attempt until it has the lock or gives up.
struct Contention<'a> {
    monitor: &'a Monitor,
    thread: &'static Thread,
    start: u64,
    wait: Prepared,
    handoff: Prepared,
    outer: Option<Wait>,
}

impl<'a> Contention<'a> {
    fn begin(
        monitor: &'a Monitor,
        thread: &'static Thread,
        waiting: Waiting,
        site: &'static Location<'static>,
    ) -> Self {
        let start = clock::now();
        monitor.ledger.enter(start);
        let name = monitor.name;
        let acquired_at = Some(site);
        let wait = Header { waiting, name, acquired_at, ..Header::new(Source::Block) };
        let wait = Prepared::new(wait);
        let handoff =
            Header { waiting, name, marker: Marker::Handoff, ..Header::new(Source::Mutex) };
        let handoff = Prepared::new(handoff);
        let shown = Wait { since: start, row: wait.row(), monitor: ptr::from_ref(monitor).addr() };
        let outer = thread.wait.publish(shown);
        Self { monitor, thread, start, wait, handoff, outer }
    }

    /// Ends the wait; `settles` is as in [`Monitor::wait`]. The caller may hold the lock: nothing is
    /// walked, hashed or inserted here.
    fn end(self, settles: bool) {
        let (start, end) = self.leave();
        let rest = if settles { self.monitor.ledger.charge(end) } else { 0 };
        let length = end - start;
        if let Some((count, nanoseconds)) = rates::wait(self.thread, length) {
            self.wait.add_wait(length, count, nanoseconds);
        }
        if rest > 0
            && let Some((count, nanoseconds)) = rates::charge(self.thread, rest)
        {
            self.handoff.add([count, nanoseconds, 0, 0]);
        }
        std::mem::forget(self);
    }

    fn leave(&self) -> (u64, u64) {
        self.thread.wait.restore(self.outer);
        // The same instant must count on both sides, and a wait cannot be shorter than nothing.
        let end = clock::now().max(self.start);
        self.monitor.ledger.leave(end);
        (self.start, end)
    }
}

/// Only when the raw lock panicked: the waiter is gone, its wait is not recorded.
impl Drop for Contention<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Charge {
    /// Records the charge. The lock has been released: it may be gone.
    pub(crate) fn record(self) {
        let Self { nanoseconds, header } = self;
        if nanoseconds == 0 {
            return;
        }
        if let Some(thread) = capture::thread()
            && let Some((count, sum)) = rates::charge(thread, nanoseconds)
        {
            capture::record(header, [count, sum, 0, 0]);
        }
    }
}
