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

/// A function as people write it: the compiler may make it part of its caller.
macro_rules! body {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        fn $name(x: u64) -> u64 {
            black_box(x).wrapping_mul(3)
        }
    };
}

body!(
    #[inline]
    inlined
);
body!(
    #[profiled]
    #[inline]
    inlined_annotated
);
body!(
    #[profiled]
    out_of_line_annotated
);

/// What it costs that an annotated function stands in stacks by its name, as it does unless it has an `#[inline]` of its own.
fn out_of_line(state: &str) {
    macro_rules! each {
        ($f:ident) => {
            |n| {
                (0..n).for_each(|i| {
                    black_box($f(i));
                })
            }
        };
    }
    compare(
        &format!("`#[profiled]` on a function that would be inlined, {state}"),
        &mut [
            Case::new("plain", each!(inlined)),
            Case::new("`#[profiled] #[inline]`", each!(inlined_annotated)),
            Case::new("`#[profiled]`, out of line", each!(out_of_line_annotated)),
        ],
    );
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
    out_of_line("before the start");
    profiler_core::start(Config::default()).expect("the first start");
    cases("recording", "+3 ns");
    out_of_line("recording");
}
