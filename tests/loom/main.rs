//! Runs the lock-free protocols of profiler-core through the interleavings of their atomics, and
//! through what a weakly ordered processor may let each load see.
//!
//! The files are the product's own; only `buffer::primitive` is another: loom's atomics for std's.
//! `cargo run --release -p profiler-loom` runs all models, with a word only those that contain it.

mod buffer;
mod counters;
#[path = "../../profiler-core/src/capture/ledger.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
mod ledger;
mod live_set;
mod models;
mod order;
mod questions;
mod wide;

use std::panic::catch_unwind;
use std::process::ExitCode;

use order::Order;

/// The models know one process.
mod sys {
    pub(crate) const fn process_number() -> u32 {
        0
    }
}

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    let all = models::ALL.iter().chain(live_set::ALL).chain(counters::ALL).chain(questions::ALL);
    for (name, model) in all {
        if name.contains(&wanted) {
            let result = catch_unwind(|| {
                for order in Order::ALL {
                    let mut builder = loom::model::Builder::new();
                    // More switches find nothing new in protocols of two and three threads, and
                    // take hours.
                    builder.preemption_bound = Some(3);
                    builder.check(move || model(order));
                }
            });
            let word = if result.is_ok() { "ok" } else { "FAILED" };
            println!("model {name} ... {word}");
            *if result.is_ok() { &mut passed } else { &mut failed } += 1;
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
