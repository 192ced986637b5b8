//! Where there is no room for span paths, what is known of them stays: a difference of two readings has nothing too much.

#![cfg(profiler_native)]

use std::thread;

use profiler_core::{
    Config, Kind, Profile, Rates, Sample, StackView, View, snapshot_with, span, wait,
};

fn block() -> Profile {
    let view = View::default().stack(StackView::Logical);
    snapshot_with(Kind::Block, view).expect("available")
}

/// Waits in a path of so many spans and one more, each of which a bit of the number decides.
fn wait_in(number: u32, depth: u32) {
    let _span = if number & 1 == 0 { span!("left") } else { span!("right") };
    match depth {
        0 => wait("thing", || ()),
        _ => wait_in(number >> 1, depth - 1),
    }
}

#[test]
fn differences_are_right_though_paths_are_cut() {
    profiler_core::start(Config::default().rates(Rates::ALL).memory(2 << 20))
        .expect("the first start");
    let count = |sample: Sample<'_>| sample.values()[0];
    let (mut before, mut made) = (block(), 0);
    let first = before.clone();
    let mut cut = 0;
    for round in 0..64 {
        let waits = move || (0..16).for_each(|number| wait_in(round * 16 + number, 12));
        thread::spawn(waits).join().expect("no panic");
        made += 16;
        let now = block();
        for earlier in [&before, &first] {
            let difference = now.since(earlier);
            let gone: Vec<_> = difference.samples().map(count).filter(|&count| count < 0).collect();
            assert_eq!(gone, [], "round {round}: nothing has gone");
            assert_eq!(
                difference.totals()[0],
                if std::ptr::eq(earlier, &first) { made } else { 16 }
            );
        }
        cut = now.samples().filter(|sample| sample.frames().count() < 13).map(count).sum();
        before = now;
    }
    assert!(cut > 0, "there was room for all");
}
