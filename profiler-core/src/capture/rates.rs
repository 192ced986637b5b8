//! What is recorded of waits and charges: Go's rule, decided event by event without bias.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::buffer::thread::Thread;
use crate::config::Rates;

static BLOCK_NS: AtomicU64 = AtomicU64::new(Rates::DEFAULT.block_ns);
static MUTEX_NS: AtomicU64 = AtomicU64::new(Rates::DEFAULT.mutex_ns);
static HEAP_BYTES: AtomicU64 = AtomicU64::new(Rates::DEFAULT.heap_bytes);
static MUTEX_FRACTION: AtomicU32 = AtomicU32::new(Rates::DEFAULT.mutex_fraction);

/// Sets the rates; events decided from now on follow them, allocations once
/// [`follow_rate`](crate::capture::alloc::follow_rate) was called.
pub(crate) fn set(rates: Rates) {
    // Relaxed: each rate stands for itself.
    BLOCK_NS.store(rates.block_ns, Ordering::Relaxed);
    MUTEX_NS.store(rates.mutex_ns, Ordering::Relaxed);
    MUTEX_FRACTION.store(rates.mutex_fraction, Ordering::Relaxed);
    HEAP_BYTES.store(rates.heap_bytes, Ordering::Relaxed);
}

/// Returns the rates in force.
pub(crate) fn get() -> Rates {
    // Relaxed: as in `set`.
    Rates::DEFAULT
        .block_ns(BLOCK_NS.load(Ordering::Relaxed))
        .mutex_ns(MUTEX_NS.load(Ordering::Relaxed))
        .mutex_fraction(MUTEX_FRACTION.load(Ordering::Relaxed))
        .heap_bytes(HEAP_BYTES.load(Ordering::Relaxed))
}

/// Returns whether any wait or charge can be recorded.
pub(crate) fn any() -> bool {
    let rates = get();
    rates.block_ns != 0 || (rates.mutex_ns != 0 && rates.mutex_fraction != 0)
}

/// Count and nanoseconds to record for one event.
pub(crate) type Weighted = (i64, i64);

/// Decides on a wait of that length.
pub(crate) fn wait(thread: &Thread, nanoseconds: u64) -> Option<Weighted> {
    wait_to_come(thread).weigh(nanoseconds, || thread.random())
}

/// Decides on a wait before its length is known.
pub(crate) fn wait_to_come(thread: &Thread) -> Draw {
    Draw::new(BLOCK_NS.load(Ordering::Relaxed), || thread.random())
}

/// Decides on a charge of that size; `thread` is whoever makes the random numbers.
///
/// A negative one gives back what was charged too much before, and counts as no event.
pub(crate) fn charge(thread: &Thread, nanoseconds: i64) -> Option<Weighted> {
    let fraction = MUTEX_FRACTION.load(Ordering::Relaxed);
    let rate = if fraction == 0 { 0 } else { MUTEX_NS.load(Ordering::Relaxed) };
    let (count, sum) = weigh(nanoseconds.unsigned_abs(), rate, || thread.random())?;
    let (count, sum) = if nanoseconds < 0 { (0, -sum) } else { (count, sum) };
    if fraction == 1 {
        return Some((count, sum));
    }
    let chosen = thread.random().is_multiple_of(u64::from(fraction));
    let weight = i64::from(fraction);
    chosen.then(|| (count.saturating_mul(weight), sum.saturating_mul(weight)))
}

/// Values of at least `rate` count as they are. A smaller one is taken with probability
/// value/rate, and then counts as rate/value events of `rate` nanoseconds together: expectations
/// are 1 and the value. The count is rounded up or down at random so that its mean is right too.
/// (Horvitz-Thompson estimator; Go's rule for its block profile.)
fn weigh(value: u64, rate: u64, mut random: impl FnMut() -> u64) -> Option<Weighted> {
    Draw::new(rate, &mut random).weigh(value, random)
}

/// The decision on one event, drawn before its value is known: it counts from a least value on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    rate: u64,
    least: u64,
}

impl Draw {
    fn new(rate: u64, mut random: impl FnMut() -> u64) -> Self {
        // A larger one would be a negative sum.
        let rate = rate.min(i64::MAX as u64);
        let least = match rate {
            0 => u64::MAX,
            1 => 0,
            // At most `rate`; a value reaches it with probability value/rate.
            _ => below(random(), rate) + 1,
        };
        Self { rate, least }
    }

    /// Returns from which value on the event is recorded.
    pub(crate) const fn least(self) -> u64 {
        self.least
    }

    /// Weighs the event, now that its value is known.
    pub(crate) fn weigh(self, value: u64, mut random: impl FnMut() -> u64) -> Option<Weighted> {
        let Self { rate, least } = self;
        if rate == 0 {
            return None;
        }
        if value >= rate || rate == 1 {
            return Some((1, value.min(i64::MAX as u64).cast_signed()));
        }
        // A wait of no length would weigh without end.
        let value = value.max(1);
        if value < least {
            return None;
        }
        let count = rate / value + u64::from(below(random(), value) < rate % value);
        Some((count.cast_signed(), rate.cast_signed()))
    }
}

/// Takes 64 random bits to a number below `bound`, by a multiplication.
const fn below(random: u64, bound: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generator() -> impl FnMut() -> u64 {
        let mut x = 0x2545_F491_4F6C_DD1D_u64;
        move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x
        }
    }

    #[test]
    fn zero_is_off_and_one_takes_all() {
        let mut random = generator();
        assert_eq!(weigh(5, 0, &mut random), None);
        for value in [1, 2, 10, 1_000_000] {
            assert_eq!(weigh(value, 1, &mut random), Some((1, value as i64)));
        }
        assert_eq!(weigh(0, 1, &mut random), Some((1, 0)));
    }

    #[test]
    fn no_rate_turns_a_sum_around() {
        for rate in [1 << 63, u64::MAX] {
            assert_eq!(weigh((1 << 62) + 1, rate, || 0), Some((2, i64::MAX)));
            assert_eq!(weigh(u64::MAX, rate, || 0), Some((1, i64::MAX)));
        }
    }

    /// Count and sum must both come out right, whatever the length and the rate.
    #[test]
    fn sampling_is_unbiased_for_counts_and_sums() {
        let mut random = generator();
        for (rate, value) in [
            (10_000, 1_000),
            (10_000, 9_999),
            (10_000, 10_000),
            (100_000, 333),
            (1_000, 7),
            (100, 70),
        ] {
            let events = 400_000_u64;
            let (mut count, mut sum) = (0, 0);
            for _ in 0..events {
                if let Some((c, s)) = weigh(value, rate, &mut random) {
                    count += c;
                    sum += s;
                }
            }
            // Five standard deviations of a sum of Bernoulli draws with p = value/rate.
            let p = (value as f64 / rate as f64).min(1.0);
            let allowed = 5.0 * ((1.0 - p) / p / events as f64).sqrt() + 0.002;
            let count = count as f64 / events as f64;
            let sum = sum as f64 / (events * value) as f64;
            assert!((count - 1.0).abs() < allowed, "rate {rate} value {value}: count {count}");
            assert!((sum - 1.0).abs() < allowed, "rate {rate} value {value}: sum {sum}");
        }
    }
}
