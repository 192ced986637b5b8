//! What happens at one place on many threads is one sample.

use std::thread;

use profiler_core::Kind;
use profiler_core::parking_lot::Mutex;
use profiler_core::sync;
use profiler_tests::keep;
use profiler_tests::parked::start_parked;

use super::{is, of_lock, read, read_text, the_sample};

const THREADS: i64 = 12;

#[inline(never)]
fn wait<Guard>(lock: &impl Fn() -> Guard) {
    drop(lock());
    keep!();
}

/// Takes the lock, lets another thread wait for it, and gives it back; on a thread of its own.
#[inline(never)]
fn hold<Guard>(lock: &(impl Fn() -> Guard + Sync)) {
    thread::scope(|scope| {
        let guard = lock();
        start_parked(scope, || wait(lock));
        drop(guard);
    });
    keep!();
}

#[track_caller]
fn check<Guard>(name: &str, lock: impl Fn() -> Guard + Sync) {
    super::start();
    for _ in 0..THREADS {
        thread::scope(|scope| scope.spawn(|| hold(&lock)).join().expect("no panic"));
    }
    for (kind, function) in [(Kind::Block, "aggregate::wait"), (Kind::Mutex, "aggregate::hold")] {
        // Reading it checks that no two samples have the same stack and labels.
        let profile = read(kind);
        let sample = the_sample(&profile, name);
        assert!(sample.names.iter().any(|frame| is(frame, function)), "{:#?}", sample.names);
        assert_eq!(sample.values[0], THREADS);

        let text = read_text(kind);
        let of_text = text.records.iter();
        let of_text = of_text.filter(|record| record.labels.get("lock") == Some(&name.to_owned()));
        assert_eq!(of_text.count(), of_lock(&profile, name).len(), "{kind}");
    }
}

#[test]
fn waits_at_one_place_on_many_threads_are_one_sample_on_parking_lot() {
    static MUTEX: Mutex<()> = Mutex::named("aggregate", ());
    check("aggregate", || MUTEX.lock());
}

#[test]
fn waits_at_one_place_on_many_threads_are_one_sample_on_std() {
    static MUTEX: sync::Mutex<()> = sync::Mutex::named("std aggregate", ());
    check("std aggregate", || MUTEX.lock().expect("no panic"));
}
