//! The program's first thread has a stack of its own kind, which grows as it is used; tests of the
//! usual harness never run there.

use profiler_core::{Config, Kind, Rates, snapshot, wait};

#[inline(never)]
fn wait_on_the_main_thread() {
    wait("thing", || ());
}

/// Walks through a frame that makes the stack grow far beyond what was in use at the start.
#[inline(never)]
fn deep_down() {
    let space = std::hint::black_box([1_u8; 1 << 20]);
    wait_on_the_main_thread();
    std::hint::black_box(&space);
}

fn main() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    wait_on_the_main_thread();
    deep_down();
    let profile = snapshot(Kind::Block).expect("available");
    assert_eq!(profile.totals()[0], 2);
    if !cfg!(profiler_native) {
        return;
    }
    for sample in profile.samples() {
        let names: Vec<_> = sample.frames().filter_map(|frame| frame.function).collect();
        let position = |name: &str| names.iter().position(|known| known.ends_with(name));
        let (wait, main) = (position("::wait_on_the_main_thread"), position("main_thread::main"));
        assert!(wait.is_some() && wait < main, "{names:#?}");
    }
}
