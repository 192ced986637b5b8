//! Spans of futures, and guards held over an await.

use std::pin::pin;
use std::thread;

use profiler_core::profiled;
use tracing::instrument::Instrument;
use tracing::span::EnteredSpan;
use tracing::{Span, info_span};

use super::{block_on, check, enter, exit, pause, poll_once};

#[test]
fn a_span_may_be_left_in_a_future_that_was_polled_after_it() {
    #[profiled(name = "moved_future")]
    async fn future(span: EnteredSpan) {
        #[profiled(name = "moved_inner")]
        async fn inner(span: EnteredSpan) {
            drop(span);
            here!();
        }
        inner(span).await;
        here!();
    }
    check(
        "moved_",
        || {
            let outer = info_span!("moved_outer").entered();
            block_on(future(info_span!("moved_span").entered()));
            here!();
            drop(outer);
            info_span!("moved_end").in_scope(|| here!());
        },
        &[
            ("moved_end", 1),
            ("moved_end here", 1),
            ("moved_outer", 1),
            ("moved_outer here", 1),
            ("moved_outer moved_future here", 1),
            ("moved_outer moved_future moved_inner here", 1),
            ("moved_outer moved_span", 1),
            ("moved_outer moved_span moved_future", 1),
            ("moved_outer moved_span moved_future moved_inner", 1),
        ],
    );
}

#[test]
fn an_instrumented_future_is_there_while_it_is_polled() {
    check(
        "future_",
        || {
            let future = async {
                here!();
                pause().await;
                here!();
            };
            let mut future = pin!(future.instrument(info_span!("future_span")));
            assert!(!poll_once(future.as_mut()));
            info_span!("future_between").in_scope(|| here!());
            assert!(poll_once(future.as_mut()));
        },
        &[
            ("future_between", 1),
            ("future_between here", 1),
            ("future_span", 1),
            ("future_span here", 2),
        ],
    );
}

#[test]
fn a_guard_held_over_an_await_leaves_a_profiled_future_clean() {
    #[profiled(name = "held_future")]
    async fn future() {
        let _guard = info_span!("held_span").entered();
        here!();
        pause().await;
        here!();
    }
    check(
        "held_",
        || {
            let mut future = pin!(future());
            assert!(!poll_once(future.as_mut()));
            info_span!("held_between").in_scope(|| here!());
            assert!(poll_once(future.as_mut()));
            info_span!("held_end").in_scope(|| here!());
        },
        &[
            ("held_between", 1),
            ("held_between here", 1),
            ("held_end", 1),
            ("held_end here", 1),
            ("held_future", 1),
            ("held_future held_span", 1),
            ("held_future held_span here", 1),
            ("held_future here", 1),
        ],
    );
}

#[test]
fn a_guard_held_over_an_await_in_any_future_is_left_in_the_end() {
    check(
        "plain_",
        || {
            let task = |span: Span| async move {
                let _guard = span.entered();
                pause().await;
                here!();
            };
            let mut first = pin!(task(info_span!("plain_a")));
            let mut second = pin!(task(info_span!("plain_b")));
            assert!(!poll_once(first.as_mut()));
            assert!(!poll_once(second.as_mut()));
            assert!(poll_once(first.as_mut()));
            assert!(poll_once(second.as_mut()));
            info_span!("plain_end").in_scope(|| here!());
        },
        &[
            ("plain_a", 1),
            ("plain_a plain_b here", 1),
            ("plain_b", 1),
            ("plain_b here", 1),
            ("plain_end", 1),
            ("plain_end here", 1),
        ],
    );
}

#[test]
fn a_guard_held_over_an_await_may_be_dropped_on_another_thread() {
    check(
        "migrate_",
        || {
            let span = info_span!("migrate_span");
            let mut future = Box::pin(async move {
                enter(&span);
                pause().await;
                exit(&span);
                here!();
                info_span!("migrate_there").in_scope(|| here!());
            });
            assert!(!poll_once(future.as_mut()));
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let rest =
                move || tracing::dispatcher::with_default(&dispatch, || poll_once(future.as_mut()));
            assert!(thread::spawn(rest).join().expect("no panic"));
        },
        &[("migrate_span", 1), ("migrate_there", 1), ("migrate_there here", 1)],
    );
}
