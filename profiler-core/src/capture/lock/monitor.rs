//! What stands in a lock beside the lock itself: who holds it, who waits, what is charged.
//!
//! The fast path stores the holder and where it acquired, and reads one flag at release. All else is
//! out of line. While the caller holds the user's lock, only the clock, the ledger and rows found
//! before are touched; stacks are walked before parking and after release, and nothing reads the
//! lock's memory after release.

#![allow(
    unsafe_code,
    reason = "call sites behind atomic pointers; a name that outlives its lock's release"
)]

use std::cell::UnsafeCell;
use std::hint;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::buffer::primitive::{AtomicBool, AtomicU64, AtomicU128};
use crate::buffer::record::{Header, Marker, Source, Waiting};
use crate::buffer::thread::{self, Thread};
use crate::buffer::wait::Wait;
use crate::capture::ledger::Ledger;
use crate::capture::rates::Draw;
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
    name: Name,
}

/// A name that is set once and read only.
///
/// In a cell for one reason: a thread that releases the lock still has a reference to it when
/// another one frees it, which is allowed for cells only.
#[derive(Debug)]
struct Name(UnsafeCell<Option<&'static str>>);

// SAFETY: never written after it is made.
unsafe impl Sync for Name {}

// A panic can leave a figure behind that is for people, and nothing worse.
impl UnwindSafe for Monitor {}
impl RefUnwindSafe for Monitor {}

/// What a release owes: made before it, recorded after it.
#[derive(Debug)]
#[must_use = "a charge that is not recorded is lost"]
pub(crate) struct Charge {
    nanoseconds: i64,
    header: Header,
}

impl Monitor {
    pub(crate) const fn new(name: Option<&'static str>) -> Self {
        Self {
            holder: AtomicPtr::new(ptr::null_mut()),
            site: AtomicPtr::new(ptr::null_mut()),
            ledger: Ledger::new(AtomicU128::new(0), AtomicU64::new(0), AtomicBool::new(false)),
            name: Name(UnsafeCell::new(name)),
        }
    }

    pub(crate) const fn name(&self) -> Option<&'static str> {
        // SAFETY: never written after it is made.
        unsafe { *self.name.0.get() }
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

    /// Releases the lock by `release`, and charges this holder with what waiting has grown.
    ///
    /// `held` is what others wait for when they wait for this holder. Nothing here touches the lock
    /// after `release`: it may be gone.
    #[inline]
    pub(crate) fn release<O>(&self, held: Waiting, release: impl FnOnce() -> O) -> O {
        if self.is_settled() { release() } else { self.release_contended(held, release) }
    }

    #[cold]
    #[inline(never)]
    fn release_contended<O>(&self, held: Waiting, release: impl FnOnce() -> O) -> O {
        let charge = self.charge(held);
        let outcome = release();
        charge.record();
        outcome
    }

    /// Charges the caller, who is about to release the lock.
    ///
    /// Call [`Charge::record`] after the release.
    pub(crate) fn charge(&self, waiting: Waiting) -> Charge {
        let nanoseconds = self.ledger.charge(clock::now());
        Charge { nanoseconds, header: self.holder(waiting) }
    }

    /// Returns the key of what the caller is charged, who holds the lock.
    pub(crate) fn holder(&self, held: Waiting) -> Header {
        // A reader does not know where it acquired; what stands here is an upgradable holder's.
        let acquired_at = if held == Waiting::Read { None } else { self.acquired_at() };
        let name = self.name();
        Header { waiting: held, name, acquired_at, ..Header::new(Source::Mutex) }
    }

    /// Returns the key of a wait that begins at `site`.
    pub(crate) fn waiter(&self, waiting: Waiting, site: &'static Location<'static>) -> Header {
        let acquired_at = Some(site);
        Header { waiting, name: self.name(), acquired_at, ..Header::new(Source::Block) }
    }

    /// Returns the key of the time between a release and the moment that the next holder runs.
    pub(crate) fn handoff(&self, waiting: Waiting) -> Header {
        let marker = Marker::Handoff;
        Header { waiting, name: self.name(), marker, ..Header::new(Source::Mutex) }
    }

    /// Returns where the exclusive holder acquired the lock.
    pub(crate) fn acquired_at(&self) -> Option<&'static Location<'static>> {
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
    #[cfg_attr(
        not(feature = "parking_lot"),
        allow(dead_code, reason = "std's locks have no time-outs")
    )]
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
        let mut contention = Contention::begin(self, thread, waiting, site);
        contention.prepare();
        let outcome = acquire();
        contention.end(settles(&outcome));
        outcome
    }

    /// The same where `attempt` can try again without waiting, and `acquire` does not give up.
    #[cold]
    #[inline(never)]
    pub(crate) fn spin_or_wait<O>(
        &self,
        waiting: Waiting,
        site: &'static Location<'static>,
        attempt: impl FnMut() -> Option<O>,
        acquire: impl FnOnce() -> O,
    ) -> O {
        let Some(thread) = capture::thread().filter(|_| rates::any()) else {
            return acquire();
        };
        let mut contention = Contention::begin(self, thread, waiting, site);
        let outcome = contention.spin(attempt).unwrap_or_else(|| {
            contention.prepare();
            acquire()
        });
        contention.end(true);
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
        Self::at(Location::caller())
    }

    /// Returns this thread at that place.
    #[inline]
    pub(crate) fn at(site: &'static Location<'static>) -> Self {
        let thread = thread::current().or_else(|| if capture::is_on() { newcomer() } else { None });
        Self { thread, site }
    }
}

#[cold]
#[inline(never)]
fn newcomer() -> Option<&'static Thread> {
    capture::thread()
}

/// How long a thread tries again before it looks up where to record its wait: about as long as the
/// locks below spin before they park.
const SPIN: u64 = 1_000;

/// A thread that waits for a lock, from the failed attempt until it has the lock or gives up.
///
/// Whether a short wait will be recorded is drawn when it begins, as a least length. Most short
/// waits never reach theirs, and then nothing is looked up: a lock that is fought over with tiny
/// sections would otherwise spend more on rows than on its sections.
struct Contention<'a> {
    monitor: &'a Monitor,
    thread: &'static Thread,
    waiting: Waiting,
    site: &'static Location<'static>,
    start: u64,
    draw: Draw,
    rows: Option<Rows>,
}

/// Where a wait will be recorded, and what was shown before it.
struct Rows {
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
        let draw = rates::wait_to_come(thread);
        Self { monitor, thread, waiting, site, start, draw, rows: None }
    }

    /// Tries again and again, until the wait is long enough to be recorded or to park.
    fn spin<O>(&self, mut attempt: impl FnMut() -> Option<O>) -> Option<O> {
        // Rows are looked up in good time: between two attempts lie some tens of nanoseconds.
        let limit = self.draw.least().saturating_sub(100).min(SPIN);
        let mut pauses = 4;
        while clock::now().wrapping_sub(self.start) < limit {
            // PERF: ever longer pauses let the holder come back a few times, as the locks below do.
            // With even ones two threads pass the lock to and fro, at 1.6 times the cost.
            for _ in 0..pauses {
                hint::spin_loop();
            }
            pauses *= 2;
            if let Some(outcome) = attempt() {
                return Some(outcome);
            }
        }
        None
    }

    /// Looks up where to record the wait, and shows it to others.
    fn prepare(&mut self) {
        let Self { monitor, thread, waiting, site, start, .. } = *self;
        let [wait, handoff] =
            Prepared::together([monitor.waiter(waiting, site), monitor.handoff(waiting)]);
        let monitor = ptr::from_ref(monitor).addr();
        let outer = thread.show(Some(Wait { since: start, row: wait.row(), monitor }));
        self.rows = Some(Rows { wait, handoff, outer });
    }

    /// Ends the wait; `settles` is as in [`Monitor::wait`]. The caller may hold the lock: nothing is
    /// walked, hashed or inserted here, with two exceptions that are rare. A thread that acquired
    /// while it spun may have been stopped just before it did, so that its wait must be recorded
    /// after all; and one hand-off in a hundred of so short a wait is.
    fn end(mut self, settles: bool) {
        let Self { monitor, thread, waiting, site, start, draw, .. } = self;
        let end = self.leave();
        let (wait, handoff) = match self.rows.take() {
            Some(rows) => (Some(rows.wait), Some(rows.handoff)),
            None => (None, None),
        };
        let rest = if settles { monitor.ledger.charge(end) } else { 0 };
        if let Some(weighted) = draw.weigh(end - start, || thread.random()) {
            let wait = wait.unwrap_or_else(|| Prepared::new(monitor.waiter(waiting, site)));
            wait.add_weighted_wait(end - start, weighted);
        }
        if rest != 0
            && let Some((count, sum)) = rates::charge(thread, rest)
        {
            let handoff = handoff.unwrap_or_else(|| Prepared::new(monitor.handoff(waiting)));
            handoff.add([count, sum, 0, 0]);
        }
        std::mem::forget(self);
    }

    /// Leaves the ledger. Returns when.
    fn leave(&self) -> u64 {
        if let Some(rows) = &self.rows {
            self.thread.show(rows.outer);
        }
        // The same instant must count on both sides, and a wait cannot be shorter than nothing.
        let end = clock::now().max(self.start);
        self.monitor.ledger.leave(end);
        end
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
