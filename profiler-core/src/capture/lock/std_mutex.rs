//! std's mutex with a monitor beside it.

#![allow(unsafe_code, reason = "a guard must release std's guard inside it before it records")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

use super::monitor::{Caller, Monitor};
use crate::buffer::record::Waiting;

/// A mutual exclusion lock, as [`std::sync::Mutex`]; see there.
///
/// On 64-bit Linux it takes 80 bytes with a value of up to 8 bytes.
pub struct Mutex<T: ?Sized> {
    monitor: Monitor,
    inner: sync::Mutex<T>,
}

/// Access to what a [`Mutex`] protects; the lock is released when it is dropped.
#[must_use = "if unused the Mutex will immediately unlock"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized + 'a> {
    monitor: &'a Monitor,
    inner: ManuallyDrop<sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// Makes an unlocked mutex without a name.
    #[inline]
    pub const fn new(value: T) -> Self {
        Self { monitor: Monitor::new(None), inner: sync::Mutex::new(value) }
    }

    /// Makes an unlocked mutex that profiles show under this name, as label `lock`.
    #[inline]
    pub const fn named(name: &'static str, value: T) -> Self {
        Self { monitor: Monitor::new(Some(name)), inner: sync::Mutex::new(value) }
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// The value, if the mutex is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits until the mutex is free and takes it.
    ///
    /// # Errors
    ///
    /// The guard, if the mutex is poisoned.
    ///
    /// # Panics
    ///
    /// It might if this thread holds the mutex already.
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        let caller = Caller::here();
        // PERF: guards, not results, come out of all three ways, so that they stay in registers:
        // through memory the pair of lock and unlock took 12 ns instead of 5.
        let inner = match taken(self.inner.try_lock()) {
            Some(inner) => inner,
            None => self.wait(caller),
        };
        let guard = self.guard(inner, caller);
        if self.inner.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, caller: Caller) -> sync::MutexGuard<'_, T> {
        let attempt = || taken(self.inner.try_lock());
        let acquire = || self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.monitor.spin_or_wait(Waiting::Mutex, caller.site, attempt, acquire)
    }

    /// Takes the mutex if it is free.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if it is not; the guard, if the mutex is poisoned.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        let caller = Caller::here();
        match self.inner.try_lock() {
            Ok(inner) => Ok(self.guard(inner, caller)),
            Err(TryLockError::Poisoned(poisoned)) => {
                let guard = self.guard(poisoned.into_inner(), caller);
                Err(TryLockError::Poisoned(PoisonError::new(guard)))
            }
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }

    /// Returns whether a holder panicked.
    #[inline]
    pub fn is_poisoned(&self) -> bool {
        self.inner.is_poisoned()
    }

    /// Forgets that a holder panicked.
    #[inline]
    pub fn clear_poison(&self) {
        self.inner.clear_poison();
    }

    /// Returns the value, which nobody else can be using.
    ///
    /// # Errors
    ///
    /// The value, if the mutex is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.inner.get_mut()
    }

    #[inline]
    fn guard<'a>(&'a self, inner: sync::MutexGuard<'a, T>, caller: Caller) -> MutexGuard<'a, T> {
        self.monitor.acquired(caller);
        MutexGuard { monitor: &self.monitor, inner: ManuallyDrop::new(inner) }
    }
}

/// Returns the guard of an attempt that took the lock, poisoned or not.
#[inline]
pub(super) fn taken<G>(attempt: TryLockResult<G>) -> Option<G> {
    match attempt {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.monitor.release(Waiting::Mutex, || {
            // SAFETY: dropped here and nowhere else, once.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        });
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// Takes the guard apart without a release, for a condition variable.
    pub(super) fn into_parts(self) -> (&'a Monitor, sync::MutexGuard<'a, T>) {
        let mut guard = ManuallyDrop::new(self);
        // SAFETY: `guard` is neither used nor dropped from here on.
        (guard.monitor, unsafe { ManuallyDrop::take(&mut guard.inner) })
    }

    /// Puts a guard together that has just acquired the lock again, at `site`.
    pub(super) fn from_parts(
        monitor: &'a Monitor,
        inner: sync::MutexGuard<'a, T>,
        site: &'static Location<'static>,
    ) -> Self {
        monitor.acquired(Caller::at(site));
        MutexGuard { monitor, inner: ManuallyDrop::new(inner) }
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
