//! Totals stay exact when distinct stacks and paths exceed their bounds.

use profiler_core::{Config, Kind, Rates, snapshot, wait, with_labels};

#[test]
fn what_finds_no_room_is_counted_under_overflow() {
    let config = Config::default().rates(Rates::ALL).max_stacks_per_thread(10);
    profiler_core::start(config).expect("the first start");
    for value in 0..40 {
        with_labels([("value", format!("{value}"))], || wait("thing", || ()));
    }
    let profile = snapshot(Kind::Block).expect("available");
    assert_eq!(profile.totals()[0], 40);
    let overflow: i64 = profile
        .samples()
        .filter(|sample| sample.frames().any(|frame| frame.function == Some("[overflow]")))
        .map(|sample| sample.values()[0])
        .sum();
    assert_eq!(overflow, 30);
    assert_eq!(profiler_core::stats().lost, 30);
}
