//! Threads are counted by who created them, where that is known.

#![cfg(profiler_native)]

use profiler_core::{Config, Kind, profiled, snapshot, span, thread};

#[profiled]
#[inline(never)]
fn opens_a_pool() {
    for number in 0..3 {
        let name = format!("pool {number}");
        let pooled = thread::Builder::new().name(name).spawn(|| ()).expect("a thread");
        pooled.join().expect("no panic");
    }
}

#[inline(never)]
fn starts_one() {
    thread::scope(|scope| {
        thread::Builder::new().spawn_scoped(scope, || ()).expect("a thread");
    });
    thread::spawn(|| ()).join().expect("no panic");
}

fn created_in(function: &str) -> i64 {
    let profile = snapshot(Kind::Threadcreate).expect("available");
    let of_function = profile.samples().filter(|sample| {
        let leaf = sample.frames().find(|frame| {
            let name = frame.function.unwrap_or_default();
            name.starts_with("threads::") || name.starts_with('[')
        });
        leaf.and_then(|frame| frame.function).is_some_and(|name| name.contains(function))
    });
    of_function.map(|sample| sample.values()[0]).sum()
}

#[test]
fn a_thread_counts_where_it_was_created() {
    profiler_core::start(Config::default()).expect("the first start");
    opens_a_pool();
    starts_one();
    // A thread of std's, which joins at its first span, from nobody knows where.
    std::thread::spawn(|| drop(span!("work"))).join().expect("no panic");
    assert_eq!(created_in("opens_a_pool"), 3);
    assert_eq!(created_in("starts_one"), 2);
    // It, this one and the harness's. The profiler's own does not count.
    assert_eq!(created_in("[unknown]"), 3);
    assert_eq!(profiler_core::count(Kind::Threadcreate), 8);
}
