//! What captures of CPU time have kept ends with the last one: rows, and names of threads.

#![cfg(profiler_native)]

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use profiler_core::{Capture, Config, Kind, LabelView, View};

/// More than names are kept.
const THREADS: usize = 1_100;

/// One of two call sites for each bit, so that stacks are many.
fn path(number: u32, bits: u32) {
    if bits == 0 {
        let end = Instant::now() + Duration::from_micros(200);
        while Instant::now() < end {}
        return;
    }
    #[allow(clippy::if_same_then_else, reason = "two call sites make two stacks")]
    if number & 1 == 0 {
        path(number >> 1, bits - 1)
    } else {
        path(number >> 1, bits - 1)
    }
    std::hint::black_box(());
}

/// Captures a thousand stacks, and returns what is held before the end of the capture and after.
fn capture(names: &str) -> (usize, usize, bool) {
    let capture = Capture::start_with(Kind::Profile, Capture::MAX_RATE).expect("Linux has timers");
    let busy = thread::Builder::new().name(names.to_owned());
    let busy = busy.spawn(|| (0..1_000).for_each(|number| path(number, 10)));
    busy.expect("a thread").join().expect("no panic");
    let held = profiler_core::stats().bytes;
    let profile = capture.finish_with(View::default().labels(LabelView::ALL));
    let is_named = profile.samples().any(|sample| sample.label("thread") == Some(names));
    (held, profiler_core::stats().bytes, is_named)
}

/// Starts threads of names of their own, which live until the sender is dropped.
fn start_many() -> (Vec<JoinHandle<()>>, Vec<mpsc::Sender<()>>) {
    let start = |number| {
        let (say, said) = mpsc::channel::<()>();
        let builder = thread::Builder::new().name(format!("many {number}")).stack_size(64 << 10);
        let thread = builder.spawn(move || _ = said.recv()).expect("a thread");
        (thread, say)
    };
    (0..THREADS).map(start).unzip()
}

#[test]
fn rows_and_names_end_with_the_last_capture() {
    profiler_core::start(Config::default()).expect("the first start");
    let first = capture("first");
    assert!(first.0 > first.1 + (32 << 10), "the capture kept nothing: {first:?}");

    // Each is seen, and named.
    let (threads, lives) = start_many();
    let _ = capture("among many");
    drop(lives);
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));

    let late = [capture("late"), capture("later"), capture("last")];
    assert!(late.iter().all(|(_, _, is_named)| *is_named), "names are used up: {late:?}");
    let after = late.map(|(_, after, _)| after);
    assert!(after[2] <= after[0] + (16 << 10), "captures leave something: {after:?}");
}
