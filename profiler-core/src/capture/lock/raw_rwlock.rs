//! The decorator of raw readers-writer locks; its upgradable side is in `raw_rwlock_upgrade.rs`.
//!
//! As in `raw_mutex.rs`, with this difference: who holds the lock shared is not stored, since that
//! would need room for all of them. A reader's release takes all that has grown since the last
//! charge; a count of readers to divide by would make every read 1.8 times as expensive.

#![allow(unsafe_code, reason = "lock_api's traits are unsafe to implement and to call")]

use std::fmt;
use std::panic::Location;

use lock_api::{RawRwLockDowngrade, RawRwLockFair, RawRwLockTimed};

use super::guard::replace_guard;
use super::monitor::{Caller, Monitor};
use crate::buffer::record::Waiting;

/// A raw readers-writer lock that knows who holds it exclusively and who waits, over any raw
/// readers-writer lock of `lock_api` 0.5.
///
/// [`RwLock`](crate::parking_lot::RwLock) is built on it; see [`RawMutex`](crate::parking_lot::RawMutex) for how to wrap a lock
/// of another crate. On 64-bit machines it takes 80 bytes over `parking_lot`'s raw lock.
pub struct RawRwLock<R = parking_lot::RawRwLock> {
    pub(super) raw: R,
    pub(super) monitor: Monitor,
}

impl<R> RawRwLock<R> {
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
}

impl<R: lock_api::RawRwLock> RawRwLock<R> {
    /// Waits by `acquire`, whose outcome is an acquisition if `succeeded` says so.
    #[cold]
    #[inline(never)]
    pub(super) fn wait<O>(
        &self,
        waiting: Waiting,
        site: &'static Location<'static>,
        acquire: impl FnOnce(&R) -> O,
        succeeded: impl FnOnce(&O) -> bool,
    ) -> O {
        let settles = |outcome: &O| succeeded(outcome) || !self.raw.is_locked();
        self.monitor.wait(waiting, site, || acquire(&self.raw), settles)
    }

    /// Waits by `acquire`, which does not give up, after some attempts.
    #[cold]
    #[inline(never)]
    pub(super) fn spin_or_wait<G>(
        &self,
        waiting: Waiting,
        site: &'static Location<'static>,
        attempt: impl Fn(&R) -> Option<G>,
        acquire: impl FnOnce(&R) -> G,
    ) -> G {
        self.monitor.spin_or_wait(waiting, site, || attempt(&self.raw), || acquire(&self.raw))
    }

    /// Gives up a shared hold by `release`.
    #[inline]
    pub(super) fn release_shared(&self, release: impl FnOnce(&R)) {
        self.monitor.release(Waiting::Read, || release(&self.raw));
    }

    /// Gives up an exclusive or upgradable hold, or turns it into a shared one.
    #[inline]
    pub(super) fn release_exclusive<O>(&self, release: impl FnOnce(&R) -> O) -> O {
        self.monitor.release(Waiting::Write, || {
            self.monitor.released_exclusive();
            release(&self.raw)
        })
    }

    #[inline]
    fn shared(&self, site: &'static Location<'static>) -> R::SharedGuard {
        match self.raw.try_lock_shared() {
            Some(guard) => guard,
            None => self.spin_or_wait(Waiting::Read, site, R::try_lock_shared, R::lock_shared),
        }
    }

    #[inline]
    fn exclusive(&self, caller: Caller) -> R::ExclusiveGuard {
        let guard = match self.raw.try_lock_exclusive() {
            Some(guard) => guard,
            None => self.spin_or_wait(
                Waiting::Write,
                caller.site,
                R::try_lock_exclusive,
                R::lock_exclusive,
            ),
        };
        self.monitor.acquired(caller);
        guard
    }
}

// SAFETY: exclusion and ordering are those of the raw lock, to which every acquisition and every
// release is passed on, with its guard, exactly once.
unsafe impl<R: lock_api::RawRwLock> lock_api::RawRwLock for RawRwLock<R> {
    const INIT: Self = Self::new(R::INIT);

    type SharedGuard = R::SharedGuard;
    type ExclusiveGuard = R::ExclusiveGuard;

    #[inline]
    #[track_caller]
    fn lock_shared(&self) -> Self::SharedGuard {
        self.shared(Location::caller())
    }

    #[inline]
    fn try_lock_shared(&self) -> Option<Self::SharedGuard> {
        self.raw.try_lock_shared()
    }

    #[inline]
    unsafe fn unlock_shared(&self, guard: Self::SharedGuard) {
        // SAFETY: the caller holds the lock shared by this guard.
        self.release_shared(|raw| unsafe { raw.unlock_shared(guard) });
    }

    #[inline]
    #[track_caller]
    fn lock_exclusive(&self) -> Self::ExclusiveGuard {
        self.exclusive(Caller::here())
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive(&self) -> Option<Self::ExclusiveGuard> {
        let caller = Caller::here();
        let guard = self.raw.try_lock_exclusive()?;
        self.monitor.acquired(caller);
        Some(guard)
    }

    #[inline]
    unsafe fn unlock_exclusive(&self, guard: Self::ExclusiveGuard) {
        // SAFETY: the caller holds the lock exclusively by this guard.
        self.release_exclusive(|raw| unsafe { raw.unlock_exclusive(guard) });
    }

    #[inline]
    fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    #[inline]
    fn is_locked_exclusive(&self) -> bool {
        self.raw.is_locked_exclusive()
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl<R: RawRwLockFair> RawRwLockFair for RawRwLock<R> {
    #[inline]
    unsafe fn unlock_shared_fair(&self, guard: Self::SharedGuard) {
        // SAFETY: the caller holds the lock shared by this guard.
        self.release_shared(|raw| unsafe { raw.unlock_shared_fair(guard) });
    }

    #[inline]
    unsafe fn unlock_exclusive_fair(&self, guard: Self::ExclusiveGuard) {
        // SAFETY: the caller holds the lock exclusively by this guard.
        self.release_exclusive(|raw| unsafe { raw.unlock_exclusive_fair(guard) });
    }

    /// Where somebody waits this is a release and an acquisition, with their records. Else the raw
    /// lock decides.
    #[inline]
    #[track_caller]
    unsafe fn bump_shared(&self, guard: &mut Self::SharedGuard) {
        let site = Location::caller();
        if self.monitor.ledger().waiters() == 0 {
            // SAFETY: the caller holds the lock shared by this guard.
            return unsafe { self.raw.bump_shared(guard) };
        }
        let release = |held| {
            // SAFETY: the caller holds the lock shared by this guard.
            self.release_shared(|raw| unsafe { raw.unlock_shared_fair(held) });
        };
        // SAFETY: `release` gives the guard to the raw lock.
        unsafe { replace_guard(guard, release, || self.shared(site)) };
    }

    /// As [`bump_shared`](Self::bump_shared).
    #[inline]
    #[track_caller]
    unsafe fn bump_exclusive(&self, guard: &mut Self::ExclusiveGuard) {
        let caller = Caller::here();
        if self.monitor.ledger().waiters() == 0 {
            // SAFETY: the caller holds the lock exclusively by this guard.
            unsafe { self.raw.bump_exclusive(guard) };
            // Another may have held it meanwhile.
            return self.monitor.acquired(caller);
        }
        let release = |held| {
            // SAFETY: the caller holds the lock exclusively by this guard.
            self.release_exclusive(|raw| unsafe { raw.unlock_exclusive_fair(held) });
        };
        // SAFETY: `release` gives the guard to the raw lock.
        unsafe { replace_guard(guard, release, || self.exclusive(caller)) };
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl<R: RawRwLockDowngrade> RawRwLockDowngrade for RawRwLock<R> {
    #[inline]
    unsafe fn downgrade(&self, guard: Self::ExclusiveGuard) -> Self::SharedGuard {
        // SAFETY: the caller holds the lock exclusively by this guard.
        self.release_exclusive(|raw| unsafe { raw.downgrade(guard) })
    }
}

impl<R: RawRwLockTimed> RawRwLock<R> {
    #[inline]
    fn shared_timed(
        &self,
        site: &'static Location<'static>,
        acquire: impl FnOnce(&R) -> Option<R::SharedGuard>,
    ) -> Option<R::SharedGuard> {
        let guard = self.raw.try_lock_shared();
        guard.or_else(|| self.wait(Waiting::Read, site, acquire, Option::is_some))
    }

    #[inline]
    fn exclusive_timed(
        &self,
        caller: Caller,
        acquire: impl FnOnce(&R) -> Option<R::ExclusiveGuard>,
    ) -> Option<R::ExclusiveGuard> {
        let guard = self.raw.try_lock_exclusive();
        let guard =
            guard.or_else(|| self.wait(Waiting::Write, caller.site, acquire, Option::is_some))?;
        self.monitor.acquired(caller);
        Some(guard)
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl<R: RawRwLockTimed> RawRwLockTimed for RawRwLock<R> {
    type Duration = R::Duration;
    type Instant = R::Instant;

    #[inline]
    #[track_caller]
    fn try_lock_shared_for(&self, timeout: Self::Duration) -> Option<Self::SharedGuard> {
        self.shared_timed(Location::caller(), |raw| raw.try_lock_shared_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_shared_until(&self, timeout: Self::Instant) -> Option<Self::SharedGuard> {
        self.shared_timed(Location::caller(), |raw| raw.try_lock_shared_until(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive_for(&self, timeout: Self::Duration) -> Option<Self::ExclusiveGuard> {
        self.exclusive_timed(Caller::here(), |raw| raw.try_lock_exclusive_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_exclusive_until(&self, timeout: Self::Instant) -> Option<Self::ExclusiveGuard> {
        self.exclusive_timed(Caller::here(), |raw| raw.try_lock_exclusive_until(timeout))
    }
}

impl<R> fmt::Debug for RawRwLock<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRwLock").field("name", &self.monitor.name()).finish_non_exhaustive()
    }
}
