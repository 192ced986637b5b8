//! std's condition variable with a queue beside it.

use std::fmt;
use std::panic::Location;
use std::sync::{self, LockResult, PoisonError, WaitTimeoutResult};
use std::time::{Duration, Instant};

use super::condvar::Queue;
use super::std_mutex::MutexGuard;

/// A condition variable, as [`std::sync::Condvar`]; see there.
///
/// A wait is recorded as two, under the name of the mutex: until the notification, and from then
/// until the mutex is held again. On 64-bit Linux it takes 48 bytes.
#[derive(Default)]
pub struct Condvar {
    queue: Queue,
    inner: sync::Condvar,
}

impl Condvar {
    /// Makes a condition variable that nobody waits on.
    #[must_use]
    #[inline]
    pub const fn new() -> Self {
        Self { queue: Queue::new(), inner: sync::Condvar::new() }
    }

    /// Releases the mutex, waits for a notification, and takes the mutex again. May return by
    /// chance.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned when it is taken again.
    ///
    /// # Panics
    ///
    /// It may if it is used with more than one mutex.
    #[track_caller]
    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let site = Location::caller();
        let (monitor, guard) = guard.into_parts();
        let wait = || self.inner.wait(guard);
        match self.queue.wait(monitor, site, None, wait, |_| false) {
            Ok(guard) => Ok(MutexGuard::from_parts(monitor, guard, site)),
            Err(poisoned) => {
                let guard = MutexGuard::from_parts(monitor, poisoned.into_inner(), site);
                Err(PoisonError::new(guard))
            }
        }
    }

    /// Waits for as long as `condition` holds, which is asked at once and after each wait.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned when it is taken again.
    ///
    /// # Panics
    ///
    /// As for [`Condvar::wait`].
    #[track_caller]
    pub fn wait_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        mut condition: F,
    ) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// As [`Condvar::wait_timeout`], in milliseconds; the result is false after a time-out.
    ///
    /// # Errors
    ///
    /// As for [`Condvar::wait_timeout`].
    ///
    /// # Panics
    ///
    /// As for [`Condvar::wait`].
    #[deprecated(note = "replaced by `wait_timeout`, as in std")]
    #[track_caller]
    pub fn wait_timeout_ms<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        ms: u32,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        match self.wait_timeout(guard, Duration::from_millis(u64::from(ms))) {
            Ok((guard, result)) => Ok((guard, !result.timed_out())),
            Err(poisoned) => {
                let (guard, result) = poisoned.into_inner();
                Err(PoisonError::new((guard, !result.timed_out())))
            }
        }
    }

    /// As [`Condvar::wait`], but no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// Guard and result, if the mutex is poisoned when it is taken again.
    ///
    /// # Panics
    ///
    /// As for [`Condvar::wait`].
    #[track_caller]
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let site = Location::caller();
        let (monitor, guard) = guard.into_parts();
        let wait = || self.inner.wait_timeout(guard, timeout);
        let timed_out = |outcome: &LockResult<(_, WaitTimeoutResult)>| match outcome {
            Ok((_, result)) => result.timed_out(),
            Err(poisoned) => poisoned.get_ref().1.timed_out(),
        };
        match self.queue.wait(monitor, site, Some(timeout), wait, timed_out) {
            Ok((guard, result)) => Ok((MutexGuard::from_parts(monitor, guard, site), result)),
            Err(poisoned) => {
                let (guard, result) = poisoned.into_inner();
                let guard = MutexGuard::from_parts(monitor, guard, site);
                Err(PoisonError::new((guard, result)))
            }
        }
    }

    /// As [`Condvar::wait_while`], but no longer than `timeout`; the result tells whether the
    /// condition still held then.
    ///
    /// # Errors
    ///
    /// Guard and result, if the mutex is poisoned when it is taken again.
    ///
    /// # Panics
    ///
    /// As for [`Condvar::wait`].
    #[track_caller]
    pub fn wait_timeout_while<'a, T, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        timeout: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let start = Instant::now();
        loop {
            if !condition(&mut *guard) {
                return Ok((guard, result(false)));
            }
            let Some(left) = timeout.checked_sub(start.elapsed()) else {
                return Ok((guard, result(true)));
            };
            (guard, _) = self.wait_timeout(guard, left)?;
        }
    }

    /// Wakes one that waits, if there is one.
    #[inline]
    pub fn notify_one(&self) {
        self.queue.notify_one(|| {
            self.inner.notify_one();
            0
        });
    }

    /// Wakes all that wait.
    #[inline]
    pub fn notify_all(&self) {
        self.queue.notify_all(|| {
            self.inner.notify_all();
            0
        });
    }
}

/// Makes a result, which std gives no other way to make: a wait of no time on a mutex of its own.
fn result(timed_out: bool) -> WaitTimeoutResult {
    let (mutex, condvar) = (sync::Mutex::new(()), sync::Condvar::new());
    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = condvar.wait_timeout_while(guard, Duration::ZERO, |()| timed_out);
    waited.unwrap_or_else(PoisonError::into_inner).1
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
