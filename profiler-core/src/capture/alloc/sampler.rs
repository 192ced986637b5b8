//! Which allocations are sampled, and what a sample stands for.
//!
//! Samples are points of a Poisson process along the bytes that a thread allocates, R bytes apart
//! in the mean. Distances between points are exponential, P(distance > x) = e^(−x/R), whatever came
//! before, so one is drawn, by inversion, as −R·ln u for u uniform in (0, 1].
//!
//! An allocation of s bytes is sampled if at least one point falls on it, with probability
//! p = 1 − e^(−s/R). It then stands for 1/p allocations and s/p bytes: the expectation of
//! 1/p with probability p is 1 (Horvitz and Thompson's estimator). The variance of the estimated
//! count of n such allocations is n·(1 − p)/p, and s² times that for bytes. Each sample is scaled
//! by its own p before anything is summed: the mean of 1/p over sizes is not 1/p of the mean size.

use crate::buffer::record::OBJECT;

/// What a sample adds: objects, in parts of [`OBJECT`], and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weight {
    pub(super) objects: i64,
    pub(super) bytes: i64,
}

/// Draws the distance to the next point, and says it by a rate, in bytes: at least 1, but 0 for rate 1,
/// where every allocation is sampled.
pub(super) fn gap(random: u64) -> impl Fn(u64) -> u64 {
    // 53 random bits, the precision of a f64; not 0, whose logarithm is infinite.
    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let distance = -uniform.ln();
    move |rate| {
        if rate <= 1 {
            return 0;
        }
        // Rounded up: a point within the first byte falls on an allocation of one.
        (distance * rate as f64).ceil().max(1.0) as u64
    }
}

/// Weighs a sample of that size.
pub(super) fn weight(size: u64, rate: u64) -> Weight {
    // 1 − e^(−s/R), also where s/R is tiny.
    let probability = if rate <= 1 { 1.0 } else { -(-(size as f64) / rate as f64).exp_m1() };
    Weight {
        objects: (OBJECT as f64 / probability).round() as i64,
        bytes: (size as f64 / probability).round() as i64,
    }
}

/// Returns the size class that a sample is shown under: at most an eighth larger than the size, and
/// eight to each doubling, so that one call site makes few rows whatever it asks for.
pub(super) fn class(size: usize) -> u64 {
    let size = (size as u64).clamp(1, 1 << 62);
    let step = match (size - 1).checked_ilog2() {
        Some(log) if log > 6 => 1 << (log - 3),
        _ => 8,
    };
    size.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Go's numbers (`TestConvertMemProfile`), from sums of samples that were each scaled.
    #[test]
    fn scaled_as_go_scales() {
        let rate = 512 << 10;
        for (count, size, objects, bytes) in
            [(4, 1024, 2050, 2_099_200), (3, 1024, 1537, 1_574_400), (1, 512 << 10, 1, 829_411)]
        {
            let Weight { objects: parts, bytes: scaled } = weight(size, rate);
            assert_eq!((count * parts / OBJECT, count * scaled), (objects, bytes));
        }
        assert_eq!(weight(24, 1), Weight { objects: OBJECT, bytes: 24 });
    }

    /// Returns the probability that an allocation is sampled: that the distance drawn is at most its
    /// size. The distance falls as the random number rises, so the numbers from one on do it.
    fn chance(size: u64, rate: u64) -> f64 {
        let (mut too_far, mut near) = (0_u64, u64::MAX);
        if gap(too_far)(rate) <= size {
            return 1.0;
        }
        assert!(gap(near)(rate) <= size);
        while near - too_far > 1 {
            let middle = too_far + (near - too_far) / 2;
            if gap(middle)(rate) <= size { near = middle } else { too_far = middle }
        }
        (u64::MAX - too_far) as f64 / 2.0_f64.powi(64)
    }

    const RATES: [u64; 7] = [1, 2, 100, 4096, 512 << 10, 1 << 30, 1 << 40];

    /// Of all random numbers the right part samples, whatever the size and the rate: an estimate is a
    /// weight times that chance.
    #[test]
    fn weight_times_chance_is_one() {
        for rate in RATES {
            for size in (0..45).flat_map(|power| [1_u64 << power, (1 << power) + (1 << power >> 1)])
            {
                let chance = chance(size, rate);
                let probability = -(-(size as f64) / rate as f64).exp_m1();
                let said = format!("{size} at {rate}: {chance}");
                // Random numbers have 53 bits.
                let precision = 1e-9 + 0.5_f64.powi(52) / probability;
                if rate > 1 {
                    assert!((chance / probability - 1.0).abs() < precision, "{said}");
                }
                let Weight { objects, bytes } = weight(size, rate);
                // Both are rounded.
                let estimate = chance * objects as f64 / OBJECT as f64;
                assert!((estimate - 1.0).abs() < precision + 0.5 / OBJECT as f64, "{said}");
                let estimate = chance * bytes as f64 / size as f64;
                assert!((estimate - 1.0).abs() < precision + 0.5 / size as f64, "{said}");
            }
        }
    }

    /// The mean over a million random numbers at equal distances, which misses 0.35 millionths of
    /// ∫ −ln u. Distances are rounded up, by half a byte in the mean.
    #[test]
    fn the_mean_distance_is_the_rate() {
        const STEPS: u64 = 1_000_000;
        for rate in [64, 4096, 512 << 10, 1 << 30] {
            let step = u64::MAX / STEPS;
            let sum: f64 = (0..STEPS).map(|at| gap(at * step + step / 2)(rate) as f64).sum();
            let mean = sum / STEPS as f64;
            assert!((mean - 0.5 - rate as f64).abs() < 1e-6 * rate as f64 + 0.01, "{rate}: {mean}");
        }
    }

    #[test]
    fn the_rate_of_one_takes_all() {
        for random in [0, 1, u64::MAX] {
            assert_eq!((gap(random)(1), gap(random)(0)), (0, 0));
            assert!(gap(random)(2) >= 1, "so that no sample is of no bytes");
        }
        for size in [0, 1, 24, 1 << 50] {
            let bytes = size as i64;
            assert_eq!(weight(size, 1), Weight { objects: OBJECT, bytes });
        }
    }

    #[test]
    fn far_more_than_the_rate_stands_for_itself() {
        for (size, rate) in [(204_800, 2048), (1 << 40, 512 << 10), (isize::MAX as u64, 1 << 50)] {
            let bytes = size as i64;
            assert_eq!(weight(size, rate), Weight { objects: OBJECT, bytes });
        }
    }

    /// They are cut off where a sum would turn around.
    #[test]
    fn weights_and_distances_of_the_greatest_rate_are_numbers() {
        assert_eq!(weight(1, u64::MAX), Weight { objects: i64::MAX, bytes: i64::MAX });
        assert_eq!(weight(isize::MAX as u64, u64::MAX).bytes, i64::MAX);
        assert_eq!(gap(0)(u64::MAX), u64::MAX);
        // A small part of a great rate is the rate: s/p is R + s/2 then.
        assert_eq!(weight(1024, 1 << 40).bytes, (1 << 40) + 512);
    }

    #[test]
    fn classes() {
        for (size, expected) in [
            (0, 8),
            (1, 8),
            (8, 8),
            (9, 16),
            (24, 24),
            (1000, 1024),
            (1024, 1024),
            (1025, 1152),
            (512 << 10, 512 << 10),
            (isize::MAX as usize, 1 << 62),
        ] {
            assert_eq!(class(size), expected, "{size}");
        }
    }
}
