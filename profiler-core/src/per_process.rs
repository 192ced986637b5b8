//! What a process keeps under a lock, and the child of a fork begins anew.
//!
//! At a fork, a thread that does not exist in the child may hold the lock, for ever. So the child
//! does not touch its parent's: it goes on to a value and a lock of its own. Nor may it wait for one to be
//! made, as with a `OnceLock`: whoever makes it may not be there.

#![allow(unsafe_code, reason = "a lock is made anew in its place")]

use std::cell::UnsafeCell;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::first::First;
use crate::sys;

/// A value of each process, made at its first use.
#[derive(Debug)]
pub struct PerProcess<T: 'static> {
    process: u32,
    make: fn() -> T,
    value: First<Mutex<T>>,
    child: First<Self>,
}

impl<T: Send> PerProcess<T> {
    /// Takes what makes the value.
    #[must_use]
    pub const fn new(make: fn() -> T) -> Self {
        Self::of(0, make)
    }

    const fn of(process: u32, make: fn() -> T) -> Self {
        Self { process, make, value: First::new(), child: First::new() }
    }

    /// Locks the value of this process.
    pub fn lock(&'static self) -> MutexGuard<'static, T> {
        self.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the value of this process.
    pub fn get(&'static self) -> &'static Mutex<T> {
        let number = sys::process_number();
        let mut process = self;
        // One for each process in between that has used it: numbers grow from parent to child.
        while process.process != number {
            process = process.child.get_or_make(|| Self::of(number, self.make));
        }
        process.value.get_or_make(|| Mutex::new((self.make)()))
    }
}

/// A lock that stands anywhere and is free again in the child of a fork, whoever held it in the parent; one for what lives for
/// ever is [`PerProcess`].
///
/// What stands beside the lock needs none; together they have no gap.
#[derive(Debug)]
pub(crate) struct Renewed<T, B> {
    /// The number of the process that has made it; with [`RENEWING`] of one that is about to.
    process: AtomicU32,
    pub(crate) beside: B,
    lock: UnsafeCell<Mutex<T>>,
}

/// So many forks lie between no two processes.
const RENEWING: u32 = 1 << 31;

// SAFETY: the lock is replaced by one thread of a process, before any other of that process looks at it.
unsafe impl<T: Send, B: Sync> Sync for Renewed<T, B> {}
/// As `Mutex` is, which holds the value.
impl<T, B: RefUnwindSafe> RefUnwindSafe for Renewed<T, B> {}

impl<T, B> Renewed<T, B> {
    /// Makes a free lock of a value that no process has changed yet.
    pub(crate) const fn new(value: T, beside: B) -> Self {
        Self { process: AtomicU32::new(0), beside, lock: UnsafeCell::new(Mutex::new(value)) }
    }

    /// Locks the value. The first to do so in another process than before gets it from `renew`, which is given the one of before as
    /// the fork has left it, perhaps in the midst of a change.
    pub(crate) fn lock(&self, renew: impl FnOnce(&T) -> T) -> MutexGuard<'_, T> {
        let number = sys::process_number();
        // Acquire: pairs with the Release in `renew`.
        if self.process.load(Ordering::Acquire) != number {
            self.renew(number, renew);
        }
        // SAFETY: replaced in another process only, now.
        let lock = unsafe { &*self.lock.get() };
        // Whatever it guards is right after each of its changes.
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn renew(&self, number: u32, renew: impl FnOnce(&T) -> T) {
        loop {
            // Acquire: pairs with the Release below.
            let process = self.process.load(Ordering::Acquire);
            if process == number {
                return;
            }
            if process == number | RENEWING {
                // A thread of this process makes it, some stores long.
                std::thread::yield_now();
                continue;
            }
            // Relaxed: what is there was there before the fork.
            let (mine, order) = (number | RENEWING, Ordering::Relaxed);
            if self.process.compare_exchange(process, mine, order, order).is_ok() {
                break;
            }
        }
        // SAFETY: this thread's alone, while the word says so: those of the parent are not here, and those of this process wait.
        let lock = unsafe { &mut *self.lock.get() };
        let value = renew(lock.get_mut().unwrap_or_else(PoisonError::into_inner));
        *lock = Mutex::new(value);
        // Release: pairs with the Acquire above.
        self.process.store(number, Ordering::Release);
    }
}

/// Numbers that no two things of this process have, nor one of its own and one that it has from its
/// parent.
#[derive(Debug)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn next(&self) -> u64 {
        // Relaxed: unique by the addition.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}
