//! The CPU profile against the clocks: nothing is lost, and each function gets its share.

use std::hint::black_box;

use profiler_core::{Capture, Config, Kind, Profile, thread, with_labels};
use profiler_tests::clock::thread_cpu;

const MILLISECOND: u64 = 1_000_000;

/// Uses so much CPU time of its thread, in nanoseconds.
fn use_up(nanoseconds: u64) {
    let end = thread_cpu() + nanoseconds;
    let mut number = 1_u64;
    while thread_cpu() < end {
        for _ in 0..10_000 {
            number = black_box(number.wrapping_mul(31));
        }
    }
}

#[inline(never)]
fn large() {
    use_up(black_box(5000 * MILLISECOND));
}

#[inline(never)]
fn middle() {
    use_up(black_box(1280 * MILLISECOND));
}

#[inline(never)]
fn small() {
    use_up(black_box(430 * MILLISECOND));
}

/// Nanoseconds of samples that have the function in their stack.
fn cumulative(profile: &Profile, function: &str) -> i64 {
    let has = |sample: &profiler_core::Sample<'_>| {
        sample.frames().any(|frame| frame.function.is_some_and(|name| name.ends_with(function)))
    };
    profile.samples().filter(has).map(|sample| sample.values()[1]).sum()
}

#[test]
fn three_threads_get_their_shares_and_nothing_is_lost() {
    profiler_core::start(Config::default()).expect("the first start");
    let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
    let other = Capture::start_with(Kind::Profile, 100).expect("two do not collide");
    let threads = [large, middle, small].map(thread::spawn);
    let labelled =
        thread::spawn(|| with_labels([("part", "labelled")], || use_up(300 * MILLISECOND)));
    for thread in threads.into_iter().chain([labelled]) {
        thread.join().expect("no panic");
    }
    let (profile, coarse) = (capture.finish(), other.finish());
    for profile in [&profile, &coarse] {
        for (function, truth) in [("cpu::large", 5000), ("cpu::middle", 1280), ("cpu::small", 430)]
        {
            let sampled = cumulative(profile, function) as f64 / MILLISECOND as f64;
            let truth = f64::from(truth);
            // A timer's first expiry is uniform within its period of 1 ms, so the count is off by one
            // at most.
            assert!(
                (sampled - truth).abs() <= 3.0 + 0.03 * truth,
                "{function}: {sampled} of {truth} ms"
            );
        }
    }
    let labelled: i64 = profile
        .samples()
        .filter(|sample| sample.label("part") == Some("labelled"))
        .map(|sample| sample.values()[1])
        .sum();
    assert!((200..400).contains(&(labelled / 1_000_000)), "{labelled}");
    let comment = &profile.comments()[0];
    assert!(comment.contains("0 samples lost; 0 threads without a timer"), "{comment}");
}
