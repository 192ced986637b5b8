//! Where tracing spans stand on the span stack.
#![cfg(feature = "tracing")]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Once;
use std::task::{Context, Waker};
use std::thread;

use profiler_core::{Config, Kind, StackView, View, profiled};
use tracing::instrument::Instrument;
use tracing::span::EnteredSpan;
use tracing::{Dispatch, Span, info_span, instrument};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// Marks where the thread stands; see [`check`].
macro_rules! here {
    () => {
        drop(profiler_core::span!("here"))
    };
}

fn subscriber() -> Dispatch {
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
    Dispatch::new(Registry::default().with(profiler_core::layer()))
}

/// Returns the calls by path, root first, of the paths with that word in them.
fn calls(word: &str) -> BTreeMap<String, i64> {
    let profile = profiler_core::snapshot_with(Kind::Spans, View::default()).expect("spans");
    let mut calls = BTreeMap::new();
    for sample in profile.samples() {
        let mut names: Vec<_> = sample.frames().filter_map(|frame| frame.function).collect();
        names.reverse();
        let short = names.iter().map(|name| name.rsplit("::").next().unwrap_or(name));
        let path = short.collect::<Vec<_>>().join(" ");
        if path.contains(word) && sample.values()[0] > 0 {
            *calls.entry(path).or_default() += sample.values()[0];
        }
    }
    calls
}

/// Runs code on a thread of its own, then compares the calls on paths with that word.
#[track_caller]
fn check(word: &str, code: impl FnOnce() + Send + 'static, expected: &[(&str, i64)]) {
    let dispatch = subscriber();
    let run = move || tracing::dispatcher::with_default(&dispatch, code);
    thread::spawn(run).join().expect("no panic");
    let calls = calls(word);
    let calls: Vec<_> = calls.iter().map(|(path, &calls)| (&**path, calls)).collect();
    assert_eq!(calls, expected);
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn block_on<F: Future>(future: F) {
    let mut future = pin!(future);
    while !poll_once(future.as_mut()) {}
}

/// Is pending once.
async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut paused, true) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// Enters and leaves as a guard does that goes from thread to thread.
fn enter(span: &Span) {
    span.with_subscriber(|(id, dispatch)| dispatch.enter(id));
}

fn exit(span: &Span) {
    span.with_subscriber(|(id, dispatch)| dispatch.exit(id));
}

#[test]
fn spans_nest_with_each_other_and_with_functions() {
    #[profiled(name = "nest_function")]
    fn function() {
        let _inner = info_span!("nest_inner").entered();
        here!();
    }
    check(
        "nest_",
        || {
            for _ in 0..2 {
                info_span!("nest_outer").in_scope(function);
            }
            here!();
        },
        &[
            ("nest_outer", 2),
            ("nest_outer nest_function", 2),
            ("nest_outer nest_function nest_inner", 2),
            ("nest_outer nest_function nest_inner here", 2),
        ],
    );
}

#[test]
fn a_span_is_named_by_its_target_and_tells_its_place() {
    let dispatch = subscriber();
    tracing::dispatcher::with_default(&dispatch, || {
        drop(info_span!("place"));
        drop(info_span!(target: "elsewhere", "place"));
    });
    let profile = profiler_core::snapshot_with(Kind::Spans, View::default()).expect("spans");
    let frames = profile.samples().flat_map(|sample| sample.frames());
    let mut frames: Vec<_> = frames
        .filter(|frame| frame.function.is_some_and(|name| name.ends_with("::place")))
        .map(|frame| (frame.function.expect("seen"), frame.line > 0 && frame.file == file!()))
        .collect();
    frames.sort_unstable();
    assert_eq!(frames, [("elsewhere::place", true), ("layer::place", true)]);
}

#[test]
fn a_call_counts_where_the_span_is_created() {
    check(
        "created_",
        || {
            let outer = info_span!("created_outer").entered();
            let span = info_span!("created_span");
            let root = info_span!(parent: None, "created_root");
            drop(outer);
            for _ in 0..3 {
                span.in_scope(|| here!());
            }
            root.in_scope(|| here!());
        },
        &[
            ("created_outer", 1),
            ("created_outer created_span", 1),
            ("created_root", 1),
            ("created_root here", 1),
            ("created_span here", 3),
        ],
    );
}

#[test]
fn guards_may_be_dropped_in_any_order() {
    check(
        "order_",
        || {
            let first = info_span!("order_a").entered();
            let second = info_span!("order_b").entered();
            let third = info_span!("order_c").entered();
            drop(second);
            here!();
            drop(first);
            here!();
            drop(third);
            // The thread is back at its root: this path has nothing above it.
            info_span!("order_end").in_scope(|| here!());
        },
        &[
            ("order_a", 1),
            ("order_a order_b", 1),
            ("order_a order_b order_c", 1),
            ("order_a order_c here", 1),
            ("order_c here", 1),
            ("order_end", 1),
            ("order_end here", 1),
        ],
    );
}

#[test]
fn guards_of_one_place_may_be_dropped_in_any_order() {
    fn open() -> EnteredSpan {
        info_span!("same_place").entered()
    }
    check(
        "same_",
        || {
            let (first, second) = (open(), open());
            drop(first);
            here!();
            drop(second);
            info_span!("same_end").in_scope(|| here!());
        },
        &[
            ("same_end", 1),
            ("same_end here", 1),
            ("same_place", 1),
            ("same_place here", 1),
            ("same_place same_place", 1),
        ],
    );
}

#[test]
fn a_span_may_be_left_in_a_function_that_was_entered_after_it() {
    #[profiled(name = "handed_function")]
    fn function(span: EnteredSpan) {
        drop(span);
        here!();
    }
    check(
        "handed_",
        || {
            function(info_span!("handed_span").entered());
            info_span!("handed_end").in_scope(|| here!());
        },
        &[
            ("handed_end", 1),
            ("handed_end here", 1),
            ("handed_function here", 1),
            ("handed_span", 1),
            ("handed_span handed_function", 1),
        ],
    );
}

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
fn a_span_that_is_entered_twice_is_there_once() {
    check(
        "twice_",
        || {
            let span = info_span!("twice_span");
            let outer = span.enter();
            let between = info_span!("twice_between").entered();
            let inner = span.enter();
            here!();
            drop(inner);
            drop(between);
            here!();
            drop(outer);
            info_span!("twice_end").in_scope(|| here!());
        },
        &[
            ("twice_end", 1),
            ("twice_end here", 1),
            ("twice_span", 1),
            ("twice_span here", 1),
            ("twice_span twice_between", 1),
            ("twice_span twice_between here", 1),
        ],
    );
}

#[test]
fn a_span_may_be_left_and_closed_on_another_thread() {
    check(
        "other_",
        || {
            let span = info_span!("other_span");
            enter(&span);
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let leave = move || {
                tracing::dispatcher::with_default(&dispatch, || {
                    exit(&span);
                    drop(span);
                    info_span!("other_there").in_scope(|| here!());
                });
            };
            thread::spawn(leave).join().expect("no panic");
            // What cannot be left any more goes, from time to time and when there is no room.
            for _ in 0..256 {
                info_span!(parent: None, "filler").in_scope(|| ());
            }
            info_span!(parent: None, "other_end").in_scope(|| here!());
        },
        &[
            ("other_end", 1),
            ("other_end here", 1),
            ("other_span", 1),
            ("other_there", 1),
            ("other_there here", 1),
        ],
    );
}

#[test]
fn a_number_that_is_given_anew_is_another_span() {
    check(
        "anew_end",
        || {
            let span = info_span!("anew_first");
            let number = span.id();
            enter(&span);
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            let close = move || tracing::dispatcher::with_default(&dispatch, || drop(span));
            thread::spawn(close).join().expect("no panic");
            // With the first page of the registry full, the free place in it is taken again and
            // again, and its generations begin anew.
            let _full: Vec<_> = (0..31).map(|_| info_span!("filler")).collect();
            let second = (0..100_000)
                .map(|_| info_span!(parent: None, "anew_second"))
                .find(|span| span.id() == number)
                .expect("the number comes again");
            // What was created last is known to be new; with this, it has to be found out.
            drop(info_span!("filler"));
            second.in_scope(|| drop(profiler_core::span!("anew_end")));
            drop(profiler_core::span!("anew_end"));
        },
        &[("anew_end", 1), ("anew_second anew_end", 1)],
    );
}

#[test]
fn a_forgotten_guard_ends_with_its_span() {
    check(
        "forgot_",
        || {
            let span = info_span!("forgot_span");
            std::mem::forget(span.enter());
            here!();
            drop(span);
            info_span!("forgot_end").in_scope(|| here!());
        },
        &[("forgot_end", 1), ("forgot_end here", 1), ("forgot_span", 1), ("forgot_span here", 1)],
    );
}

#[test]
fn two_registries_with_the_same_numbers_are_told_apart() {
    check(
        "two_",
        || {
            let other = Dispatch::new(Registry::default().with(profiler_core::layer()));
            let first = info_span!("two_a");
            let second = tracing::dispatcher::with_default(&other, || info_span!("two_b"));
            assert_eq!(first.id(), second.id(), "the first span of each");
            let first = first.entered();
            let second = second.entered();
            here!();
            drop(first);
            here!();
            drop(second);
            info_span!("two_end").in_scope(|| here!());
        },
        &[
            ("two_a", 1),
            ("two_a two_b here", 1),
            ("two_b", 1),
            ("two_b here", 1),
            ("two_end", 1),
            ("two_end here", 1),
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

#[test]
fn more_spans_than_there_is_room_for_are_counted_and_left_well() {
    check(
        "deep_",
        || {
            let spans: Vec<_> = (0..40).map(|_| info_span!("deep_span").entered()).collect();
            drop(spans);
            info_span!("deep_end").in_scope(|| here!());
        },
        &{
            let mut expected: Vec<_> =
                (1..=32).map(|depth| (&*vec!["deep_span"; depth].join(" ").leak(), 1)).collect();
            // What stands deeper counts below the last that has room.
            expected.push((vec!["deep_span"; 33].join(" ").leak(), 8));
            expected.insert(0, ("deep_end", 1));
            expected.insert(1, ("deep_end here", 1));
            expected
        },
    );
}

#[test]
fn a_span_outlives_its_subscribers_scope() {
    check(
        "outlive_",
        || {
            let own = Dispatch::new(Registry::default().with(profiler_core::layer()));
            let span = tracing::dispatcher::with_default(&own, || info_span!("outlive_span"));
            drop(own);
            let entered = span.entered();
            here!();
            drop(entered);
            info_span!("outlive_end").in_scope(|| here!());
        },
        &[
            ("outlive_end", 1),
            ("outlive_end here", 1),
            ("outlive_span", 1),
            ("outlive_span here", 1),
        ],
    );
}

#[test]
fn a_panic_leaves_every_span() {
    #[instrument(name = "panic_span")]
    fn work() {
        let _inner = info_span!("panic_inner").entered();
        std::panic::resume_unwind(Box::new(()));
    }
    check(
        "panic_",
        || {
            assert!(std::panic::catch_unwind(work).is_err());
            info_span!("panic_end").in_scope(|| here!());
        },
        &[
            ("panic_end", 1),
            ("panic_end here", 1),
            ("panic_span", 1),
            ("panic_span panic_inner", 1),
        ],
    );
}

#[test]
fn spans_in_thread_local_destructors_are_well() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let span = info_span!("late_span").entered();
            here!();
            drop(span);
            here!();
        }
    }
    thread_local! {
        static BEFORE: Late = const { Late };
        static AFTER: Late = const { Late };
    }
    let dispatch = subscriber();
    let run = move || {
        BEFORE.with(|_| ());
        let _default = tracing::dispatcher::set_default(&dispatch);
        info_span!("late_first").in_scope(|| here!());
        AFTER.with(|_| ());
        // The destructors find the default of all threads: none. Spans made before still work.
        thread_local! {
            static HELD: std::cell::RefCell<Option<EnteredSpan>> =
                const { std::cell::RefCell::new(None) };
        }
        HELD.set(Some(info_span!("late_held").entered()));
    };
    thread::spawn(run).join().expect("no panic");
    let calls = calls("late_");
    let calls: Vec<_> = calls.iter().map(|(path, &calls)| (&**path, calls)).collect();
    assert_eq!(calls, [("late_first", 1), ("late_first here", 1), ("late_held", 1)]);
}

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

#[test]
fn spans_show_in_other_profiles() {
    static ENTERED: profiler_core::CustomProfile = profiler_core::CustomProfile::new("layered");
    check(
        "none_",
        || {
            let _span = info_span!("shown_span").entered();
            let _entry = ENTERED.enter();
            let view = View::default().stack(StackView::Logical);
            let kind = profiler_core::kinds().into_iter().find(|kind| kind.name() == "layered");
            let profile = profiler_core::snapshot_with(kind.expect("listed"), view).expect("known");
            let sample = profile.samples().next().expect("one");
            assert_eq!(
                sample.frames().filter_map(|frame| frame.function).collect::<Vec<_>>(),
                ["layer::shown_span"]
            );
        },
        &[],
    );
}

#[test]
fn the_layer_works_boxed_and_behind_other_filters() {
    let boxed: Box<dyn Layer<Registry> + Send + Sync> = Box::new(profiler_core::layer());
    let only_wanted =
        tracing_subscriber::filter::filter_fn(|metadata| metadata.name() != "boxed_hidden");
    subscriber();
    let dispatch = Dispatch::new(Registry::default().with(boxed.with_filter(only_wanted)));
    check(
        "boxed_",
        move || {
            tracing::dispatcher::with_default(&dispatch, || {
                let hidden = info_span!("boxed_hidden").entered();
                let seen = info_span!("boxed_seen").entered();
                here!();
                drop(hidden);
                drop(seen);
            });
        },
        &[("boxed_seen", 1), ("boxed_seen here", 1)],
    );
}
