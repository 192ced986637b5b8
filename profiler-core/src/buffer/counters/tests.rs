//! The rate changes at every moment, and threads draw by themselves: nothing may be biased.

use std::ptr;

use super::*;

/// A thread that allocates, and the estimate of how often it did.
struct Allocating {
    counters: Counters,
    sampling: Sampling,
    allocated: Cell<f64>,
    estimate: Cell<f64>,
}

fn gap(random: u64) -> impl Fn(u64) -> u64 {
    let uniform = ((random >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    move |rate| if rate == 1 { 0 } else { (-uniform.ln() * rate as f64).ceil() as u64 }
}

impl Allocating {
    fn new(seed: u64) -> Self {
        let zero = || AtomicU64::new(0);
        let zeros = std::array::from_fn(|_| zero());
        let next = AtomicPtr::new(ptr::null_mut());
        let counters = Counters::new(zeros, usize::MAX, Owner::new(1, 0), next);
        let this = Self {
            counters,
            sampling: Sampling::new(zero()),
            allocated: Cell::new(0.0),
            estimate: Cell::new(0.0),
        };
        this.counters.begin(seed);
        this
    }

    /// Sets the rate; `meanwhile` happens whenever it looks for the threads.
    fn set(&self, rate: u64, meanwhile: impl Fn()) {
        self.sampling.set(rate, || {
            meanwhile();
            std::iter::once(&self.counters)
        });
    }

    /// Allocates; `meanwhile` happens when a sample is found to be due.
    fn allocate(&self, size: usize, meanwhile: impl FnOnce()) -> Option<u64> {
        self.allocated.set(self.allocated.get() + 1.0);
        let due = self.counters.allocate(size).err()?;
        meanwhile();
        let rate = self.counters.decide(due, size, &self.sampling, gap);
        self.counters.count_allocation(size);
        if let Some(rate) = rate {
            let probability = -(-(size as f64) / rate as f64).exp_m1();
            self.estimate.set(self.estimate.get() + 1.0 / probability);
        }
        rate
    }

    /// Asserts that the estimate is right within 6 standard deviations, if all was of this size
    /// and sampled at this rate or a smaller one.
    #[track_caller]
    fn check(&self, size: usize, rate: u64) {
        let (allocated, estimate) = (self.allocated.get(), self.estimate.get());
        let probability = -(-(size as f64) / rate as f64).exp_m1();
        let deviation = (allocated * (1.0 - probability) / probability).sqrt();
        let said = format!("{estimate} of {allocated}, standard deviation {deviation}");
        assert!((estimate - allocated).abs() <= 6.0 * deviation, "{said}");
        assert!(6.0 * deviation < 0.03 * allocated, "{said}");
    }
}

const SIZE: usize = 1000;
const RATES: [u64; 2] = [2_000, 8_000];

#[test]
fn allocations_while_the_rate_is_being_set_are_estimated_without_bias() {
    let thread = Allocating::new(1);
    for round in 0..100_000 {
        thread.set(RATES[round % 2], || {
            for _ in 0..4 {
                thread.allocate(SIZE, || ());
            }
        });
    }
    thread.check(SIZE, RATES[1]);
}

#[test]
fn a_sample_that_is_due_while_the_rate_is_being_set_is_taken() {
    let thread = Allocating::new(2);
    for round in 0..400_000 {
        thread.allocate(SIZE, || thread.set(RATES[round % 2], || ()));
    }
    thread.check(SIZE, RATES[1]);
}

#[test]
fn the_rate_is_followed_from_the_next_allocation_on() {
    let thread = Allocating::new(3);
    for rate in [1, 1 << 60, 1, 0, 1] {
        thread.set(rate, || ());
        for size in [0, 1, SIZE] {
            assert_eq!(thread.allocate(size, || ()), (rate == 1).then_some(1), "rate {rate}");
        }
    }
}

/// Whether numbers are even between 0 and 1, by the largest distance of their distribution
/// function from x (Kolmogorov): beyond d√n = 2.8 it is once in 3 million times, 2·e^(−2·2.8²).
#[track_caller]
fn check_even(mut numbers: Vec<f64>) {
    numbers.sort_by(f64::total_cmp);
    let n = numbers.len() as f64;
    let distances = numbers.iter().zip(0..).map(|(&x, at)| {
        let (below, above) = (f64::from(at) / n, f64::from(at + 1) / n);
        (x - below).max(above - x)
    });
    let distance = distances.fold(0.0, f64::max) * n.sqrt();
    assert!(distance < 2.8, "{distance}");
}

/// The chance that decides on the sample after the next `draws`, drawn by threads with seeds
/// that are so far apart.
fn chances(draws: usize, apart: u64) -> Vec<f64> {
    let chance = |seed: u64| {
        let thread = Allocating::new(seed * apart);
        for _ in 0..draws {
            thread.counters.random();
        }
        (thread.counters.random() >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..20_000).map(chance).collect()
}

#[test]
fn threads_draw_independently() {
    for apart in [1, 64, 1 << 32] {
        let (first, second) = (chances(0, apart), chances(1, apart));
        check_even(first.clone());
        check_even(second.clone());
        // With one another: sums of independent even numbers, without their whole part, are even.
        let sums = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a + b).fract()).collect();
        check_even(sums(&first, &second));
        check_even(sums(&first, &first[1..]));
    }
}
