//! The upgradable side of the readers-writer decorator.
//!
//! An upgradable holder shares the lock with readers but with no other upgradable one or writer, so
//! it is shown as a holder, and those who wait for it wait as for a writer. An upgrade that must
//! wait for readers is a wait like any other.

#![allow(unsafe_code, reason = "lock_api's traits are unsafe to implement and to call")]

use lock_api::{
    RawRwLockUpgrade, RawRwLockUpgradeDowngrade, RawRwLockUpgradeFair, RawRwLockUpgradeTimed,
};

use super::guard::replace_guard;
use super::monitor::Caller;
use super::raw_rwlock::RawRwLock;
use crate::buffer::record::Waiting;

impl<R: RawRwLockUpgrade> RawRwLock<R> {
    #[inline]
    fn upgradable(&self, caller: Caller) -> R::UpgradableGuard {
        let guard = match self.raw.try_lock_upgradable() {
            Some(guard) => guard,
            None => self.spin_or_wait(
                Waiting::Write,
                caller.site,
                R::try_lock_upgradable,
                R::lock_upgradable,
            ),
        };
        self.monitor.acquired(caller);
        guard
    }
}

// SAFETY: as for `RawRwLock`: all is passed on to the raw lock, each guard exactly once.
unsafe impl<R: RawRwLockUpgrade> RawRwLockUpgrade for RawRwLock<R> {
    type UpgradableGuard = R::UpgradableGuard;

    #[inline]
    #[track_caller]
    fn lock_upgradable(&self) -> Self::UpgradableGuard {
        self.upgradable(Caller::here())
    }

    #[inline]
    #[track_caller]
    fn try_lock_upgradable(&self) -> Option<Self::UpgradableGuard> {
        let caller = Caller::here();
        let guard = self.raw.try_lock_upgradable()?;
        self.monitor.acquired(caller);
        Some(guard)
    }

    #[inline]
    unsafe fn unlock_upgradable(&self, guard: Self::UpgradableGuard) {
        // SAFETY: the caller holds the lock upgradably by this guard.
        self.release_exclusive(|raw| unsafe { raw.unlock_upgradable(guard) });
    }

    #[inline]
    #[track_caller]
    unsafe fn upgrade(&self, guard: Self::UpgradableGuard) -> Self::ExclusiveGuard {
        let caller = Caller::here();
        // SAFETY: the caller holds the lock upgradably by this guard.
        let guard = match unsafe { self.raw.try_upgrade(guard) } {
            Ok(guard) => guard,
            Err(guard) => {
                // SAFETY: the attempt failed and gave the guard back.
                let upgrade = |raw: &R| unsafe { raw.upgrade(guard) };
                self.wait(Waiting::Write, caller.site, upgrade, |_| true)
            }
        };
        self.monitor.acquired(caller);
        guard
    }

    #[inline]
    #[track_caller]
    unsafe fn try_upgrade(
        &self,
        guard: Self::UpgradableGuard,
    ) -> Result<Self::ExclusiveGuard, Self::UpgradableGuard> {
        let caller = Caller::here();
        // SAFETY: the caller holds the lock upgradably by this guard.
        let guard = unsafe { self.raw.try_upgrade(guard) }?;
        self.monitor.acquired(caller);
        Ok(guard)
    }
}

// SAFETY: as for `RawRwLockUpgrade`.
unsafe impl<R: RawRwLockUpgradeFair> RawRwLockUpgradeFair for RawRwLock<R> {
    #[inline]
    unsafe fn unlock_upgradable_fair(&self, guard: Self::UpgradableGuard) {
        // SAFETY: the caller holds the lock upgradably by this guard.
        self.release_exclusive(|raw| unsafe { raw.unlock_upgradable_fair(guard) });
    }

    /// As `bump_shared`.
    #[inline]
    #[track_caller]
    unsafe fn bump_upgradable(&self, guard: &mut Self::UpgradableGuard) {
        let caller = Caller::here();
        if self.monitor.ledger().waiters() == 0 {
            // SAFETY: the caller holds the lock upgradably by this guard.
            unsafe { self.raw.bump_upgradable(guard) };
            // Another may have held it meanwhile.
            return self.monitor.acquired(caller);
        }
        let release = |held| {
            // SAFETY: the caller holds the lock upgradably by this guard.
            self.release_exclusive(|raw| unsafe { raw.unlock_upgradable_fair(held) });
        };
        // SAFETY: `release` gives the guard to the raw lock.
        unsafe { replace_guard(guard, release, || self.upgradable(caller)) };
    }
}

// SAFETY: as for `RawRwLockUpgrade`.
unsafe impl<R: RawRwLockUpgradeDowngrade> RawRwLockUpgradeDowngrade for RawRwLock<R> {
    #[inline]
    unsafe fn downgrade_upgradable(&self, guard: Self::UpgradableGuard) -> Self::SharedGuard {
        // SAFETY: the caller holds the lock upgradably by this guard.
        self.release_exclusive(|raw| unsafe { raw.downgrade_upgradable(guard) })
    }

    #[inline]
    unsafe fn downgrade_to_upgradable(&self, guard: Self::ExclusiveGuard) -> Self::UpgradableGuard {
        // SAFETY: the caller holds the lock exclusively by this guard.
        let downgrade = || unsafe { self.raw.downgrade_to_upgradable(guard) };
        // It lets readers in, and remains shown as a holder.
        self.monitor.release(Waiting::Write, downgrade)
    }
}

impl<R: RawRwLockUpgradeTimed> RawRwLock<R> {
    #[inline]
    fn upgradable_timed(
        &self,
        caller: Caller,
        acquire: impl FnOnce(&R) -> Option<R::UpgradableGuard>,
    ) -> Option<R::UpgradableGuard> {
        let guard = self.raw.try_lock_upgradable();
        let guard =
            guard.or_else(|| self.wait(Waiting::Write, caller.site, acquire, Option::is_some))?;
        self.monitor.acquired(caller);
        Some(guard)
    }

    /// # Safety
    ///
    /// The caller holds the lock upgradably by this guard.
    #[inline]
    unsafe fn upgrade_timed(
        &self,
        caller: Caller,
        guard: R::UpgradableGuard,
        upgrade: impl FnOnce(&R, R::UpgradableGuard) -> Result<R::ExclusiveGuard, R::UpgradableGuard>,
    ) -> Result<R::ExclusiveGuard, R::UpgradableGuard> {
        // SAFETY: given by the caller.
        let guard = unsafe { self.raw.try_upgrade(guard) }.or_else(|guard| {
            let upgrade = |raw: &R| upgrade(raw, guard);
            self.wait(Waiting::Write, caller.site, upgrade, Result::is_ok)
        })?;
        self.monitor.acquired(caller);
        Ok(guard)
    }
}

// SAFETY: as for `RawRwLockUpgrade`.
unsafe impl<R: RawRwLockUpgradeTimed> RawRwLockUpgradeTimed for RawRwLock<R> {
    #[inline]
    #[track_caller]
    fn try_lock_upgradable_for(&self, timeout: Self::Duration) -> Option<Self::UpgradableGuard> {
        self.upgradable_timed(Caller::here(), |raw| raw.try_lock_upgradable_for(timeout))
    }

    #[inline]
    #[track_caller]
    fn try_lock_upgradable_until(&self, timeout: Self::Instant) -> Option<Self::UpgradableGuard> {
        self.upgradable_timed(Caller::here(), |raw| raw.try_lock_upgradable_until(timeout))
    }

    #[inline]
    #[track_caller]
    unsafe fn try_upgrade_for(
        &self,
        guard: Self::UpgradableGuard,
        timeout: Self::Duration,
    ) -> Result<Self::ExclusiveGuard, Self::UpgradableGuard> {
        // SAFETY: called with the guard by which the lock is held.
        let upgrade = |raw: &R, guard| unsafe { raw.try_upgrade_for(guard, timeout) };
        // SAFETY: given by the caller.
        unsafe { self.upgrade_timed(Caller::here(), guard, upgrade) }
    }

    #[inline]
    #[track_caller]
    unsafe fn try_upgrade_until(
        &self,
        guard: Self::UpgradableGuard,
        timeout: Self::Instant,
    ) -> Result<Self::ExclusiveGuard, Self::UpgradableGuard> {
        // SAFETY: called with the guard by which the lock is held.
        let upgrade = |raw: &R, guard| unsafe { raw.try_upgrade_until(guard, timeout) };
        // SAFETY: given by the caller.
        unsafe { self.upgrade_timed(Caller::here(), guard, upgrade) }
    }
}
