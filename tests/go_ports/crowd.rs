//! A hundred threads wait for one.

use std::thread;
use std::time::{Duration, Instant};

use profiler_core::Kind;
use profiler_core::parking_lot::Mutex;
use profiler_core::sync;
use profiler_tests::keep;
use profiler_tests::parked::start_parked;

use super::{is, of_lock, read, read_text};

const WAITERS: i64 = 100;
const HOLD: Duration = Duration::from_millis(100);

/// Holds a lock until all wait, and then for a while. Generic, since both families have guards.
#[inline(never)]
fn let_all_wait<Guard>(lock: impl Fn() -> Guard + Sync) {
    thread::scope(|scope| {
        let guard = lock();
        for _ in 0..WAITERS {
            start_parked(scope, || drop(lock()));
        }
        thread::sleep(HOLD);
        release(guard);
    });
}

#[inline(never)]
fn release<Guard>(guard: Guard) {
    drop(guard);
    keep!();
}

#[track_caller]
fn check<Guard>(name: &str, lock: impl Fn() -> Guard + Sync) {
    super::start();
    let start = Instant::now();
    let_all_wait(lock);
    let all = start.elapsed();

    let profile = read(Kind::Mutex);
    let samples = of_lock(&profile, name);
    let least = HOLD.as_nanos() as f64 * WAITERS as f64 * 0.9;
    let most = all.as_nanos() as f64 * WAITERS as f64 * 1.1;
    let total: i64 = samples.iter().map(|sample| sample.values[1]).sum();
    assert!((least..=most).contains(&(total as f64)), "{total} is not within {least}..{most}");

    // All that they waited while it was held is one charge, to the function that unlocked.
    let unlocker = samples.iter().find(|sample| is(&sample.names[0], "crowd::release"));
    let unlocker = unlocker.unwrap_or_else(|| panic!("{samples:#?}"));
    assert_eq!(unlocker.values[0], 1);
    assert!(unlocker.values[1] as f64 >= least, "{unlocker:?}");

    // And the holders were charged what the waiters waited.
    let waits = read(Kind::Block);
    let waits = of_lock(&waits, name);
    assert_eq!(waits.iter().map(|sample| sample.values[0]).sum::<i64>(), WAITERS);
    assert_eq!(waits.iter().map(|sample| sample.values[1]).sum::<i64>(), total);

    let text = read_text(Kind::Mutex);
    let records: Vec<_> = text.with_leaf(&unlocker.names[0]).collect();
    let record = records.iter().find(|record| record.labels == unlocker.labels);
    let record = record.unwrap_or_else(|| panic!("{records:#?}"));
    assert_eq!(record.values, [unlocker.values[1], 1]);
    assert_eq!(record.names, unlocker.names);
}

#[test]
fn a_hundred_waiters_on_parking_lot_are_charged_to_the_unlocker() {
    static MUTEX: Mutex<()> = Mutex::named("crowd", ());
    check("crowd", || MUTEX.lock());
}

#[test]
fn a_hundred_waiters_on_std_are_charged_to_the_unlocker() {
    static MUTEX: sync::Mutex<()> = sync::Mutex::named("std crowd", ());
    check("std crowd", || MUTEX.lock().expect("no panic"));
}
