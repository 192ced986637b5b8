//! Go's `TestTracebackAll`: signals while others walk the stack, by std and by libgcc.

use std::backtrace::Backtrace;
use std::hint::black_box;

use profiler_tests::cpu::{MILLISECOND, cumulative, for_cpu_time, is_whole};
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
    is_whole(&profile);
    assert!(cumulative(&profile, "taker_of_backtraces") > 0);
}
