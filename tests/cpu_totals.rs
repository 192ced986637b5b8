//! The sum of a CPU profile against `getrusage`: Go's `TestCPUProfileMultithreadMagnitude`, and threads
//! that live for a few milliseconds.
//!
//! `PROFILER_SOAK_SECONDS=10` has every thread use so many seconds of CPU time, as long as the
//! promise of 99 % is meant for; the default is [`SECONDS`] for all together, but [`LEAST`] for each.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use profiler_core::{Capture, Config, Kind, Profile, thread};
use profiler_tests::clock::tick;
use profiler_tests::cpu::{finish_unnamed, process_cpu, soak_seconds, sum, use_up};

/// CPU time of a run by default, and the least of a thread.
const SECONDS: f64 = 2.0;
const LEAST: f64 = 0.1;

/// What `getrusage` says of a capture: it begins and ends between two readings each.
#[derive(Debug)]
struct Used {
    /// From after the start to before the end.
    inside: u64,
    /// From before the start to after the end.
    outside: u64,
}

/// One capture at a time: each is of the whole process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn capture(rate: u32, body: impl FnOnce()) -> (Profile, Used) {
    let before_start = process_cpu();
    let capture = Capture::start_with(Kind::Profile, rate).expect("Linux has timers");
    let after_start = process_cpu();
    body();
    let before_end = process_cpu();
    let profile = finish_unnamed(capture);
    let after_end = process_cpu();
    let used = Used { inside: before_end - after_start, outside: after_end - before_start };
    println!("{rate} Hz: {used:?}, {}", profile.comments()[0]);
    (profile, used)
}

fn is_marker(sample: &profiler_core::Sample<'_>, marker: &str) -> bool {
    sample.frames().any(|frame| frame.function == Some(marker))
}

/// So many threads use their time, and the samples add up to it.
///
/// A thread's first expiry is uniform within its period and what is left of the last one is not
/// sampled, which is off by a period at most, in either direction, and by nothing in the mean. What
/// has expired since the kernel's last tick is lost when the thread ends, and stands under
/// `[unsampled]`. Where threads take turns quickly that is two ticks in the mean; five are allowed.
#[track_caller]
fn check(rate: u32, threads: u64) {
    let _turn = turn();
    let seconds = soak_seconds().unwrap_or((SECONDS / threads as f64).max(LEAST));
    let (profile, used) = capture(rate, || {
        let all = (0..threads).map(|_| thread::spawn(move || use_up((seconds * 1e9) as u64)));
        all.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("no panic"));
    });
    let sampled = sum(&profile, |sample| !is_marker(sample, "[unsampled]")) as f64;
    let period = 1e9 / f64::from(rate);
    let lost = period + 5.0 * tick() as f64;
    // The test's own thread and the profiler's have timers too.
    let ends = threads as f64 + 2.0;
    let least = 0.99 * used.inside as f64 - ends * lost;
    let most = 1.01 * used.outside as f64 + ends * period;
    assert!((least..=most).contains(&sampled), "{rate} Hz, {threads}: {sampled} of {used:?}");
    let comment = &profile.comments()[0];
    assert!(comment.contains("; 0 samples lost; 0 threads without"), "{comment}");
    // The two that live on.
    check_all(&profile, &used, 2.0 * lost);
}

/// With what stands under `[unsampled]` it is all there.
#[track_caller]
fn check_all(profile: &Profile, used: &Used, tolerance: f64) {
    let total = profile.totals()[1] as f64;
    let range = 0.99 * used.inside as f64 - tolerance..=1.01 * used.outside as f64 + tolerance;
    assert!(range.contains(&total), "{total} is not in {range:?}: {}", profile.comments()[0]);
}

#[test]
fn one_thread_at_100_hz() {
    check(100, 1);
}

#[test]
fn one_thread_at_1000_hz() {
    check(1000, 1);
}

#[test]
fn two_threads_at_100_hz() {
    check(100, 2);
}

#[test]
fn two_threads_at_1000_hz() {
    check(1000, 2);
}

#[test]
fn threads_by_the_dozen_at_100_hz() {
    check(100, 64);
}

#[test]
fn threads_by_the_dozen_at_1000_hz() {
    check(1000, 64);
}

/// They are found by looking, and most are gone before.
#[test]
fn thousands_of_threads_that_live_for_milliseconds() {
    const THREADS: u64 = 3000;
    /// Nanoseconds of CPU time, at the most.
    const LONGEST: u64 = 5_000_000;
    let _turn = turn();
    let (profile, used) = capture(1000, || {
        std::thread::scope(|scope| {
            for starter in 0..2 {
                scope.spawn(move || {
                    for number in (starter..THREADS).step_by(2) {
                        let length = number * 7919 % 1000 * LONGEST / 1000;
                        let thread = std::thread::spawn(move || use_up(length));
                        thread.join().expect("no panic");
                    }
                });
            }
        });
    });
    let unsampled = sum(&profile, |sample| is_marker(sample, "[unsampled]"));
    assert!(unsampled > 0, "{}", profile.comments()[0]);
    check_all(&profile, &used, 4.0 * tick() as f64);
}
