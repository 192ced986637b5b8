//! Bounds: how many of a thing there may be at one time.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what is there, up to a limit.
#[derive(Debug)]
pub(crate) struct Bound {
    taken: AtomicUsize,
    limit: usize,
}

/// One place below a bound, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Bound);

impl Bound {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    pub(crate) const fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a place, if one is free; nobody ever waits for one.
    pub(crate) fn take(&self) -> Option<Place<'_>> {
        // Relaxed: the number is all that is shared, nothing is published with it.
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < self.limit).then_some(taken + 1)
            })
            .is_ok()
            .then(|| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let bound = Bound::new(2);
        let (first, second) = (bound.take(), bound.take());
        assert!(first.is_some() && second.is_some());
        assert!(bound.take().is_none());
        drop(first);
        assert!(bound.take().is_some());
    }
}
