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

/// Draws the distance to the next point, in bytes: at least 1, but 0 for rate 1, where every
/// allocation is sampled.
pub(super) fn gap(rate: u64, random: u64) -> u64 {
    if rate <= 1 {
        return 0;
    }
    // 53 random bits, the precision of a f64; not 0, whose logarithm is infinite.
    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    // Rounded up: a point within the first byte falls on an allocation of one.
    (-uniform.ln() * rate as f64).ceil().max(1.0) as u64
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
