//! A place for a value that is put there once and then stays.
//!
//! Unlike at a `OnceLock` nobody ever waits: two that come at once each make a value, and the first that is there
//! counts for both. In the child of a fork whoever was making one may not be there any more.

#![allow(unsafe_code, reason = "values that are never freed, behind an atomic pointer")]

use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The place. What is in it is never freed.
pub(crate) struct First<T: 'static>(AtomicPtr<T>);

impl<T: Send + Sync + 'static> First<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns what is there.
    ///
    /// # Signal safety
    ///
    /// A load.
    #[inline]
    pub(crate) fn get(&self) -> Option<&'static T> {
        // Acquire: pairs with the Release in `offer`.
        let there = self.0.load(Ordering::Acquire);
        // SAFETY: null, or a shared reference that lives for ever.
        unsafe { there.as_ref() }
    }

    /// Puts a value there, unless there is one; returns what is there then.
    pub(crate) fn offer(&self, value: &'static T) -> &'static T {
        let offered = ptr::from_ref(value).cast_mut();
        // Release: the value is written; Acquire for the other one.
        let put =
            self.0.compare_exchange(ptr::null_mut(), offered, Ordering::Release, Ordering::Acquire);
        // SAFETY: a shared reference that lives for ever.
        put.map_or_else(|there| unsafe { &*there }, |_| value)
    }

    /// Returns what is there, or else what is made; what another thread has put there meanwhile comes first.
    pub(crate) fn get_or_make(&self, make: impl FnOnce() -> T) -> &'static T {
        self.get().unwrap_or_else(|| {
            let made = Box::into_raw(Box::new(make()));
            // SAFETY: made above, and freed only if nobody else has seen it.
            let there = self.offer(unsafe { &*made });
            if !ptr::eq(there, made) {
                // SAFETY: made above, and it was not put there.
                drop(unsafe { Box::from_raw(made) });
            }
            there
        })
    }
}

impl<T> fmt::Debug for First<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("First").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn the_first_value_counts() {
        let place = First::new();
        assert_eq!(place.get(), None);
        assert_eq!(place.get_or_make(|| 1), &1);
        assert_eq!(place.get_or_make(|| unreachable!("there is one")), &1);
        assert_eq!(place.offer(&2), &1);
    }

    #[test]
    fn those_who_come_at_once_get_the_same() {
        const THREADS: usize = 4;
        for _ in 0..100 {
            let (place, together) = (First::new(), Barrier::new(THREADS));
            let got: Vec<&String> = thread::scope(|scope| {
                let get = |number: usize| {
                    together.wait();
                    place.get_or_make(|| number.to_string())
                };
                let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || get(n))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(got.iter().all(|it| ptr::eq(*it, got[0])), "{got:?}");
        }
    }

    /// Where a `OnceLock` would wait.
    #[test]
    fn who_makes_one_may_be_overtaken() {
        let place = First::new();
        let slow = place.get_or_make(|| {
            assert_eq!(place.get_or_make(|| "fast"), &"fast");
            "slow"
        });
        assert_eq!(slow, &"fast");
    }
}
