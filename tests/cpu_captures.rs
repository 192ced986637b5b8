//! Captures that overlap: each gets its own interval, and ends when nobody wants it any more.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use profiler_core::{Capture, Config, Kind, Profile};
use profiler_tests::clock::tick;
use profiler_tests::cpu::{MILLISECOND, cumulative, is_whole, use_up};
use profiler_tests::keep;

/// One test at a time: they look at all timers of the process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: LazyLock<()> =
        LazyLock::new(|| profiler_core::start(Config::default()).expect("the first start"));
    LazyLock::force(&START);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(rate: u32) -> Capture {
    Capture::start_with(Kind::Profile, rate).expect("Linux has timers")
}

macro_rules! parts {
    ($($part:ident)*) => {
        $(#[inline(never)]
        fn $part() {
            use_up(PART);
            keep!();
        })*
    };
}

/// CPU time of each part of the story, in nanoseconds.
const PART: u64 = 400 * MILLISECOND;

parts! { before_all with_one with_two with_three without_the_first after_all }

const PARTS: [&str; 6] =
    ["before_all", "with_one", "with_two", "with_three", "without_the_first", "after_all"];

/// Asserts that these parts and no others are in the profile, each with its time, and that the number
/// of samples is by the capture's own rate.
#[track_caller]
fn check(profile: &Profile, rate: i64, parts: &[&str]) {
    is_whole(profile);
    // When a capture comes or goes the timers begin anew, which is off by a period at each end.
    let tolerance = (4_000_000_000 / rate.max(100) + 5 * tick().cast_signed()) as f64;
    for part in PARTS {
        let sampled = cumulative(profile, part) as f64;
        let truth = if parts.contains(&part) { PART as f64 } else { 0.0 };
        assert!((sampled - truth).abs() <= tolerance, "{rate} Hz, {part}: {sampled} of {truth}");
    }
    let [samples, nanoseconds] = profile.totals()[..] else { panic!("two columns") };
    let expected = nanoseconds * rate / 1_000_000_000;
    // Each row is rounded by itself.
    let rounding = profile.len() as i64;
    assert!((samples - expected).abs() <= rounding, "{rate} Hz: {samples} of {expected}");
}

/// Two scrapers and a human.
#[test]
fn captures_that_overlap_have_what_happened_in_their_time() {
    let _turn = turn();
    thread::spawn(|| {
        before_all();
        let scraper = start(100);
        with_one();
        let human = start(1000);
        with_two();
        let other = start(500);
        with_three();
        let scraped = scraper.finish();
        without_the_first();
        let (seen, other) = (human.finish(), other.finish());
        after_all();
        check(&scraped, 100, &["with_one", "with_two", "with_three"]);
        check(&seen, 1000, &["with_two", "with_three", "without_the_first"]);
        check(&other, 500, &["with_three", "without_the_first"]);
    })
    .join()
    .expect("no panic");
}

/// Returns how many timers the process has, by the kernel's own list.
fn timers() -> usize {
    let list = fs::read_to_string("/proc/self/timers").expect("the kernel lists timers");
    list.lines().filter(|line| line.starts_with("ID:")).count()
}

#[test]
fn a_capture_that_is_dropped_ends() {
    let _turn = turn();
    assert_eq!(timers(), 0);
    let (first, second) = (start(100), start(1000));
    assert_ne!(timers(), 0);
    drop(first);
    assert_ne!(timers(), 0, "the other one goes on");
    drop(second);
    assert_eq!(timers(), 0);
}

#[test]
fn a_client_that_goes_away_ends_its_capture() {
    let _turn = turn();
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    let address = endpoint.local_addr().expect("the endpoint is not switched off");
    assert_eq!(timers(), 0);
    let mut client = TcpStream::connect(address).expect("the server listens");
    let request =
        format!("GET /debug/pprof/profile?seconds=3600 HTTP/1.1\r\nHost: {address}\r\n\r\n");
    client.write_all(request.as_bytes()).expect("the server reads");
    while timers() == 0 {
        thread::yield_now();
    }
    drop(client);
    // An hour before its time.
    while timers() != 0 {
        thread::yield_now();
    }
    endpoint.shutdown();
}

#[test]
fn what_other_captures_have_seen_is_not_in_the_next() {
    let _turn = turn();
    let first = start(1000);
    after_all();
    let first = first.finish();
    assert!(cumulative(&first, "after_all") > 0);
    after_all();
    let second = start(1000);
    before_all();
    let second = second.finish();
    assert_eq!(cumulative(&second, "after_all"), 0);
    assert!(cumulative(&second, "before_all") > 0);
}
