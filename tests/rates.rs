//! What the rates do: sampling is without bias, and what is switched off stays as it was.

use std::hint;
use std::sync::{Mutex as Turn, MutexGuard as TurnGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use profiler_core::parking_lot::Mutex;
use profiler_core::{Config, Kind, Rates, set_rates, snapshot, sync, wait};
use profiler_tests::parked::start_parked;

/// One test at a time: they share the process's rates.
fn turn() -> TurnGuard<'static, ()> {
    static TURN: Turn<()> = Turn::new(());
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits of one name, as the test itself measured them: the profiler reads its clock before the
/// body of a wait and after it, so its length lies between the two.
#[derive(Debug, Default)]
struct Measured {
    count: f64,
    inside: f64,
    outside: f64,
    /// Upper bounds of the variances of what is recorded.
    count_variance: f64,
    sum_variance: f64,
}

impl Measured {
    fn wait(&mut self, name: &'static str, length: Duration, rate: u64) {
        let start = Instant::now();
        let inside = wait(name, || {
            let start = Instant::now();
            while start.elapsed() < length {
                hint::spin_loop();
            }
            start.elapsed()
        });
        let (outside, inside) = (start.elapsed().as_nanos() as f64, inside.as_nanos() as f64);
        self.count += 1.0;
        self.inside += inside;
        self.outside += outside;
        let rate = rate as f64;
        if inside < rate {
            // With probability v/rate it counts as rate/v events (rounded at random, which adds a
            // quarter at most) of `rate` nanoseconds together.
            self.count_variance += rate / inside.max(1.0) - 1.0 + 0.25;
            let likeliest = (rate / 2.0).clamp(inside, outside);
            self.sum_variance += likeliest * (rate - likeliest).max(0.0);
        }
    }

    /// Six standard deviations: not met by chance in a lifetime.
    fn allowed(&self) -> (f64, f64) {
        (6.0 * self.count_variance.sqrt(), 6.0 * self.sum_variance.sqrt())
    }

    /// Whether what is allowed is within 5 %.
    fn is_enough(&self) -> bool {
        let (count, sum) = self.allowed();
        count <= 0.05 * self.count && sum <= 0.05 * self.inside
    }

    #[track_caller]
    fn check(&self, name: &str, rate: u64) {
        let (mut count, mut sum) = (0.0, 0.0);
        for sample in snapshot(Kind::Block).expect("available").samples() {
            if sample.label("kind") == Some(name) {
                count += sample.values()[0] as f64;
                sum += sample.values()[1] as f64;
            }
        }
        let said = format!("rate {rate}, {name}: {count} waits of {sum} ns, measured {self:?}");
        let (of_count, of_sum) = self.allowed();
        assert!((count - self.count).abs() <= of_count, "{said}");
        // The two clocks may differ by a little.
        let (least, most) = (0.995 * self.inside - of_sum, 1.005 * self.outside + of_sum);
        assert!((least..=most).contains(&sum), "{said}");
    }
}

#[test]
fn many_short_waits_and_few_long_ones_are_recorded_without_bias() {
    let _turn = turn();
    for (rate, short, long) in [
        (1, "short, all", "long, all"),
        (2_000, "short, 2 µs", "long, 2 µs"),
        (10_000, "short, 10 µs", "long, 10 µs"),
        (100_000, "short, 100 µs", "long, 100 µs"),
    ] {
        set_rates(Rates::DEFAULT.block_ns(rate));
        let mut many = Measured::default();
        while many.count < 1_000.0 || !many.is_enough() {
            many.wait(short, Duration::from_nanos(rate / 4), rate);
        }
        let mut few = Measured::default();
        while few.count < 100.0 {
            few.wait(long, Duration::from_nanos(rate * 2), rate);
        }
        assert!(few.count_variance == 0.0, "all of them are recorded");
        many.check(short, rate);
        few.check(long, rate);
    }
}

/// What a profile has of a lock: stacks as text, with their values.
fn rows(kind: Kind, lock: &str) -> Vec<(String, Vec<i64>)> {
    let profile = snapshot(kind).expect("available");
    let samples = profile.samples().filter(|sample| sample.label("lock") == Some(lock));
    let stack = |sample: &profiler_core::Sample<'_>| {
        let addresses = sample.frames().map(|frame| format!("{:x}", frame.address));
        addresses.collect::<Vec<_>>().join(" ")
    };
    let mut rows: Vec<_> =
        samples.map(|sample| (stack(&sample), sample.values().to_vec())).collect();
    rows.sort();
    rows
}

fn totals(kind: Kind, lock: &str) -> [i64; 2] {
    rows(kind, lock)
        .iter()
        .fold([0; 2], |sum, (_, values)| [sum[0] + values[0], sum[1] + values[1]])
}

/// Lets one thread wait for a lock for a while.
fn contend<Guard>(lock: &(impl Fn() -> Guard + Sync), hold: Duration) {
    thread::scope(|scope| {
        let guard = lock();
        start_parked(scope, || drop(lock()));
        thread::sleep(hold);
        drop(guard);
    });
}

const LONG: Duration = Duration::from_millis(200);
const SHORT: Duration = Duration::from_millis(1);

/// Asserts that a profile stays as it is at these rates while the other one grows, and that it goes
/// on with what comes after, without what it has not seen.
#[track_caller]
fn check_off<Guard>(off: Rates, kind: Kind, name: &str, lock: impl Fn() -> Guard + Sync) {
    let other = if kind == Kind::Mutex { Kind::Block } else { Kind::Mutex };
    set_rates(Rates::ALL);
    contend(&lock, SHORT);
    let (before, of_other) = (rows(kind, name), totals(other, name));
    assert!(!before.is_empty());

    set_rates(off);
    contend(&lock, LONG);
    assert_eq!(rows(kind, name), before, "{off:?}");
    let grown = totals(other, name)[1] - of_other[1];
    assert!(grown >= LONG.as_nanos() as i64 * 99 / 100, "{off:?}: {grown} ns of contention");

    set_rates(Rates::ALL);
    let before = totals(kind, name);
    let start = Instant::now();
    contend(&lock, SHORT);
    let all = start.elapsed().as_nanos() as i64;
    let after = totals(kind, name);
    assert!(after[0] > before[0], "{off:?}");
    let grown = after[1] - before[1];
    assert!((1..=all + all / 100).contains(&grown), "{off:?}: {grown} ns recorded in {all} ns");
}

#[track_caller]
fn check_all_off<Guard>(name: &str, lock: impl Fn() -> Guard + Sync) {
    let _turn = turn();
    check_off(Rates::ALL.mutex_fraction(0), Kind::Mutex, name, &lock);
    check_off(Rates::ALL.mutex_ns(0), Kind::Mutex, name, &lock);
    check_off(Rates::ALL.block_ns(0), Kind::Block, name, &lock);
}

#[test]
fn a_rate_of_zero_keeps_what_was_recorded_on_parking_lot() {
    static MUTEX: Mutex<()> = Mutex::named("adjusted", ());
    check_all_off("adjusted", || MUTEX.lock());
}

#[test]
fn a_rate_of_zero_keeps_what_was_recorded_on_std() {
    static MUTEX: sync::Mutex<()> = sync::Mutex::named("std adjusted", ());
    check_all_off("std adjusted", || MUTEX.lock().expect("no panic"));
}
