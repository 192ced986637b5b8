//! Measures in pairs: cases interleaved in one process, medians over rounds, ratios side by side.
//!
//! The machine is shared and noisy, so no absolute figure is a fact. Each table has an A/A control:
//! the baseline measured a second time as if it were another case. Differences inside its spread
//! mean nothing.

pub mod addresses;
pub mod instructions;
pub mod process;
pub mod signals;

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
    /// Returns the nanoseconds it took.
    run: Box<dyn FnMut(u64) -> f64 + 'a>,
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
    pub fn new(name: &str, mut run: impl FnMut(u64) + 'a) -> Self {
        Self::timed(name, move |iterations| {
            let start = Instant::now();
            run(iterations);
            start.elapsed().as_nanos() as f64
        })
    }

    /// Describes a case that returns itself how many nanoseconds its iterations took.
    pub fn timed(name: &str, run: impl FnMut(u64) -> f64 + 'a) -> Self {
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
    let figures = measure(ROUNDS, NANOSECONDS_A_ROUND, cases);
    let medians: Vec<f64> = figures.into_iter().map(median).collect();
    let baseline = medians[0];
    let rows = medians.iter().map(|ns| [*ns, ns - baseline, ns / baseline]);
    print(title, cases, rows);
}

/// As [`compare`], for differences of less than a nanosecond: more and shorter rounds, and medians
/// of what each round says of difference and ratio. Others' load comes and goes, but seldom
/// within a round. Returns the median of each case.
pub fn compare_by_rounds(title: &str, cases: &mut [Case<'_>]) -> Vec<f64> {
    let figures = measure(8 * ROUNDS, NANOSECONDS_A_ROUND / 8.0, cases);
    let over = |case: &[f64], figure: fn(f64, f64) -> f64| {
        median(case.iter().zip(&figures[0]).map(|(ns, baseline)| figure(*ns, *baseline)).collect())
    };
    let rows: Vec<_> = figures
        .iter()
        .map(|case| [median(case.clone()), over(case, |a, b| a - b), over(case, |a, b| a / b)])
        .collect();
    print(title, cases, rows.iter().copied());
    rows.iter().map(|[median, ..]| *median).collect()
}

/// Returns the figures of all rounds for each case, and for the baseline once more.
fn measure(rounds: usize, nanoseconds: f64, cases: &mut [Case<'_>]) -> Vec<Vec<f64>> {
    let iterations: Vec<u64> = cases.iter_mut().map(|case| calibrate(case, nanoseconds)).collect();
    let mut figures = vec![Vec::with_capacity(rounds); cases.len() + 1];
    for _ in 0..rounds {
        for (index, case) in cases.iter_mut().enumerate() {
            figures[index].push(time(case, iterations[index]));
        }
        // The control: the baseline once more.
        figures[cases.len()].push(time(&mut cases[0], iterations[0]));
    }
    figures
}

fn print(title: &str, cases: &[Case<'_>], rows: impl Iterator<Item = [f64; 3]>) {
    println!("\n## {title}\n");
    println!("| case | ns | difference | ratio | budget |");
    println!("|---|---:|---:|---:|---|");
    let control = Case::new("A/A control (baseline again)", |_| ());
    for (case, [ns, difference, ratio]) in cases.iter().chain([&control]).zip(rows) {
        println!("| {} | {ns:.2} | {difference:+.2} | {ratio:.3} | {} |", case.name, case.budget);
    }
}

fn time(case: &mut Case<'_>, iterations: u64) -> f64 {
    (case.run)(black_box(iterations)) / iterations as f64
}

fn calibrate(case: &mut Case<'_>, round: f64) -> u64 {
    let mut iterations = case.least;
    loop {
        let nanoseconds = time(case, iterations) * iterations as f64;
        if nanoseconds > round / 8.0 {
            return ((iterations as f64) * round / nanoseconds).max(1.0) as u64;
        }
        iterations *= 2;
    }
}

/// Returns the figure in the middle.
///
/// # Panics
///
/// If there is none.
#[must_use]
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
