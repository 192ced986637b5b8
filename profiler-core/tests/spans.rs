//! Calls by path are exact, whatever the threads do.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use profiler_core::{Config, Kind, profiled, snapshot};

fn started() {
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
}

/// Calls by path, root first, of the paths that begin at `root`.
fn calls(root: &str) -> BTreeMap<String, i64> {
    let profile = snapshot(Kind::Spans).expect("available");
    let mut calls = BTreeMap::new();
    for sample in profile.samples() {
        let mut path: Vec<_> = sample.frames().filter_map(|frame| frame.function).collect();
        path.reverse();
        let path = path.iter().map(|name| name.rsplit("::").next().unwrap_or(name));
        let path = path.collect::<Vec<_>>().join(" ");
        if path.split(' ').next() == Some(root) {
            *calls.entry(path).or_default() += sample.values()[0];
        }
    }
    calls
}

fn expect(root: &str, expected: &[(&str, i64)]) {
    let expected: BTreeMap<_, _> =
        expected.iter().map(|&(path, calls)| (path.to_owned(), calls)).collect();
    assert_eq!(calls(root), expected);
}

#[profiled]
fn outer(inner_calls: usize) {
    for _ in 0..inner_calls {
        inner();
    }
    other();
}

#[profiled]
fn inner() {}

#[profiled]
fn other() {}

#[test]
fn calls_are_exact_over_threads_that_come_and_go() {
    started();
    for _ in 0..10 {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| outer(3)));
            }
        });
    }
    expect("outer", &[("outer", 1000), ("outer inner", 3000), ("outer other", 1000)]);
}

#[profiled]
fn recursion(levels: u64) -> u64 {
    if levels == 0 { 0 } else { 1 + recursion(levels - 1) }
}

#[test]
fn deep_recursion_is_counted_whole() {
    started();
    assert_eq!(recursion(9_999), 9_999);
    let paths = calls("recursion");
    assert!(paths.len() <= 256, "{} paths", paths.len());
    // What has no room in the tree is counted apart.
    let total: i64 = paths.values().sum::<i64>() + calls("[overflow]")["[overflow]"];
    assert_eq!(total, 10_000);
    expect("after", &[]);
    after();
    expect("after", &[("after", 1)]);
}

#[profiled]
fn after() {}

#[profiled]
fn unwinds(how: u32) -> Result<u32, std::num::ParseIntError> {
    match how {
        0 => panic!("on purpose"),
        1 => return Ok(1),
        _ => {}
    }
    let number: u32 = "no number".parse()?;
    Ok(number)
}

#[profiled]
fn level() {}

#[test]
fn a_function_left_in_any_way_is_off_the_path() {
    started();
    assert!(catch_unwind(AssertUnwindSafe(|| unwinds(0))).is_err());
    level();
    assert_eq!(unwinds(1), Ok(1));
    level();
    assert!(unwinds(2).is_err());
    level();
    expect("unwinds", &[("unwinds", 3)]);
    expect("level", &[("level", 3)]);
}

#[profiled]
fn busy(milliseconds: u64) {
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < u128::from(milliseconds) {
        short();
    }
}

#[profiled]
fn short() {
    for i in 0..100_u64 {
        std::hint::black_box(i);
    }
}

fn busy_time() -> i64 {
    let profile = snapshot(Kind::Spans).expect("available");
    let of_busy = profile.samples().filter(|sample| {
        sample.frames().any(|frame| frame.function.is_some_and(|name| name.ends_with("::busy")))
    });
    of_busy.map(|sample| sample.values()[1]).sum()
}

/// Time of a path is its own: what its callees took is theirs, and all adds up.
#[test]
fn times_add_up_to_the_clock() {
    started();
    let start = std::time::Instant::now();
    while busy_time() < 300_000_000 {
        assert!(start.elapsed().as_secs() < 60, "no time is charged to the spans");
        busy(10);
    }
    let took = i64::try_from(start.elapsed().as_nanos()).expect("less than centuries");
    // The first tick may have been before the start; how long before is up to the machine.
    assert!(busy_time() < 2 * took, "busy {} ns of {took} ns", busy_time());
}

#[test]
fn a_guard_can_be_shown() {
    started();
    let _outer = profiler_core::span!("shown outer");
    // A second entry, so that the nodes know each other both ways.
    drop(profiler_core::span!("shown inner"));
    let inner = profiler_core::span!("shown inner");
    let text = format!("{inner:?}");
    assert!(text.contains("shown inner"), "{text}");
}
