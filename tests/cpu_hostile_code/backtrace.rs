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
    // The fire strikes threads too that have only just begun, and they take what was set aside for others: so
    // samples of those may be lost, but not of this one, which is known from its start.
    let sampled = cumulative(&profile, "taker_of_backtraces") / MILLISECOND.cast_signed();
    assert!((200..=310).contains(&sampled), "{sampled} of 300 ms: {:?}", profile.comments());
}
