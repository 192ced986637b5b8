//! Totals stay exact when distinct stacks and paths exceed their bounds.

use profiler_core::{Config, CustomProfile, Kind, Rates, snapshot, wait, with_labels};

static THINGS: CustomProfile = CustomProfile::new("things");

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

    // A profile of the application's own finds no room either.
    let things = [THINGS.enter(), THINGS.enter()];
    let count = || snapshot(Kind::Custom("things")).expect("available").totals()[0];
    assert_eq!(count(), 2);
    let [first, second] = things;
    std::thread::spawn(move || drop(first)).join().expect("no panic");
    assert_eq!(count(), 1);
    drop(second);
    assert_eq!(count(), 0);
}
