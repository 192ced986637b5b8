//! Work by the clock of its thread, and what a CPU profile says of it.

#![allow(unsafe_code, reason = "clocks are read by a system call")]

use std::hint::black_box;
use std::mem::MaybeUninit;

use profiler_core::{Capture, Kind, Profile, Sample, Symbols, View};

use crate::clock::thread_cpu;

/// In nanoseconds.
pub const MILLISECOND: u64 = 1_000_000;

/// Calls `body` until the thread has used so much more CPU time, in nanoseconds.
pub fn for_cpu_time(nanoseconds: u64, mut body: impl FnMut()) {
    let end = thread_cpu() + nanoseconds;
    while thread_cpu() < end {
        body();
    }
}

/// Uses so much CPU time of its thread, in nanoseconds, without calling anything but the clock.
pub fn use_up(nanoseconds: u64) {
    let mut number = 1_u64;
    for_cpu_time(nanoseconds, || {
        for _ in 0..10_000 {
            number = black_box(number.wrapping_mul(31));
        }
    });
}

/// Returns the CPU time of the process in nanoseconds, by `getrusage`: of the program and of the
/// kernel on its behalf.
///
/// # Panics
///
/// The kernel does not say.
#[must_use]
pub fn process_cpu() -> u64 {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the result is a live exclusive value.
    let asked = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    assert_eq!(asked, 0, "the usage of the process");
    // SAFETY: written above.
    let usage = unsafe { usage.assume_init() };
    let nanoseconds = |time: libc::timeval| {
        time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_usec.cast_unsigned() * 1000
    };
    nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime)
}

/// Starts a capture at the highest rate.
///
/// # Panics
///
/// The profiler is not started.
#[track_caller]
pub fn fastest() -> Capture {
    Capture::start_with(Kind::Profile, Capture::MAX_RATE).expect("Linux has timers")
}

/// Ends a capture without names, whose look-up takes seconds without optimisation.
#[must_use]
pub fn finish_unnamed(capture: Capture) -> Profile {
    capture.finish_with(View::default().symbols(Symbols::None))
}

/// Returns whether a function whose name ends so is in the stack of a sample.
#[must_use]
pub fn has(sample: &Sample<'_>, function: &str) -> bool {
    sample.frames().any(|frame| frame.function.is_some_and(|name| name.ends_with(function)))
}

/// Returns the nanoseconds of the samples that are `wanted`.
#[must_use]
pub fn sum(profile: &Profile, wanted: impl Fn(&Sample<'_>) -> bool) -> i64 {
    profile.samples().filter(wanted).map(|sample| sample.values()[1]).sum()
}

/// Returns the nanoseconds of samples that have the function in their stack.
#[must_use]
pub fn cumulative(profile: &Profile, function: &str) -> i64 {
    sum(profile, |sample| has(sample, function))
}

/// Asserts that no sample was lost and that all threads had a timer.
///
/// # Panics
///
/// It is not so.
#[track_caller]
pub fn is_whole(profile: &Profile) {
    let comment = &profile.comments()[0];
    assert!(comment.contains("; 0 samples lost; 0 threads without"), "{comment}");
}

/// Returns the seconds of a long run, out of the variable `PROFILER_SOAK_SECONDS`, if it is set.
///
/// # Panics
///
/// It is no number.
#[must_use]
pub fn soak_seconds() -> Option<f64> {
    let text = std::env::var("PROFILER_SOAK_SECONDS").ok()?;
    Some(text.parse().expect("PROFILER_SOAK_SECONDS is a number of seconds"))
}
