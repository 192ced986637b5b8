//! What a process keeps under a lock, and the child of a fork begins anew.
//!
//! At a fork, a thread that does not exist in the child may hold the lock, for ever. So the child
//! does not touch its parent's: it goes on to a value and a lock of its own.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Forks between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A value of each process, made at its first use.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static> {
    forks: u32,
    make: fn() -> T,
    value: OnceLock<Mutex<T>>,
    child: OnceLock<&'static Self>,
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

impl<T> PerProcess<T> {
    pub(crate) const fn new(make: fn() -> T) -> Self {
        Self::after(0, make)
    }

    const fn after(forks: u32, make: fn() -> T) -> Self {
        Self { forks, make, value: OnceLock::new(), child: OnceLock::new() }
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
            process =
                process.child.get_or_init(|| Box::leak(Box::new(Self::after(forks, self.make))));
        }
        process.value.get_or_init(|| Mutex::new((self.make)()))
    }
}
