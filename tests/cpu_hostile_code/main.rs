//! CPU samples in code that is unlike any other: the kernel's own page of code, code that was made at
//! run time, registers that hold garbage, and stacks that are not the thread's. A stack is right or
//! short, and nothing crashes.

#![allow(unsafe_code, reason = "code is made by hand, and stacks are switched by C")]

mod backtrace;
#[cfg(target_arch = "x86_64")]
mod made_code;
mod switched_stack;
mod vdso;

use std::sync::Once;

use profiler_core::{Config, Profile, Sample};
use profiler_tests::bombardment::under_fire;
use profiler_tests::cpu::fastest;

/// Captures while `body` runs on a thread of its own, under fire. The tests run side by side: each
/// looks for its own functions.
fn capture(body: impl FnOnce() + Send + 'static) -> Profile {
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
    let capture = fastest();
    let (sent, ()) = under_fire(|| {
        profiler_core::thread::spawn(body).join().expect("no panic");
    });
    assert!(sent > 100, "{sent}");
    capture.finish()
}

/// The functions of a sample, leaf first.
fn functions<'a>(sample: &Sample<'a>) -> Vec<&'a str> {
    sample.frames().map(|frame| frame.function.unwrap_or("?")).collect()
}

/// Whether a thread starts in a function, or the program.
fn is_root(function: &str) -> bool {
    function.ends_with("::thread_start") || ["main", "_start"].contains(&function)
}

/// Whether a stack leads through a function to the start of its thread.
fn is_whole(functions: &[&str], function: &str) -> bool {
    functions.iter().any(|name| name.ends_with(function))
        && functions.last().is_some_and(|name| name.ends_with("::thread_start"))
}

/// Whether one stack is the other with some functions left out.
fn is_part_of(functions: &[&str], whole: &[&str]) -> bool {
    let mut rest = whole.iter();
    functions.iter().all(|function| rest.any(|name| name == function))
}

#[test]
fn parts_are_told_from_other_stacks() {
    assert!(is_part_of(&["a", "c"], &["a", "b", "c"]));
    assert!(is_part_of(&[], &["a"]));
    assert!(!is_part_of(&["c", "a"], &["a", "b", "c"]));
    assert!(!is_part_of(&["d"], &["a", "b", "c"]));
}
