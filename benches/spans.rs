//! What `#[profiled]` costs on a function of about a nanosecond.

use std::hint::black_box;

use profiler_benches::{Case, compare, instructions};
use profiler_core::{Config, profiled};

#[inline(never)]
fn plain(x: u64) -> u64 {
    black_box(x).wrapping_mul(3)
}

#[profiled]
#[inline(never)]
fn annotated(x: u64) -> u64 {
    black_box(x).wrapping_mul(3)
}

fn cases(state: &str, budget: &str) {
    let each = |f: fn(u64) -> u64| {
        move |n| {
            (0..n).for_each(|i| {
                black_box(f(i));
            })
        }
    };
    compare(
        &format!("`#[profiled]` on a function of 1 ns, {state}"),
        &mut [
            Case::new("plain", each(plain)),
            Case::new("`#[profiled]`", each(annotated)).budget(budget),
        ],
    );
    let count = |f: fn(u64) -> u64| {
        instructions::count(|| {
            black_box(f(black_box(1)));
        })
    };
    match (count(plain), count(annotated)) {
        (Ok(plain), Ok(annotated)) => {
            println!("\nInstructions a call: plain {plain}, `#[profiled]` {annotated}.");
        }
        (Err(error), _) | (_, Err(error)) => println!("\nInstructions: {error}"),
    }
}

fn main() {
    cases("before the start", "one load, two branches");
    profiler_core::start(Config::default()).expect("the first start");
    cases("recording", "+3 ns");
}
