//! What a process keeps under a lock, and the child of a fork begins anew.
//!
//! At a fork, a thread that does not exist in the child may hold the lock, for ever. So the child
//! does not touch its parent's: it goes on to a value and a lock of its own. Nor may it wait for one to be
//! made, as with a `OnceLock`: whoever makes it may not be there.

#![allow(unsafe_code, reason = "values that are made once and never freed, behind atomic pointers")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A value of each process, made at its first use.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static> {
    forks: u32,
    make: fn() -> T,
    value: AtomicPtr<Mutex<T>>,
    child: AtomicPtr<Self>,
}

/// Leaves the parent's values behind, in the child of a fork.
///
/// # Signal safety
///
/// One atomic addition.
pub(crate) fn forked() {
    // Relaxed: the child has one thread.
    FORKS.fetch_add(1, Ordering::Relaxed);
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

impl<T: Send> PerProcess<T> {
    pub(crate) const fn new(make: fn() -> T) -> Self {
        Self::after(0, make)
    }

    const fn after(forks: u32, make: fn() -> T) -> Self {
        let value = AtomicPtr::new(ptr::null_mut());
        Self { forks, make, value, child: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Locks the value of this process.
    pub(crate) fn lock(&'static self) -> MutexGuard<'static, T> {
        self.get().lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the value of this process.
    pub(crate) fn get(&'static self) -> &'static Mutex<T> {
        // Relaxed: set before this thread existed or by this thread.
        let forks = FORKS.load(Ordering::Relaxed);
        let mut process = self;
        while process.forks != forks {
            process = get_or_make(&process.child, || Self::after(forks, self.make));
        }
        get_or_make(&process.value, || Mutex::new((self.make)()))
    }
}

/// Returns what is there, or else what is made; what another thread has put there meanwhile comes first.
fn get_or_make<T>(place: &AtomicPtr<T>, make: impl FnOnce() -> T) -> &'static T {
    // Acquire: pairs with the Release below.
    let known = place.load(Ordering::Acquire);
    // SAFETY: null, or made below and never freed.
    if let Some(known) = unsafe { known.as_ref() } {
        return known;
    }
    let made = Box::into_raw(Box::new(make()));
    // Release: the value is written; Acquire for the other's.
    let put = place.compare_exchange(ptr::null_mut(), made, Ordering::Release, Ordering::Acquire);
    let there = match put {
        Ok(_) => made,
        Err(other) => {
            // SAFETY: made above, and nobody else has it.
            drop(unsafe { Box::from_raw(made) });
            other
        }
    };
    // SAFETY: made here or by another thread, and never freed.
    unsafe { &*there }
}
