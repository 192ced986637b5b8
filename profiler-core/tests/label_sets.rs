//! Label sets end with the threads that used them, and those that are in use keep their values.

#![cfg(profiler_native)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use profiler_core::{Config, Kind, Profile, Rates, snapshot, wait, with_labels};

/// Together they use more sets than there is room for.
const THREADS: usize = 100;
/// Of the half of a MiB that sets may take, in bytes; without those that threads have forgotten.
const OF_SETS: usize = 350 << 10;
/// As many as a thread remembers.
const SETS: usize = 32;

fn block() -> Profile {
    snapshot(Kind::Block).expect("available")
}

/// Returns how many waits have that value of the label.
fn waits(value: &str) -> i64 {
    let profile = block();
    let samples = profile
        .samples()
        .filter(|sample| sample.labels().any(|label| format!("{label:?}").contains(value)));
    samples.map(|sample| sample.values()[0]).sum()
}

/// Uses so many sets on so many threads, all of which live at once, and then does something there.
fn use_sets(round: usize, threads: usize, last: impl Fn() + Sync) {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, last) = (&barrier, &last);
            scope.spawn(move || {
                for set in 0..SETS {
                    with_labels([("set", format!("{round:>200} {thread} {set}"))], || ());
                }
                barrier.wait();
                last();
            });
        }
    });
}

static ASKED: AtomicU32 = AtomicU32::new(0);

struct Nested;

impl AsRef<str> for Nested {
    fn as_ref(&self) -> &str {
        // Another set each time.
        let value = format!("of another {}", ASKED.fetch_add(1, Ordering::Relaxed));
        with_labels([("inside", value)], || wait("inside", || ()));
        "nested"
    }
}

struct Panics;

impl AsRef<str> for Panics {
    fn as_ref(&self) -> &str {
        panic!("as this test wants it")
    }
}

#[test]
fn sets_end_with_threads_and_stay_with_what_goes_on() {
    let config = Config::default().rates(Rates::ALL).memory(4 << 20);
    profiler_core::start(config).expect("the first start");

    // What the user's texts do is not done under a lock, and may fail.
    with_labels([("text", Nested)], || wait("text", || ()));
    assert_eq!((waits("nested") > 0, waits("of another") > 0), (true, true));
    catch_unwind(AssertUnwindSafe(|| with_labels([("text", Panics)], || ()))).unwrap_err();
    with_labels([("text", "after")], || wait("text", || ()));
    assert_eq!(waits("after"), 1);

    // Threads that are gone have no sets, once others want room.
    use_sets(0, THREADS, || ());
    let before = profiler_core::stats().bytes;
    let begin = Instant::now();
    while profiler_core::stats().bytes + OF_SETS > before {
        for number in 0..4_000 {
            with_labels([("other", format!("{number:>200}"))], || ());
        }
        // Those are used no more either.
        thread::sleep(Duration::from_millis(200));
        assert!(begin.elapsed() < Duration::from_secs(60), "sets of threads that are gone stay");
    }

    // Threads that live have more than there is room for: what goes on meanwhile keeps its values, as long as it does
    // something once in a while.
    let steady = || with_labels([("steady", "one of these")], || wait("steady", || ()));
    steady();
    use_sets(1, 2 * THREADS, || {
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let Ok(_one) = ONE.try_lock() else { return };
        let begin = Instant::now();
        let (mut made, mut steps) = (1, 0);
        while begin.elapsed() < Duration::from_secs(3) {
            with_labels([("more", format!("{steps:>200}"))], || wait("more", || ()));
            if steps % 50 == 0 {
                steady();
                // On a thread that is gone at once.
                thread::spawn(steady).join().expect("no panic");
                made += 2;
            }
            steps += 1;
            thread::sleep(Duration::from_millis(2));
        }
        assert!(waits("[other]") > 0, "there was room for all");
        assert_eq!(waits("one of these"), made);
    });
}
