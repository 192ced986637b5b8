//! Go's `TestTracebackAll`: signals while others walk the stack, by std and by libgcc.

use std::backtrace::Backtrace;
use std::hint::black_box;

use profiler_tests::cpu::{MILLISECOND, cumulative, for_cpu_time};
use profiler_tests::keep;

use super::capture;

#[inline(never)]
fn taker_of_backtraces() {
    for_cpu_time(300 * MILLISECOND, || {
        drop(black_box(Backtrace::force_capture()));
    });
    keep!();
}

#[test]
fn backtraces_are_taken_under_fire() {
    let profile = capture(taker_of_backtraces);
    // The fire strikes threads too that have only just begun, before the profiler has seen them; each such
    // signal counts as one nanosecond. One of a timer would be a hundred thousand.
    let lost = cumulative(&profile, "[lost]");
    assert!(lost < 100_000, "{lost} ns: {:?}", profile.comments());
    assert!(cumulative(&profile, "taker_of_backtraces") > 0);
}
