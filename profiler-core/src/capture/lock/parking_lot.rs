//! Locks with the interface of `parking_lot` 0.13, for `use profiler_core::parking_lot::…` in place
//! of `use parking_lot::…`.
//!
//! [`Mutex`] and [`RwLock`] dereference to `lock_api`'s types over raw locks that are profiled, so
//! all methods are there; the rest of `parking_lot` is re-exported as it is.
//!
//! ```
//! use profiler_core::parking_lot::Mutex;
//!
//! static STOCK: Mutex<Vec<u32>> = Mutex::named("stock", Vec::new());
//!
//! STOCK.lock().push(3);
//! assert_eq!(STOCK.lock().len(), 1);
//! ```

use std::fmt;
use std::ops::Deref;

pub use ::parking_lot::*;

pub use super::raw_condvar::RawCondvar;
pub use super::raw_mutex::RawMutex;
pub use super::raw_rwlock::RawRwLock;

/// A mutual exclusion lock, as `parking_lot`'s; see there and at [`lock_api::Mutex`].
///
/// On 64-bit machines it takes 80 bytes more than its value.
pub struct Mutex<T: ?Sized>(lock_api::Mutex<RawMutex, T>);

/// Access to what a [`Mutex`] protects.
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// Access to a part of what a [`Mutex`] protects.
pub type MappedMutexGuard<'a, T> = lock_api::MappedMutexGuard<'a, RawMutex, T>;

/// A condition variable, as `parking_lot`'s; see there. It works with [`Mutex`].
///
/// A wait is recorded as two, under the name of the mutex: until the notification, and from then
/// until the mutex is held again. On 64-bit Linux it takes 48 bytes.
pub type Condvar = lock_api::Condvar<RawCondvar>;

/// A readers-writer lock, as `parking_lot`'s; see there and at [`lock_api::RwLock`].
///
/// On 64-bit machines it takes 80 bytes more than its value.
pub struct RwLock<T: ?Sized>(lock_api::RwLock<RawRwLock, T>);

/// Shared access to what a [`RwLock`] protects.
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;

/// Exclusive access to what a [`RwLock`] protects.
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

/// Shared access that can become exclusive.
pub type RwLockUpgradableReadGuard<'a, T> = lock_api::RwLockUpgradableReadGuard<'a, RawRwLock, T>;

/// Shared access to a part of what a [`RwLock`] protects.
pub type MappedRwLockReadGuard<'a, T> = lock_api::MappedRwLockReadGuard<'a, RawRwLock, T>;

/// Exclusive access to a part of what a [`RwLock`] protects.
pub type MappedRwLockWriteGuard<'a, T> = lock_api::MappedRwLockWriteGuard<'a, RawRwLock, T>;

impl<T> Mutex<T> {
    /// Makes an unlocked mutex without a name.
    #[inline]
    pub const fn new(value: T) -> Self {
        Self(lock_api::Mutex::new(value))
    }

    /// Makes an unlocked mutex that profiles show under this name, as label `lock`.
    #[inline]
    pub const fn named(name: &'static str, value: T) -> Self {
        let raw = RawMutex::named(name, <::parking_lot::RawMutex as lock_api::RawMutex>::INIT);
        Self(lock_api::Mutex::from_raw(raw, value))
    }

    /// Returns the value.
    #[inline]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Returns the value, which nobody else can be using.
    #[inline]
    pub const fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for Mutex<T> {
    type Target = lock_api::Mutex<RawMutex, T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
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
        self.0.fmt(f)
    }
}

impl<T> RwLock<T> {
    /// Makes an unlocked lock without a name.
    #[inline]
    pub const fn new(value: T) -> Self {
        Self(lock_api::RwLock::new(value))
    }

    /// Makes an unlocked lock that profiles show under this name, as label `lock`.
    #[inline]
    pub const fn named(name: &'static str, value: T) -> Self {
        let raw = RawRwLock::named(name, <::parking_lot::RawRwLock as lock_api::RawRwLock>::INIT);
        Self(lock_api::RwLock::from_raw(raw, value))
    }

    /// Returns the value.
    #[inline]
    pub fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Returns the value, which nobody else can be using.
    #[inline]
    pub const fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for RwLock<T> {
    type Target = lock_api::RwLock<RawRwLock, T>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
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
        self.0.fmt(f)
    }
}
