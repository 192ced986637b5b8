//! What `#[profiled]` expands to, run against a runtime that writes down the calls.

mod future;
mod instrument;
mod label;
mod name;
mod runtime;
mod sync;

/// Runs the code and compares the calls that it made.
#[track_caller]
fn check<R>(code: impl FnOnce() -> R, calls: &[&str]) -> R {
    runtime::take();
    let result = code();
    assert_eq!(runtime::take(), calls);
    result
}
