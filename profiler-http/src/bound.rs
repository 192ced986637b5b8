//! Bounds: how many of a thing there may be at one time.

use std::sync::atomic::{AtomicU64, Ordering};

use profiler_core::__private::process_number;

/// Counts what is there, up to a limit. The child of a fork begins anew, since those who have taken places are not there.
#[derive(Debug)]
pub(crate) struct Bound {
    /// How many are taken, and above it in which process.
    taken: AtomicU64,
    limit: u32,
}

/// One place below a bound, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Bound);

/// Returns how many of a word are taken in this process.
fn taken_here(word: u64) -> u32 {
    let is_ours = word >> 32 == u64::from(process_number());
    if is_ours { word as u32 } else { 0 }
}

fn word(taken: u32) -> u64 {
    u64::from(process_number()) << 32 | u64::from(taken)
}

impl Bound {
    pub(crate) const fn new(limit: u32) -> Self {
        Self { taken: AtomicU64::new(0), limit }
    }

    pub(crate) const fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes a place, if one is free; nobody ever waits for one.
    pub(crate) fn take(&self) -> Option<Place<'_>> {
        // Relaxed: the number is all that is shared, nothing is published with it.
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                let taken = taken_here(before);
                (taken < self.limit).then(|| word(taken + 1))
            })
            .is_ok()
            .then(|| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // Relaxed: see `take`. Of one that was taken in a parent there is nothing to give back.
        let _ = self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            taken_here(before).checked_sub(1).map(word)
        });
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
