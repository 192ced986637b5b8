//! Where there is no room for span paths, what is known of them stays: a difference of two readings has nothing too much.

#![cfg(profiler_native)]

use std::sync::mpsc;
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
    let first = block();
    let mut before = first.clone();
    for round in 0..64 {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            (0..16).for_each(|number| wait_in(round * 16 + number, 12));
            tell.send(()).expect("somebody waits");
            ended.recv().expect_err("nothing is sent");
        });
        told.recv().expect("the thread says so");
        // The thread lives, so its paths are whole; those of the threads before are cut.
        let now = block();
        for (earlier, made) in [(&before, 16), (&first, 16 * (i64::from(round) + 1))] {
            let difference = now.since(earlier);
            let gone: Vec<_> = difference.samples().map(count).filter(|&count| count < 0).collect();
            assert_eq!(gone, [], "round {round}: nothing has gone");
            assert_eq!(difference.totals()[0], made, "round {round}");
        }
        before = now;
        drop(end);
        thread.join().expect("no panic");
    }
    let is_cut = |sample: &Sample<'_>| sample.frames().count() < 13;
    assert!(before.samples().any(|sample| is_cut(&sample)), "there was room for all");
}
