//! std's readers-writer lock with a monitor beside it.

#![allow(unsafe_code, reason = "a guard must release std's guard inside it before it records")]

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::Location;
use std::sync::{self, LockResult, PoisonError, TryLockError, TryLockResult};

use super::monitor::{Caller, Monitor};
use super::std_mutex::taken;
use crate::buffer::record::Waiting;

/// A readers-writer lock, as [`std::sync::RwLock`]; see there.
///
/// On 64-bit Linux it takes 80 bytes with a value of up to 4 bytes.
pub struct RwLock<T: ?Sized> {
    monitor: Monitor,
    inner: sync::RwLock<T>,
}

/// Shared access to what a [`RwLock`] protects, until it is dropped.
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    monitor: &'a Monitor,
    inner: ManuallyDrop<sync::RwLockReadGuard<'a, T>>,
}

/// Exclusive access to what a [`RwLock`] protects, until it is dropped.
#[must_use = "if unused the RwLock will immediately unlock"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized + 'a> {
    monitor: &'a Monitor,
    inner: ManuallyDrop<sync::RwLockWriteGuard<'a, T>>,
}

impl<T> RwLock<T> {
    /// Makes an unlocked lock without a name.
    #[inline]
    pub const fn new(value: T) -> Self {
        Self { monitor: Monitor::new(None), inner: sync::RwLock::new(value) }
    }

    /// Makes an unlocked lock that profiles show under this name, as label `lock`.
    #[inline]
    pub const fn named(name: &'static str, value: T) -> Self {
        Self { monitor: Monitor::new(Some(name)), inner: sync::RwLock::new(value) }
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// The value, if the lock is poisoned.
    pub fn into_inner(self) -> LockResult<T> {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits until nobody holds the lock exclusively, and takes it shared.
    ///
    /// # Errors
    ///
    /// The guard, if the lock is poisoned.
    ///
    /// # Panics
    ///
    /// It might if this thread holds the lock already.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        let site = Location::caller();
        // Guards, not results, come out of all three ways: see `Mutex::lock`.
        let inner = match taken(self.inner.try_read()) {
            Some(inner) => inner,
            None => self.wait_to_read(site),
        };
        let guard = self.read_guard(inner);
        if self.inner.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }

    #[cold]
    #[inline(never)]
    fn wait_to_read(&self, site: &'static Location<'static>) -> sync::RwLockReadGuard<'_, T> {
        let acquire = || self.inner.read().unwrap_or_else(PoisonError::into_inner);
        self.monitor.spin_or_wait(Waiting::Read, site, || taken(self.inner.try_read()), acquire)
    }

    /// Takes the lock shared if nobody holds it exclusively.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if somebody does; the guard, if the lock is poisoned.
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        match self.inner.try_read() {
            Ok(inner) => Ok(self.read_guard(inner)),
            Err(TryLockError::Poisoned(poisoned)) => {
                let guard = self.read_guard(poisoned.into_inner());
                Err(TryLockError::Poisoned(PoisonError::new(guard)))
            }
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }

    /// Waits until the lock is free and takes it exclusively.
    ///
    /// # Errors
    ///
    /// The guard, if the lock is poisoned.
    ///
    /// # Panics
    ///
    /// It might if this thread holds the lock already.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        let caller = Caller::here();
        let inner = match taken(self.inner.try_write()) {
            Some(inner) => inner,
            None => self.wait_to_write(caller),
        };
        let guard = self.write_guard(inner, caller);
        if self.inner.is_poisoned() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }

    #[cold]
    #[inline(never)]
    fn wait_to_write(&self, caller: Caller) -> sync::RwLockWriteGuard<'_, T> {
        let attempt = || taken(self.inner.try_write());
        let acquire = || self.inner.write().unwrap_or_else(PoisonError::into_inner);
        self.monitor.spin_or_wait(Waiting::Write, caller.site, attempt, acquire)
    }

    /// Takes the lock exclusively if it is free.
    ///
    /// # Errors
    ///
    /// [`TryLockError::WouldBlock`] if it is not; the guard, if the lock is poisoned.
    #[inline]
    #[track_caller]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        let caller = Caller::here();
        match self.inner.try_write() {
            Ok(inner) => Ok(self.write_guard(inner, caller)),
            Err(TryLockError::Poisoned(poisoned)) => {
                let guard = self.write_guard(poisoned.into_inner(), caller);
                Err(TryLockError::Poisoned(PoisonError::new(guard)))
            }
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }

    /// Returns whether somebody panicked who held the lock exclusively.
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
    /// The value, if the lock is poisoned.
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.inner.get_mut()
    }

    #[inline]
    fn read_guard<'a>(&'a self, inner: sync::RwLockReadGuard<'a, T>) -> RwLockReadGuard<'a, T> {
        RwLockReadGuard { monitor: &self.monitor, inner: ManuallyDrop::new(inner) }
    }

    #[inline]
    fn write_guard<'a>(
        &'a self,
        inner: sync::RwLockWriteGuard<'a, T>,
        caller: Caller,
    ) -> RwLockWriteGuard<'a, T> {
        self.monitor.acquired(caller);
        RwLockWriteGuard { monitor: &self.monitor, inner: ManuallyDrop::new(inner) }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.monitor.release(Waiting::Read, || {
            // SAFETY: dropped here and nowhere else, once.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        });
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.monitor.release(Waiting::Write, || {
            self.monitor.released_exclusive();
            // SAFETY: dropped here and nowhere else, once.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        });
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Turns the exclusive hold into a shared one; no writer comes between.
    #[inline]
    pub fn downgrade(s: Self) -> RwLockReadGuard<'a, T> {
        let mut s = ManuallyDrop::new(s);
        let monitor = s.monitor;
        // SAFETY: `s` is neither used nor dropped from here on.
        let inner = unsafe { ManuallyDrop::take(&mut s.inner) };
        let inner = monitor.release(Waiting::Write, || {
            monitor.released_exclusive();
            sync::RwLockWriteGuard::downgrade(inner)
        });
        RwLockReadGuard { monitor, inner: ManuallyDrop::new(inner) }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
