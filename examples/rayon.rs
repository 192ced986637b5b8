//! A parallel loop of rayon, and where its time went, on the terminal.
//!
//! ```sh
//! cargo run --release --bin rayon
//! ```

use std::error::Error;

use profiler_core::{Capture, Config, Kind, profiled};
use rayon::prelude::*;

/// Returns the number of steps to 1 (the conjecture of Collatz).
#[profiled]
fn steps(mut number: u64) -> u32 {
    let mut steps = 0;
    while number != 1 {
        number = if number.is_multiple_of(2) { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    steps
}

fn main() -> Result<(), Box<dyn Error>> {
    profiler_core::start(Config::from_env()?)?;
    // `Kind::Wall` shows the same and who waits; idle workers of the pool are left out.
    let capture = Capture::start(Kind::Profile)?;
    let longest = (1..5_000_000_u64).into_par_iter().map(steps).max();
    println!("the longest way has {} steps", longest.unwrap_or_default());
    capture.finish().write_text(std::io::stdout().lock())?;
    Ok(())
}
