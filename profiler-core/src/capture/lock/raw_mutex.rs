//! The decorator of raw mutexes.
//!
//! Works over every raw mutex of `lock_api` 0.5. An acquisition that succeeds at once stores who holds
//! the lock and where it was acquired; a release reads one flag more. All else is out of line, in
//! [`Monitor`].

#![allow(unsafe_code, reason = "lock_api's traits are unsafe to implement and to call")]

use std::fmt;

use lock_api::{RawMutexFair, RawMutexTimed};

use super::guard::replace_guard;
use super::monitor::{Caller, Monitor};
use crate::buffer::record::Waiting;

/// A raw mutex that knows who holds it and who waits, over any raw mutex of `lock_api` 0.5.
///
/// [`Mutex`](crate::parking_lot::Mutex) is built on it. It takes 80 bytes over `parking_lot`'s raw mutex, on
/// 64-bit machines.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use profiler_core::parking_lot::RawMutex;
///
/// struct Spin(AtomicBool);
///
/// // SAFETY: the flag is set by one at a time; Acquire and Release order what it protects.
/// unsafe impl lock_api::RawMutex for Spin {
///     const INIT: Self = Self(AtomicBool::new(false));
///     type Guard = lock_api::GuardSend;
///
///     fn lock(&self) -> Self::Guard {
///         loop {
///             if let Some(guard) = self.try_lock() {
///                 return guard;
///             }
///             std::hint::spin_loop();
///         }
///     }
///
///     fn try_lock(&self) -> Option<Self::Guard> {
///         (!self.0.swap(true, Ordering::Acquire)).then(lock_api::GuardSend::new)
///     }
///
///     unsafe fn unlock(&self, _: Self::Guard) {
///         self.0.store(false, Ordering::Release);
///     }
///
///     fn is_locked(&self) -> bool {
///         self.0.load(Ordering::Relaxed)
///     }
/// }
///
/// static QUEUE: lock_api::Mutex<RawMutex<Spin>, Vec<u32>> = lock_api::Mutex::from_raw(
///     RawMutex::named("queue", <Spin as lock_api::RawMutex>::INIT),
///     Vec::new(),
/// );
///
/// QUEUE.lock().push(7);
/// assert_eq!(*QUEUE.lock(), [7]);
/// ```
pub struct RawMutex<R = parking_lot::RawMutex> {
    raw: R,
    monitor: Monitor,
}

impl<R> RawMutex<R> {
    /// Makes a lock without a name.
    #[must_use]
    pub const fn new(raw: R) -> Self {
        Self { raw, monitor: Monitor::new(None) }
    }

    /// Makes a lock that profiles show under this name, as label `lock`.
    #[must_use]
    pub const fn named(name: &'static str, raw: R) -> Self {
        Self { raw, monitor: Monitor::new(Some(name)) }
    }

    pub(super) const fn raw(&self) -> &R {
        &self.raw
    }

    pub(super) const fn monitor(&self) -> &Monitor {
        &self.monitor
    }
}

impl<R: lock_api::RawMutex> RawMutex<R> {
    #[inline]
    fn lock_from(&self, caller: Caller) -> R::Guard {
        let guard = match self.raw.try_lock() {
            Some(guard) => guard,
            None => self.spin_or_wait(caller),
        };
        self.monitor.acquired(caller);
        guard
    }

    #[cold]
    #[inline(never)]
    fn spin_or_wait(&self, caller: Caller) -> R::Guard {
        let attempt = || if self.raw.is_locked() { None } else { self.raw.try_lock() };
        self.monitor.spin_or_wait(Waiting::Mutex, caller.site, attempt, || self.raw.lock())
    }
}

// SAFETY: mutual exclusion and ordering are those of the raw lock, to which every acquisition and
// every release is passed on, with its guard, exactly once.
unsafe impl<R: lock_api::RawMutex> lock_api::RawMutex for RawMutex<R> {
    const INIT: Self = Self::new(R::INIT);

    type Guard = R::Guard;

    #[inline]
    #[track_caller]
    fn lock(&self) -> Self::Guard {
        self.lock_from(Caller::here())
    }

    #[inline]
    #[track_caller]
    fn try_lock(&self) -> Option<Self::Guard> {
        let caller = Caller::here();
        let guard = self.raw.try_lock()?;
        self.monitor.acquired(caller);
        Some(guard)
    }

    #[inline]
    unsafe fn unlock(&self, guard: Self::Guard) {
        // SAFETY: the caller holds the lock by this guard.
        self.monitor.release(Waiting::Mutex, || unsafe { self.raw.unlock(guard) });
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl<R: RawMutexFair> RawMutexFair for RawMutex<R> {
    #[inline]
    unsafe fn unlock_fair(&self, guard: Self::Guard) {
        // SAFETY: the caller holds the lock by this guard.
        self.monitor.release(Waiting::Mutex, || unsafe { self.raw.unlock_fair(guard) });
    }

    /// Where somebody waits this is a release and an acquisition, with their records. Else the raw
    /// lock decides.
    #[inline]
    #[track_caller]
    unsafe fn bump(&self, guard: &mut Self::Guard) {
        let caller = Caller::here();
        if self.monitor.ledger().waiters() == 0 {
            // SAFETY: the caller holds the lock by this guard.
            unsafe { self.raw.bump(guard) };
            // Another may have held it meanwhile.
            return self.monitor.acquired(caller);
        }
        let release = |held| {
            // SAFETY: the caller holds the lock by this guard.
            self.monitor.release(Waiting::Mutex, || unsafe { self.raw.unlock_fair(held) });
        };
        // SAFETY: `release` gives the guard to the raw lock.
        unsafe { replace_guard(guard, release, || self.lock_from(caller)) };
    }
}

impl<R: RawMutexTimed> RawMutex<R> {
    #[inline]
    fn lock_timed(
        &self,
        caller: Caller,
        acquire: impl FnOnce(&R) -> Option<R::Guard>,
    ) -> Option<R::Guard> {
        let guard = self.raw.try_lock().or_else(|| {
            let settles = |guard: &Option<_>| guard.is_some() || !self.raw.is_locked();
            self.monitor.wait(Waiting::Mutex, caller.site, || acquire(&self.raw), settles)
        })?;
        self.monitor.acquired(caller);
        Some(guard)
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl<R: RawMutexTimed> RawMutexTimed for RawMutex<R> {
    type Duration = R::Duration;
    type Instant = R::Instant;

    #[inline]
    #[track_caller]
    fn try_lock_for(&self, timeout: Self::Duration) -> Option<Self::Guard> {
        self.lock_timed(Caller::here(), |raw| raw.try_lock_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_until(&self, timeout: Self::Instant) -> Option<Self::Guard> {
        self.lock_timed(Caller::here(), |raw| raw.try_lock_until(timeout))
    }
}

impl<R> fmt::Debug for RawMutex<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawMutex").field("name", &self.monitor.name()).finish_non_exhaustive()
    }
}
