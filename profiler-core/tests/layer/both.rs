//! Functions with both `#[profiled]` and `#[instrument]`.

use std::thread;

use profiler_core::profiled;
use tracing::{info_span, instrument};

use super::{block_on, calls, check, pause, subscriber};

#[test]
fn one_function_with_both_attributes_is_one_frame() {
    #[profiled(name = "both_above")]
    #[instrument(name = "both_above")]
    fn above() {
        here!();
    }
    #[instrument(name = "both_below")]
    #[profiled(name = "both_below")]
    fn below() {
        above();
        info_span!("both_span").in_scope(|| here!());
    }
    #[profiled(name = "both_async_above")]
    #[instrument(name = "both_async_above")]
    async fn async_above() {
        pause().await;
        here!();
    }
    #[instrument(name = "both_async_below")]
    #[profiled(name = "both_async_below")]
    async fn async_below() {
        async_above().await;
        pause().await;
        here!();
    }
    // Without the layer, with it, and with the span disabled.
    let expected = |times| {
        [
            ("both_async_below", times),
            ("both_async_below both_async_above", times),
            ("both_async_below both_async_above here", times),
            ("both_async_below here", times),
            ("both_below", times),
            ("both_below both_above", times),
            ("both_below both_above here", times),
        ]
    };
    let work = || {
        below();
        block_on(async_below());
    };
    subscriber();
    thread::spawn(work).join().expect("no panic");
    let without: Vec<_> = calls("both_").into_iter().collect();
    let without: Vec<_> = without.iter().map(|(path, calls)| (&**path, *calls)).collect();
    // Without the layer a plain span is not there.
    let mut plain = expected(1).to_vec();
    plain.push(("both_below here", 1));
    assert_eq!(without, plain);
    let mut with = expected(2).to_vec();
    with.push(("both_below both_span", 1));
    with.push(("both_below both_span here", 1));
    with.push(("both_below here", 1));
    check("both_", work, &with);
}

#[test]
fn a_recursive_function_with_both_attributes_is_one_frame_a_call() {
    #[profiled(name = "recursive_function")]
    #[instrument(name = "recursive_function")]
    fn work(depth: u32) {
        if depth > 1 {
            work(depth - 1);
        }
    }
    check(
        "recursive_",
        || work(2),
        &[("recursive_function", 1), ("recursive_function recursive_function", 1)],
    );
}
