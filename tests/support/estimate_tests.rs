//! Samplers with planted faults are found wrong, the right one is not.

use super::*;

const RATE: f64 = 4_096.0;
const RUNS: usize = 100;
/// Sizes of a run's allocations, and how many there are.
const MIX: [(f64, u32); 5] =
    [(48.0, 4_000), (512.0, 4_000), (4_096.0, 4_000), (20_000.0, 400), (300_000.0, 40)];

/// A generator of numbers in (0, 1] (xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// The sizes of a run in a random order.
    fn sizes(&mut self) -> Vec<f64> {
        let mut sizes: Vec<f64> =
            MIX.iter().flat_map(|&(size, count)| (0..count).map(move |_| size)).collect();
        for at in (1..sizes.len()).rev() {
            sizes.swap(at, (self.next() * at as f64) as usize);
        }
        sizes
    }
}

fn probability(size: f64) -> f64 {
    -(-size / RATE).exp_m1()
}

fn sum(value: fn(f64) -> f64) -> Sum {
    let events = |&(size, count): &(f64, u32)| Events {
        count: f64::from(count),
        value: value(size),
        probability: probability(size),
    };
    MIX.iter().map(events).collect()
}

/// Estimates objects and bytes of each run by a sampler's distances, and by how it makes an
/// estimate of what it sampled.
fn estimates(
    gap: fn(f64) -> f64,
    estimate: fn(&[f64]) -> [f64; 2],
) -> ([Vec<f64>; 2], [Result<(), String>; 4]) {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let mut distance = gap(random.next());
    let mut all = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        let mut sampled = Vec::new();
        for size in random.sizes() {
            distance -= size;
            if distance <= 0.0 {
                sampled.push(size);
                distance = gap(random.next());
            }
        }
        for (all, estimate) in all.iter_mut().zip(estimate(&sampled)) {
            all.push(estimate);
        }
    }
    let sums = [sum(|_| 1.0), sum(|size| size)];
    let [objects, bytes] =
        [0, 1].map(|i| (sums[i].check_mean(&all[i]), sums[i].check_spread(&all[i])));
    (all, [objects.0, objects.1, bytes.0, bytes.1])
}

fn exponential(uniform: f64) -> f64 {
    -uniform.ln() * RATE
}

fn scaled_then_summed(sampled: &[f64]) -> [f64; 2] {
    let weights = sampled.iter().map(|&size| 1.0 / probability(size));
    [weights.clone().sum(), weights.zip(sampled).map(|(weight, size)| weight * size).sum()]
}

#[test]
fn a_right_sampler_passes() {
    let (_, checks) = estimates(exponential, scaled_then_summed);
    assert_eq!(checks, [const { Ok(()) }; 4]);
    let percent = 100.0 * sum(|_| 1.0).allowed(RUNS) / sum(|_| 1.0).truth() / RUNS as f64;
    assert!(percent < 4.0, "a fault of {percent:.2} % would not be seen");
}

#[test]
fn planted_faults_are_found() {
    let (_, longer) = estimates(|uniform| 1.1 * exponential(uniform), scaled_then_summed);
    assert!(longer[0].is_err() && longer[2].is_err(), "longer distances: {longer:?}");

    let (_, fixed) = estimates(|_| RATE, scaled_then_summed);

    assert!(fixed.iter().any(Result::is_err), "fixed distances: {fixed:?}");

    let (_, uniform) = estimates(|uniform| 2.0 * uniform * RATE, scaled_then_summed);

    assert!(uniform.iter().any(Result::is_err), "distances of no memory: {uniform:?}");

    // By the mean size, once everything is summed.
    let (_, summed) = estimates(exponential, |sampled| {
        let (count, bytes) = (sampled.len() as f64, sampled.iter().sum::<f64>());
        let weight = 1.0 / probability(bytes / count);
        [count * weight, bytes * weight]
    });
    assert!(summed[0].is_err() && summed[2].is_err(), "summed, then scaled: {summed:?}");
}

/// Threads that draw the same numbers: the mean is right, and each run is as far off as its thread.
#[test]
fn draws_that_depend_on_each_other_are_found() {
    let (all, _) = estimates(exponential, scaled_then_summed);
    let alike: Vec<f64> = all[1].iter().map(|estimate| 4.0 * estimate).collect();
    let of_four: Sum = (0..4).flat_map(|_| sum(|size| size).0).collect();
    assert_eq!(of_four.check_mean(&alike), Ok(()));
    assert!(of_four.check_spread(&alike).is_err());
}

#[test]
fn bounds_are_those_of_a_normal_quantity_where_it_is_one() {
    let even = Sum(vec![Events { count: 1e6, value: 1.0, probability: 0.5 }]);
    assert!((even.variance() - 1e6).abs() < 1.0);
    let deviations = even.allowed(1) / 1e3;
    assert!((5.2..5.3).contains(&deviations), "{deviations}");
    let spread = even.spread(100);
    // Quantiles of chi-square over 99 degrees of freedom, divided by 99, at 3e-7 on either side.
    assert!(
        (spread.start() - 0.437).abs() < 0.01 && (spread.end() - 1.88).abs() < 0.01,
        "{spread:?}"
    );

    // One event in a thousand: 2 are met once in 2 million times, 3 hardly ever.
    let rare = Sum(vec![Events { count: 1.0, value: 1.0, probability: 0.001 }]);
    assert!((999.0..2_000.0).contains(&rare.allowed(1)), "{}", rare.allowed(1));
    assert!(std::panic::catch_unwind(|| rare.spread(100)).is_err());
}
