//! Time in nanoseconds, cheap enough for a lock's slow path.
//!
//! Where the processor's counter is steady and trusted by the kernel, a reading costs some 10 ns
//! instead of 25. Its speed is measured once, by the profiler's own thread, and then never again:
//! another factor would move totals that have already been counted. Until then, and on every other
//! machine, the monotonic clock of the system answers. The counter continues from it at the
//! switch, where time may step by the error of one reading, some tens of nanoseconds; a duration
//! is therefore a signed difference everywhere.
//!
//! The factor is right within the accuracy of the monotonic clock during the measurement, so the
//! two drift apart by microseconds a minute. Time that a machine spends suspended may or may not be
//! counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::sys;

/// How long the counter is watched: a reading is off by tens of nanoseconds, so the factor is off
/// by less than one in a million.
const WATCH: Duration = Duration::from_millis(120);

/// Pairs taken at each end, of which the tightest counts: one that an interrupt tore apart is seen
/// by its length.
const TRIES: usize = 16;

/// The published [`Scale`]. `factor` is written last: while it is 0 there is none.
struct Published {
    factor: AtomicU64,
    cycles: AtomicU64,
    nanoseconds: AtomicU64,
}

static PUBLISHED: Published = Published {
    factor: AtomicU64::new(0),
    cycles: AtomicU64::new(0),
    nanoseconds: AtomicU64::new(0),
};

/// Returns nanoseconds since a point fixed for this process.
///
/// Two threads may read it crosswise by some tens of nanoseconds: take differences as signed.
///
/// # Signal safety
///
/// Reads a counter and three words, or calls `clock_gettime`.
#[inline]
pub(crate) fn now() -> u64 {
    // Acquire: pairs with the Release in `publish`, so the base belongs to the factor.
    let factor = PUBLISHED.factor.load(Ordering::Acquire);
    if factor == 0 {
        return sys::monotonic_nanoseconds();
    }
    let base = Pair {
        // Relaxed: written once, before the factor.
        cycles: PUBLISHED.cycles.load(Ordering::Relaxed),
        nanoseconds: PUBLISHED.nanoseconds.load(Ordering::Relaxed),
    };
    Scale { factor, base }.nanoseconds(sys::cycle_counter())
}

/// Measures the counter and switches [`now`] to it, if it is steady. Takes about a tenth of a
/// second, so it belongs on the profiler's own thread; only the first call does anything.
pub(crate) fn calibrate() {
    static STARTED: AtomicBool = AtomicBool::new(false);
    // Relaxed: the flag guards nothing but itself.
    if STARTED.swap(true, Ordering::Relaxed) || !sys::cycle_counter_is_steady() {
        return;
    }
    let first = Pair::read();
    std::thread::sleep(WATCH);
    if let Some(scale) = Scale::between(first, Pair::read()) {
        publish(scale);
    }
}

fn publish(scale: Scale) {
    // Relaxed: readers look only after they have seen the factor.
    PUBLISHED.cycles.store(scale.base.cycles, Ordering::Relaxed);
    PUBLISHED.nanoseconds.store(scale.base.nanoseconds, Ordering::Relaxed);
    // Release: pairs with the Acquire in `now`.
    PUBLISHED.factor.store(scale.factor, Ordering::Release);
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    cycles: u64,
    nanoseconds: u64,
}

impl Pair {
    fn read() -> Self {
        tightest((0..TRIES).map(|_| {
            let before = sys::cycle_counter();
            let nanoseconds = sys::monotonic_nanoseconds();
            (before, nanoseconds, sys::cycle_counter())
        }))
    }
}

/// Returns the reading of the monotonic clock that took the fewest cycles, with the middle of
/// those cycles.
fn tightest(readings: impl Iterator<Item = (u64, u64, u64)>) -> Pair {
    readings.min_by_key(|(before, _, after)| after.wrapping_sub(*before)).map_or(
        Pair { cycles: 0, nanoseconds: 0 },
        |(before, nanoseconds, after)| Pair {
            cycles: before.wrapping_add(after.wrapping_sub(before) / 2),
            nanoseconds,
        },
    )
}

/// How cycles become nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scale {
    /// Nanoseconds per cycle × 2³²: a counter of 3 GHz is off by 0.7 ns in a second by rounding.
    factor: u64,
    base: Pair,
}

impl Scale {
    /// Returns the scale that leads through both pairs and continues from the later one.
    fn between(first: Pair, last: Pair) -> Option<Self> {
        let cycles = last.cycles.checked_sub(first.cycles)?;
        let nanoseconds = last.nanoseconds.checked_sub(first.nanoseconds)?;
        let factor = (u128::from(nanoseconds) << 32).checked_div(u128::from(cycles))?;
        let factor = u64::try_from(factor).ok()?;
        (factor != 0).then_some(Self { factor, base: last })
    }

    /// Returns the time of a reading; before the base too, since the counter of another core may
    /// be a little behind.
    #[inline]
    fn nanoseconds(self, cycles: u64) -> u64 {
        let since = cycles.wrapping_sub(self.base.cycles).cast_signed();
        // Signed on both sides, so that it is one multiplication.
        let scaled = (i128::from(since) * i128::from(self.factor.cast_signed())) >> 32;
        self.base.nanoseconds.wrapping_add(scaled as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1_000_000_000;

    /// A counter of 3 GHz, watched for a tenth of a second.
    fn three_gigahertz() -> Scale {
        let first = Pair { cycles: 5_000, nanoseconds: 70 };
        let last = Pair { cycles: 300_005_000, nanoseconds: 100_000_070 };
        Scale::between(first, last).unwrap()
    }

    #[test]
    fn a_scale_continues_from_its_later_pair() {
        assert_eq!(three_gigahertz().nanoseconds(300_005_000), 100_000_070);
        assert_eq!(three_gigahertz().nanoseconds(300_005_300), 100_000_070 + 99);
    }

    #[test]
    fn a_scale_holds_for_a_year() {
        let scale = three_gigahertz();
        for days in [1, 365] {
            let passed = scale.nanoseconds(300_005_000 + 3 * days * DAY) - scale.base.nanoseconds;
            let off = passed.abs_diff(days * DAY);
            assert!(off < days * DAY / 1_000_000_000, "{off} ns off after {days} days");
        }
    }

    #[test]
    fn a_counter_a_little_behind_the_base_is_a_little_earlier() {
        assert_eq!(three_gigahertz().nanoseconds(300_005_000 - 3_000), 100_000_070 - 1_000);
    }

    #[test]
    fn a_counter_that_stands_or_goes_back_gives_no_scale() {
        let pair = |cycles, nanoseconds| Pair { cycles, nanoseconds };
        assert_eq!(Scale::between(pair(10, 0), pair(10, 100)), None);
        assert_eq!(Scale::between(pair(10, 0), pair(9, 100)), None);
        assert_eq!(Scale::between(pair(10, 100), pair(20, 90)), None);
        assert_eq!(Scale::between(pair(10, 100), pair(20, 100)), None);
    }

    #[test]
    fn the_tightest_reading_counts() {
        let readings = [(100, 1, 190), (200, 2, 220), (300, 3, 330)];
        assert_eq!(tightest(readings.into_iter()), Pair { cycles: 210, nanoseconds: 2 });
    }

    /// Both clocks at nearly one moment, as a range for the system's.
    fn both() -> (u64, u64, u64) {
        let before = sys::monotonic_nanoseconds();
        let now = now();
        (before, now, sys::monotonic_nanoseconds())
    }

    #[test]
    fn the_clock_keeps_pace_with_the_monotonic_clock() {
        calibrate();
        let (start_before, start, start_after) = both();
        loop {
            let (before, now, after) = both();
            if before - start_after < 50_000_000 {
                continue;
            }
            let passed = now - start;
            let (least, most) = (before - start_after, after - start_before);
            assert!(passed >= least - least / 1_000, "{passed} passed, at least {least}");
            assert!(passed <= most + most / 1_000, "{passed} passed, at most {most}");
            break;
        }
    }

    #[test]
    fn a_thread_sees_time_go_forward() {
        calibrate();
        // Another test may be measuring right now: wait for the switch, if there will be one.
        while sys::cycle_counter_is_steady() && PUBLISHED.factor.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        let mut last = now();
        for _ in 0..100_000 {
            let next = now();
            assert!(next.wrapping_sub(last).cast_signed() >= 0, "{last} then {next}");
            last = next;
        }
    }
}
