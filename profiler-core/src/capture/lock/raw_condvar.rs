//! The decorator of raw condition variables.

#![allow(unsafe_code, reason = "lock_api's traits are unsafe to implement and to call")]

use std::fmt;
use std::panic::Location;
use std::time::{Duration, Instant};

use lock_api::{RawCondvarTimed, RawMutexTimed};

use super::condvar::Queue;
use super::monitor::Caller;
use super::raw_mutex::RawMutex;

/// A raw condition variable that knows who waits, over any raw condition variable of `lock_api`
/// 0.5; it works with [`RawMutex`].
///
/// A wait is recorded as two, under the name of the mutex: until the notification, and from then
/// until the mutex is held again. It takes 40 bytes over `parking_lot`'s, on 64-bit Linux.
///
/// Whether it wakes by chance is as the one below has it, and so are the numbers that notifications
/// return.
pub struct RawCondvar<C = parking_lot::RawCondvar> {
    raw: C,
    queue: Queue,
}

impl<C> RawCondvar<C> {
    /// Makes a condition variable that nobody waits on.
    #[must_use]
    pub const fn new(raw: C) -> Self {
        Self { raw, queue: Queue::new() }
    }
}

impl<C: lock_api::RawCondvar> RawCondvar<C> {
    /// Waits by `wait`; `timed_out` tells its outcome.
    fn wait_by<O>(
        &self,
        mutex: &RawMutex<C::RawMutex>,
        timeout: Option<Duration>,
        wait: impl FnOnce() -> O,
        timed_out: impl FnOnce(&O) -> bool,
    ) -> O {
        let monitor = mutex.monitor();
        // lock_api does not tell where it was called, but the mutex knows where it was acquired.
        let site = monitor.acquired_at().unwrap_or(Location::caller());
        let outcome = self.queue.wait(monitor, site, timeout, wait, timed_out);
        monitor.acquired(Caller::at(site));
        outcome
    }
}

// SAFETY: all is passed on to the raw condition variable, with the raw mutex that the caller holds
// and its guard.
unsafe impl<C: lock_api::RawCondvar> lock_api::RawCondvar for RawCondvar<C> {
    const INIT: Self = Self::new(C::INIT);

    type RawMutex = RawMutex<C::RawMutex>;

    unsafe fn wait(
        &self,
        mutex: &Self::RawMutex,
        guard: &mut <Self::RawMutex as lock_api::RawMutex>::Guard,
    ) {
        // SAFETY: the caller holds the mutex by this guard.
        let wait = || unsafe { self.raw.wait(mutex.raw(), guard) };
        self.wait_by(mutex, None, wait, |()| false);
    }

    #[inline]
    fn notify_one(&self) -> bool {
        self.queue.notify_one(|| usize::from(self.raw.notify_one())) > 0
    }

    #[inline]
    fn notify_all(&self) -> usize {
        self.queue.notify_all(|| self.raw.notify_all())
    }
}

// SAFETY: as for `RawCondvar`.
unsafe impl<C: RawCondvarTimed> RawCondvarTimed for RawCondvar<C>
where
    C::RawMutex: RawMutexTimed<Duration = Duration, Instant = Instant>,
{
    fn checked_duration_to_instant(timeout: &Duration) -> Option<Instant> {
        C::checked_duration_to_instant(timeout)
    }

    unsafe fn wait_until(
        &self,
        mutex: &Self::RawMutex,
        guard: &mut <Self::RawMutex as lock_api::RawMutex>::Guard,
        timeout: &Instant,
    ) -> bool {
        let left = timeout.saturating_duration_since(Instant::now());
        // SAFETY: the caller holds the mutex by this guard.
        let wait = || unsafe { self.raw.wait_until(mutex.raw(), guard, timeout) };
        self.wait_by(mutex, Some(left), wait, |&timed_out| timed_out)
    }

    unsafe fn wait_for(
        &self,
        mutex: &Self::RawMutex,
        guard: &mut <Self::RawMutex as lock_api::RawMutex>::Guard,
        timeout: &Duration,
    ) -> bool {
        // SAFETY: the caller holds the mutex by this guard.
        let wait = || unsafe { self.raw.wait_for(mutex.raw(), guard, timeout) };
        self.wait_by(mutex, Some(*timeout), wait, |&timed_out| timed_out)
    }
}

impl<C> fmt::Debug for RawCondvar<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCondvar").finish_non_exhaustive()
    }
}
