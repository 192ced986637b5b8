//! Spans that are over though the thread that entered them has not left them.
//!
//! The guard of a tracing span may be dropped on another thread than it was made on, as one is that
//! a future keeps over an `.await`, and the layer that told of a span may be replaced. Either way nobody
//! tells the thread that entered the span. It finds out here: whoever ends such a span notes it
//! and makes the clock of span times look as if it had ticked, whereupon each thread looks here
//! when it takes its next step.
//!
//! Which thread has entered a span nobody knows, and most spans are closed by one that has not entered
//! them. So what is noted is an exit that finds nothing to leave, which is rare, and a close looks
//! only for those: a load, where there are none. What finds no room is found by the layer, which asks
//! the registry from time to time.

use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;

use super::primitive::{AtomicU64, Ordering};

/// Stands in a place that is being written; no span has it for a name.
const WRITING: u64 = 1;
/// Spans that were left elsewhere and are not closed: services have some tens at a time.
const LINES: usize = 64;
/// Places of a line of the processor's cache, which a look-up reads.
const PLACES: usize = 4;

static TABLE: [Line; LINES] = [const { Line([const { Place::free() }; PLACES]) }; LINES];
/// How many places hold spans that are not closed.
static OPEN: AtomicU64 = AtomicU64::new(0);
/// How many of the spans in the table were closed so far.
static CLOSED: AtomicU64 = AtomicU64::new(0);

#[repr(align(64))]
struct Line([Place; PLACES]);

struct Place {
    /// Which span; 0 if none.
    span: AtomicU64,
    /// As which it was closed, from 1; 0 if it is not.
    closed: AtomicU64,
}

impl Place {
    const fn free() -> Self {
        Self { span: AtomicU64::new(0), closed: AtomicU64::new(0) }
    }
}

/// Returns a number for a span that no other has, but for one in 2^63.
fn name(layer: u32, id: u64) -> u64 {
    FxBuildHasher.hash_one((layer, id)) | 2
}

fn line(name: u64) -> &'static [Place; PLACES] {
    &TABLE[(name >> 32) as usize % LINES].0
}

/// Returns a moment, to tell which spans were closed after it.
#[inline]
pub(crate) fn now() -> u64 {
    // Relaxed: whoever is given the number of a span anew has synchronized with its close, through
    // the registry that gives it.
    CLOSED.load(Ordering::Relaxed)
}

/// Notes a span that was left on a thread which had not entered it.
#[cold]
#[inline(never)]
pub(crate) fn left(layer: u32, id: u64) {
    let name = name(layer, id);
    let places = line(name);
    // Acquire, here and below: pairs with the Release of `span`, so that `closed` belongs to it.
    let is_noted = |place: &Place| place.span.load(Ordering::Acquire) == name && is_open(place);
    if places.iter().any(is_noted) {
        return;
    }
    // A free place, else that of the span that was closed longest ago, else one that goes without.
    let age = |place: &&Place| {
        // Relaxed, both: whatever they say, the exchange below decides.
        let closed = place.closed.load(Ordering::Relaxed);
        (place.span.load(Ordering::Relaxed) != 0, closed.wrapping_sub(1))
    };
    let Some(place) = places.iter().min_by_key(age) else { return };
    let before = place.span.load(Ordering::Acquire);
    // Acquire: what follows stays behind. Relaxed on failure: another has the place, and this span
    // is told of by the registry.
    let claim = place.span.compare_exchange(before, WRITING, Ordering::Acquire, Ordering::Relaxed);
    if before == WRITING || claim.is_err() {
        return;
    }
    // Relaxed: published by the next store. An exchange: somebody may just have closed the span of before.
    let was_closed = place.closed.swap(0, Ordering::Relaxed) != 0;
    if before == 0 || was_closed {
        // Relaxed: a span is closed after it was left, which orders the two.
        OPEN.fetch_add(1, Ordering::Relaxed);
    }
    // Release: pairs with the Acquire of whoever finds it.
    place.span.store(name, Ordering::Release);
}

fn is_open(place: &Place) -> bool {
    // Relaxed: after the Acquire of `span`.
    place.closed.load(Ordering::Relaxed) == 0
}

/// Notes that a span is closed, and returns whether a thread may still be in it.
#[inline]
pub(crate) fn close(layer: u32, id: u64) -> bool {
    // Relaxed: a span is closed after it was left, which orders the two.
    OPEN.load(Ordering::Relaxed) > 0 && close_noted(layer, id)
}

#[cold]
#[inline(never)]
fn close_noted(layer: u32, id: u64) -> bool {
    let name = name(layer, id);
    let is_noted = |place: &&Place| place.span.load(Ordering::Acquire) == name && is_open(place);
    let Some(place) = line(name).iter().find(is_noted) else { return false };
    // Relaxed: see `now`.
    let number = CLOSED.fetch_add(1, Ordering::Relaxed) + 1;
    // Relaxed: whoever looks has seen that the clock looks ticked, with Acquire. If the place went to another
    // span meanwhile, that one looks closed to those who entered it before.
    if place.closed.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        // Relaxed: as above.
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
    true
}

/// Returns whether a span that was entered at that moment is over.
pub(crate) fn is_over(layer: u32, id: u64, entered: u64) -> bool {
    is_gone(layer) || {
        let name = name(layer, id);
        line(name).iter().any(|place| {
            // Acquire: pairs with the Release in `left`.
            place.span.load(Ordering::Acquire) == name
                && place.closed.load(Ordering::Relaxed) > entered
        })
    }
}

/// The numbers of the layers that live; 0 where there is none. Programs have one or two.
static LAYERS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
/// How many live that have no place there. While there are any, nobody counts as gone.
static MORE_LAYERS: AtomicU64 = AtomicU64::new(0);

/// Notes that a layer lives.
pub(crate) fn born(layer: u32) {
    if !replace(0, layer) {
        // Relaxed: as in `replace`.
        MORE_LAYERS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Notes that a layer is gone: the spans that it told of are over.
pub(crate) fn died(layer: u32) {
    if !replace(layer, 0) {
        // Relaxed: as in `replace`.
        MORE_LAYERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Changes the first place that says `before`; false if there is none.
fn replace(before: u32, after: u32) -> bool {
    let [before, after] = [before, after].map(u64::from);
    // Relaxed, both: spans are told of by threads that know the layer, and whoever looks for those of one
    // that is gone has seen that the clock looks ticked, with Acquire.
    let exchange = |place: &AtomicU64| {
        place.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed)
    };
    LAYERS.iter().any(|place| exchange(place).is_ok())
}

fn is_gone(layer: u32) -> bool {
    // Relaxed, both: as in `replace`.
    let is_there = |place: &AtomicU64| place.load(Ordering::Relaxed) == u64::from(layer);
    MORE_LAYERS.load(Ordering::Relaxed) == 0 && !LAYERS.iter().any(is_there)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    fn one_at_a_time() -> MutexGuard<'static, ()> {
        static RUNNING: Mutex<()> = Mutex::new(());
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn a_span_is_over_for_those_who_entered_it_before_it_was_closed() {
        let _alone = one_at_a_time();
        born(1_001);
        let before = now();
        left(1_001, 5);
        assert!(!is_over(1_001, 5, before), "it is not closed");
        assert!(close(1_001, 5));
        assert!(is_over(1_001, 5, before));
        assert!(!is_over(1_001, 5, now()), "the number was given anew");
        assert!(!is_over(1_001, 6, before) && !close(1_001, 6));
        died(1_001);
        assert!(is_over(1_001, 5, now()));
    }

    #[test]
    fn a_span_that_strays_twice_is_noted_twice() {
        let _alone = one_at_a_time();
        born(1_002);
        for _ in 0..3 {
            let before = now();
            left(1_002, 7);
            left(1_002, 7);
            assert!(!is_over(1_002, 7, before));
            assert!(close(1_002, 7) && !close(1_002, 7));
            assert!(is_over(1_002, 7, before));
        }
        died(1_002);
    }

    #[test]
    fn any_number_of_spans_may_stray_and_some_have_no_room() {
        let _alone = one_at_a_time();
        born(1_003);
        let before = now();
        let spans = 0..10 * (LINES * PLACES) as u64;
        spans.clone().for_each(|id| left(1_003, id));
        let noted = spans.clone().filter(|&id| close(1_003, id)).collect::<Vec<_>>();
        assert!((LINES * PLACES / 2..=LINES * PLACES).contains(&noted.len()), "{}", noted.len());
        assert!(noted.iter().all(|&id| is_over(1_003, id, before)));
        assert_eq!(OPEN.load(Ordering::Relaxed), 0);
        died(1_003);
    }

    #[test]
    fn more_layers_than_have_room_may_live() {
        let _alone = one_at_a_time();
        let layers = 2_000..2_000 + 2 * LAYERS.len() as u32;
        layers.clone().for_each(born);
        assert!(!layers.clone().any(is_gone));
        layers.clone().for_each(died);
        assert!(layers.clone().all(is_gone));
    }
}
