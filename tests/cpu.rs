//! The CPU profile against the clocks: nothing is lost, and each function gets its share.

#![allow(unsafe_code, reason = "a thread names itself by a system call")]

use std::hint::black_box;
use std::sync::Once;
use std::time::Duration;

use profiler_core::{Capture, Config, Kind, LabelView, default_view, thread, with_labels};
use profiler_tests::cpu::{MILLISECOND, cumulative, is_whole, sum, use_up};

fn start() {
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
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

#[test]
fn three_threads_get_their_shares_and_nothing_is_lost() {
    start();
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
        let unsampled = cumulative(profile, "[unsampled]") as f64 / MILLISECOND as f64;
        for (function, truth) in [("cpu::large", 5000), ("cpu::middle", 1280), ("cpu::small", 430)]
        {
            let sampled = cumulative(profile, function) as f64 / MILLISECOND as f64;
            let truth = f64::from(truth);
            // A timer's first expiry is uniform within its period of 1 ms, so the count is off by one
            // at most. What a thread used since the last tick of the kernel that struck it is missing
            // when it ends, several ticks on a busy machine: the profile says how much that is.
            let most = 3.0 + 0.03 * truth;
            let least = truth - most - unsampled;
            assert!(
                (least..=truth + most).contains(&sampled),
                "{function}: {sampled} of {truth} ms, and {unsampled} ms are missing in all"
            );
        }
    }
    let labelled = sum(&profile, |sample| sample.label("part") == Some("labelled"));
    assert!((200..400).contains(&(labelled / 1_000_000)), "{labelled}");
    is_whole(&profile);
}

#[test]
fn samples_say_on_which_thread_they_were_taken() {
    start();
    let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
    let builder = std::thread::Builder::new().name("grinder".to_owned());
    let grinder = builder.spawn(|| use_up(2000 * MILLISECOND)).expect("the system has threads");
    // Seen, and seen again, before it has its name.
    let late = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(700));
        // SAFETY: a text ended by zero, which the kernel copies.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"late".as_ptr()) };
        use_up(2000 * MILLISECOND);
    });
    for thread in [grinder, late] {
        thread.join().expect("no panic");
    }
    let labels = LabelView::NONE.with("thread").expect("there is such a label");
    let profile = capture.finish_with(default_view().labels(labels));
    for name in ["grinder", "late"] {
        let of_thread = sum(&profile, |sample| sample.label("thread") == Some(name));
        // The profiler knows the name when it has looked for threads twice, each time a hundred times as long
        // after the time before as looking takes: some tenths of a second without optimisation.
        assert!((200..=2010).contains(&(of_thread / 1_000_000)), "{name}: {of_thread}");
    }
}
