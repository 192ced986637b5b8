//! Exact blame: the integral of the number of waiters over time, of one lock.
//!
//! Let W be the number of waiters and A = ∫ W dt. Whoever enters at t₀ and leaves at t₁ adds t₁ − t₀
//! to A; whoever releases the lock is charged what A has grown since the last charge. So both add
//! up to the same, to the nanosecond, once nobody waits.
//!
//! A(t) = S + W·t, where S is the sum of the t₁ of those who left less the sum of the t₀ of those
//! who are still there or have left. W and S change together, in one atomic word of 128 bits; all
//! arithmetic on S is modulo 2⁶⁴. Only the growth between two charges must fit, as a signed number:
//! 2⁶³ ns are 10,000 waiters for 10 days. A word of 64
//! bits for both, 48 of them for S, would wrap after 39 waiter-hours.
//!
//! A waiter reads the clock before it leaves, and clocks of two cores may differ by some nanoseconds.
//! So A can turn out smaller than what was charged; charges are signed, and the next one makes up.
//!
//! Waiters of a parent do not exist in the child of a fork: there each ledger starts from nothing.
//!
//! Imports nothing but atomics and the number of the process: the caller reads the clock.

use crate::buffer::primitive::{AtomicBool, AtomicU64, AtomicU128, Ordering};
use crate::sys;

/// The integral of one lock.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// S in the high half; in the low one the process, then W.
    state: AtomicU128,
    /// A at the last charge.
    charged: AtomicU64,
    /// Whether A may have grown since the last charge, or grows.
    unsettled: AtomicBool,
}

#[derive(Clone, Copy)]
struct State {
    sum: u64,
    process: u32,
    waiters: u32,
}

impl State {
    const fn unpack(word: u128) -> Self {
        Self { sum: (word >> 64) as u64, process: (word >> 32) as u32, waiters: word as u32 }
    }

    const fn pack(self) -> u128 {
        (self.sum as u128) << 64 | (self.process as u128) << 32 | self.waiters as u128
    }

    const fn area(self, now: u64) -> u64 {
        self.sum.wrapping_add((self.waiters as u64).wrapping_mul(now))
    }
}

impl Ledger {
    /// Makes a ledger of a zero, a zero and a false.
    pub(crate) const fn new(state: AtomicU128, charged: AtomicU64, unsettled: AtomicBool) -> Self {
        Self { state, charged, unsettled }
    }

    /// Returns whether nobody waits and all is charged: the one load of an unlock that nobody
    /// waited for.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        // Relaxed: a waiter that is not seen yet is charged at the next release.
        !self.unsettled.load(Ordering::Relaxed)
    }

    /// Returns the number of waiters.
    #[allow(dead_code, reason = "only the locks of feature `parking_lot` are bumped")]
    pub(crate) fn waiters(&self) -> u32 {
        // Relaxed: a figure.
        State::unpack(self.state.load(Ordering::Relaxed)).waiters
    }

    /// Adds a waiter that has waited since `start`.
    pub(crate) fn enter(&self, start: u64) {
        let process = sys::process_number();
        self.update(|state| {
            if state.process != process {
                // A goes on from what was charged last, which nobody changes before `state` is this process's.
                let charged = self.charged.load(Ordering::SeqCst);
                return Some(State { sum: charged.wrapping_sub(start), process, waiters: 1 });
            }
            Some(State { sum: state.sum.wrapping_sub(start), waiters: state.waiters + 1, ..state })
        });
    }

    /// Takes a waiter out at `end`.
    pub(crate) fn leave(&self, end: u64) {
        let process = sys::process_number();
        self.update(|state| {
            let entered_here = state.process == process && state.waiters > 0;
            entered_here.then(|| State {
                sum: state.sum.wrapping_add(end),
                waiters: state.waiters - 1,
                ..state
            })
        });
    }

    fn update(&self, change: impl Fn(State) -> Option<State>) {
        let change = |word| change(State::unpack(word)).map(State::pack);
        // SeqCst, both here and in `charge`: one order of the word and the flag. If this change
        // comes after the word was read there, the flag is set after it was cleared there.
        if self.state.fetch_update(Ordering::SeqCst, Ordering::Relaxed, change).is_ok() {
            self.unsettled.store(true, Ordering::SeqCst);
        }
    }

    /// Returns by how many waiter-nanoseconds A has grown since the last charge, and charges them to
    /// the caller.
    ///
    /// Negative when too much was charged before: a waiter whose end comes after a charge of a later
    /// time, since it had read the clock before.
    pub(crate) fn charge(&self, now: u64) -> i64 {
        let mut charge = 0;
        loop {
            self.unsettled.store(false, Ordering::SeqCst);
            let word = self.state.load(Ordering::SeqCst);
            let state = State::unpack(word);
            if state.process != sys::process_number() {
                return 0;
            }
            if state.waiters > 0 {
                self.unsettled.store(true, Ordering::SeqCst);
            }
            let area = state.area(now);
            // Several readers of an RwLock may charge at once: each takes what the last one left.
            let charged = self.charged.load(Ordering::SeqCst);
            let growth = area.wrapping_sub(charged).cast_signed();
            if growth == 0 || (growth < 0 && state.waiters > 0) {
                // Less than nothing while somebody waits is a clock behind another's: the next
                // charge makes up for it.
                return charge;
            }
            let exchanged =
                self.charged.compare_exchange(charged, area, Ordering::SeqCst, Ordering::SeqCst);
            if exchanged.is_ok() {
                charge += growth;
                // Giving back by a word that has changed meanwhile would undo another's charge.
                if growth > 0 || self.state.load(Ordering::SeqCst) == word {
                    return charge;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicI64;

    use super::*;

    fn empty() -> Ledger {
        Ledger::new(AtomicU128::new(0), AtomicU64::new(0), AtomicBool::new(false))
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_queue_of_five_is_charged_as_it_was() {
        let ledger = empty();
        let ms = 1_000_000;
        // Holders of 100 to 500 ms; four queue 1 ms apart, each takes the lock at once.
        for waiter in 1..=4 {
            ledger.enter(waiter * ms);
        }
        let mut now = 0;
        let charges: Vec<i64> = (1..=5)
            .map(|holder| {
                now += holder * 100 * ms;
                let charge = ledger.charge(now);
                ledger.leave(now);
                charge / ms.cast_signed()
            })
            .collect();
        // 4 × 100 less the 1 + 2 + 3 + 4 ms by which they came late.
        assert_eq!(charges, [390, 600, 600, 400, 0]);
    }

    #[test]
    fn ten_thousand_waiters_for_a_day_do_not_wrap() {
        let ledger = empty();
        let start = 40 * 86_400 * SECOND;
        let day = 86_400 * SECOND;
        for _ in 0..10_000 {
            ledger.enter(start);
        }
        assert_eq!(ledger.waiters(), 10_000);
        assert_eq!(ledger.charge(start + day), (10_000 * day).cast_signed());
        for _ in 0..10_000 {
            ledger.leave(start + day + 1);
        }
        assert_eq!(ledger.charge(start + day + 1), 10_000);
        assert!(ledger.is_settled());
    }

    #[test]
    fn growth_that_comes_out_negative_is_not_lost() {
        let ledger = empty();
        ledger.enter(100);
        assert_eq!(ledger.charge(150), 50);
        // A core whose clock is behind.
        assert_eq!(ledger.charge(145), 0);
        ledger.leave(160);
        assert_eq!(ledger.charge(145), 10);
    }

    #[test]
    fn what_was_charged_too_much_is_given_back() {
        let ledger = empty();
        ledger.enter(100);
        assert_eq!(ledger.charge(150), 50);
        // It had read the clock before the charge.
        ledger.leave(130);
        assert_eq!(ledger.charge(160), -20);
        assert!(ledger.is_settled());
    }

    #[test]
    fn a_waiter_makes_the_ledger_unsettled_until_it_is_charged() {
        let ledger = empty();
        assert!(ledger.is_settled());
        ledger.enter(10);
        assert!(!ledger.is_settled());
        ledger.charge(11);
        assert!(!ledger.is_settled());
        ledger.leave(12);
        assert!(!ledger.is_settled());
        ledger.charge(13);
        assert!(ledger.is_settled());
    }

    #[test]
    fn leaving_without_having_entered_changes_nothing() {
        let ledger = empty();
        ledger.leave(10);
        assert_eq!((ledger.waiters(), ledger.charge(20)), (0, 0));
    }

    /// Waiters of many threads, charges of many threads: what is charged is what was waited.
    #[test]
    fn what_is_charged_is_what_was_waited() {
        let ledger = empty();
        let clock = AtomicU64::new(1);
        let now = || clock.fetch_add(1, Ordering::SeqCst);
        let (waited, charged) = (AtomicI64::new(0), AtomicI64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let start = now();
                        ledger.enter(start);
                        let charge = ledger.charge(now());
                        let end = now();
                        ledger.leave(end);
                        charged.fetch_add(charge, Ordering::Relaxed);
                        waited.fetch_add((end - start).cast_signed(), Ordering::Relaxed);
                    }
                });
            }
        });
        let rest = ledger.charge(now());
        assert_eq!(charged.into_inner() + rest, waited.into_inner());
        assert!(ledger.is_settled());
    }
}
