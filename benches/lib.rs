//! Measures in pairs: cases interleaved in one process, medians over rounds, ratios side by side.
//!
//! The machine is shared and noisy, so no absolute figure is a fact. Each table has an A/A control:
//! the baseline measured a second time as if it were another case. Differences inside its spread
//! mean nothing.

pub mod instructions;

use std::hint::black_box;
use std::time::Instant;

/// Calls `body` with `levels` frames above it, of which each is one of two functions, by the bits of
/// `way`: so many ways, so many stacks.
#[inline(always)] // else it would be a frame of its own
pub fn down(levels: u32, way: u32, body: &mut dyn FnMut()) {
    match (levels, way & 1) {
        (0, _) => body(),
        (_, 0) => left(levels - 1, way >> 1, body),
        _ => right(levels - 1, way >> 1, body),
    }
}

#[inline(never)]
fn left(levels: u32, way: u32, body: &mut dyn FnMut()) {
    down(levels, way, body);
    black_box(levels);
}

#[inline(never)]
fn right(levels: u32, way: u32, body: &mut dyn FnMut()) {
    down(levels, way, body);
    black_box(way);
}

/// One thing to measure: called with a number of iterations, does them.
pub struct Case<'a> {
    name: String,
    run: Box<dyn FnMut(u64) + 'a>,
    budget: String,
    least: u64,
}

impl std::fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl<'a> Case<'a> {
    /// Describes a case.
    pub fn new(name: &str, run: impl FnMut(u64) + 'a) -> Self {
        Self { name: name.to_owned(), run: Box::new(run), budget: String::new(), least: 1 }
    }

    /// Sets how many iterations a round has at the least, for cases that begin by starting threads.
    #[must_use]
    pub const fn at_least(mut self, iterations: u64) -> Self {
        self.least = iterations;
        self
    }

    /// Adds the budget that the table prints beside the figure.
    #[must_use]
    pub fn budget(mut self, budget: &str) -> Self {
        budget.clone_into(&mut self.budget);
        self
    }
}

/// Rounds over which medians are taken.
const ROUNDS: usize = 25;
/// How long one case runs in one round.
const NANOSECONDS_A_ROUND: f64 = 4e6;

/// Measures the cases, the first of which is the baseline, and prints a table: nanoseconds an
/// iteration, and difference and ratio to the baseline.
pub fn compare(title: &str, cases: &mut [Case<'_>]) {
    let iterations: Vec<u64> = cases.iter_mut().map(calibrate).collect();
    let mut figures = vec![Vec::with_capacity(ROUNDS); cases.len() + 1];
    for _ in 0..ROUNDS {
        for (index, case) in cases.iter_mut().enumerate() {
            figures[index].push(time(case, iterations[index]));
        }
        // The control: the baseline once more.
        figures[cases.len()].push(time(&mut cases[0], iterations[0]));
    }
    let medians: Vec<f64> = figures.iter_mut().map(|figures| median(figures)).collect();
    let baseline = medians[0];
    println!("\n## {title}\n");
    println!("| case | ns | difference | ratio | budget |");
    println!("|---|---:|---:|---:|---|");
    let control = Case::new("A/A control (baseline again)", |_| ());
    for (case, ns) in cases.iter().chain([&control]).zip(&medians) {
        println!(
            "| {} | {ns:.2} | {:+.2} | {:.3} | {} |",
            case.name,
            ns - baseline,
            ns / baseline,
            case.budget
        );
    }
}

fn time(case: &mut Case<'_>, iterations: u64) -> f64 {
    let start = Instant::now();
    (case.run)(black_box(iterations));
    start.elapsed().as_nanos() as f64 / iterations as f64
}

fn calibrate(case: &mut Case<'_>) -> u64 {
    let mut iterations = case.least;
    loop {
        let nanoseconds = time(case, iterations) * iterations as f64;
        if nanoseconds > NANOSECONDS_A_ROUND / 8.0 {
            return ((iterations as f64) * NANOSECONDS_A_ROUND / nanoseconds).max(1.0) as u64;
        }
        iterations *= 2;
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
