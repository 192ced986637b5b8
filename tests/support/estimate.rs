//! Whether estimates from samples are what theory says: right in the mean, and scattered as they
//! should be.
//!
//! An event of value v that is sampled with probability p counts as v/p if it is and as 0 if not:
//! mean v, variance v²·(1 − p)/p, and events are independent of each other. Everything else here
//! follows from that, so that no bound is a guess.

use std::ops::RangeInclusive;

/// Equal events of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Events {
    /// How many.
    pub count: f64,
    /// What each adds to the sum.
    pub value: f64,
    /// With which probability each is sampled, above 0.
    pub probability: f64,
}

/// A sum over all events of a run, which samples estimate.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sum(Vec<Events>);

impl FromIterator<Events> for Sum {
    fn from_iter<T: IntoIterator<Item = Events>>(events: T) -> Self {
        Self(events.into_iter().collect())
    }
}

/// The logarithm of the chance that a right sampler is found wrong: one in a million.
const CHANCE: f64 = -13.8;
/// As many standard deviations of a normal quantity are exceeded on one side once in 3 million times;
/// of a chi-square quantity taken for one, with 60 degrees or more, once in 4 million.
const DEVIATIONS: f64 = 5.0;

impl Sum {
    /// Returns the true sum of a run.
    #[must_use]
    pub fn truth(&self) -> f64 {
        self.0.iter().map(|events| events.count * events.value).sum()
    }

    /// Returns the variance of the estimate of a run.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let of = |&Events { count, value, probability: p }: &Events| {
            count * value * value * (1.0 - p) / p
        };
        self.0.iter().map(of).sum()
    }

    /// Returns the excess kurtosis of the estimate of a run: 0 for a normal distribution. An event's
    /// fourth cumulant is that of a Bernoulli variable, times (v/p)⁴.
    fn kurtosis(&self) -> f64 {
        let of = |&Events { count, value, probability: p }: &Events| {
            let q = p * (1.0 - p);
            count * (value / p).powi(4) * q * (1.0 - 6.0 * q)
        };
        self.0.iter().map(of).sum::<f64>() / self.variance().powi(2)
    }

    /// Returns how far from the truth the sum of so many runs' estimates may be.
    ///
    /// For every θ > 0, P(X − EX ≥ t) ≤ e^(K(θ) − θt), where K is the logarithm of the moment
    /// generating function of X − EX (Chernoff). So t = (K(θ) − ln chance)/θ is exceeded with no more
    /// than that chance; the best θ is looked for around that of a normal X. The lower tail is the
    /// same with −θ. No distribution is assumed, so it holds where a few samples weigh a lot.
    #[must_use]
    pub fn allowed(&self, runs: usize) -> f64 {
        let runs = runs as f64;
        let generating = |theta: f64| -> f64 {
            let of = |&Events { count, value, probability: p }: &Events| {
                count * ((p * (theta * value / p).exp_m1()).ln_1p() - theta * value)
            };
            runs * self.0.iter().map(of).sum::<f64>()
        };
        let normal = (-2.0 * CHANCE / (runs * self.variance())).sqrt();
        let tail = |sign: f64| {
            let at = |step: i32| {
                let theta = normal * (f64::from(step) / 8.0).exp2();
                (generating(sign * theta) - CHANCE) / theta
            };
            (-80..=16).map(at).fold(f64::INFINITY, f64::min)
        };
        tail(1.0).max(tail(-1.0))
    }

    /// Returns between which factors of the [`Sum::variance`] that of so many runs must lie.
    ///
    /// The variance S² of n estimates has mean σ² and variance σ⁴·(2/(n − 1) + κ/n). With κ = 0 it is
    /// chi-square over its n − 1 degrees of freedom; for a small κ it is taken for one with
    /// k = 2/(2/(n − 1) + κ/n) degrees, which has the same variance. Its cube root is very nearly
    /// normal, with mean 1 − 2/9k and variance 2/9k (Wilson and Hilferty).
    ///
    /// # Panics
    ///
    /// κ is above 0.1: the estimates hang on a few heavy samples, and their spread tells nothing.
    #[must_use]
    #[track_caller]
    pub fn spread(&self, runs: usize) -> RangeInclusive<f64> {
        let (runs, kurtosis) = (runs as f64, self.kurtosis());
        assert!(kurtosis <= 0.1, "excess kurtosis {kurtosis}: the runs are too small");
        let degrees = 2.0 / (2.0 / (runs - 1.0) + kurtosis / runs);
        let part = 2.0 / (9.0 * degrees);
        let at = |deviations: f64| (1.0 - part + deviations * part.sqrt()).powi(3);
        at(-DEVIATIONS)..=at(DEVIATIONS)
    }

    /// Checks the mean of runs' estimates.
    ///
    /// # Errors
    ///
    /// A sentence, if it is further from the truth than chance allows.
    pub fn check_mean(&self, estimates: &[f64]) -> Result<(), String> {
        let (truth, allowed) = (self.truth(), self.allowed(estimates.len()));
        let error = estimates.iter().map(|estimate| estimate - truth).sum::<f64>();
        let all = truth * estimates.len() as f64;
        let percent = |part: f64| 100.0 * part / all;
        let said = format!("{:+.3} % off, {:.3} % allowed", percent(error), percent(allowed));
        if error.abs() <= allowed { Ok(()) } else { Err(said) }
    }

    /// Checks the variance of runs' estimates.
    ///
    /// # Errors
    ///
    /// A sentence, if it is further from theory than chance allows.
    pub fn check_spread(&self, estimates: &[f64]) -> Result<(), String> {
        let runs = estimates.len() as f64;
        let mean = estimates.iter().sum::<f64>() / runs;
        let squares = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum::<f64>();
        let factor = squares / (runs - 1.0) / self.variance();
        let allowed = self.spread(estimates.len());
        let said = format!("a variance of {factor:.2} times theory, {allowed:.2?} allowed");
        if allowed.contains(&factor) { Ok(()) } else { Err(said) }
    }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
