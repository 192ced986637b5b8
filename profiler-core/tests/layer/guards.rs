//! Guards that are dropped in another order, on another thread, or never.

use std::thread;

use profiler_core::profiled;
use tracing::span::EnteredSpan;
use tracing::{Span, info_span, instrument};

use super::{calls, check, enter, exit, subscriber};

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
            info_span!("other_end").in_scope(|| here!());
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

/// Enters a span here, and leaves and closes it on another thread.
fn stray(span: Span) {
    enter(&span);
    let leave = move || {
        exit(&span);
        drop(span);
    };
    elsewhere(leave);
}

/// Runs code on another thread, which has this one's subscriber: what closes with a span needs it.
fn elsewhere(code: impl FnOnce() + Send + 'static) {
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    let run = move || tracing::dispatcher::with_default(&dispatch, code);
    thread::spawn(run).join().expect("no panic");
}

#[test]
fn a_span_that_is_closed_elsewhere_goes_from_amidst_others() {
    #[profiled(name = "amidst_function")]
    fn function(span: Span) {
        let inner = info_span!("amidst_inner").entered();
        stray(span);
        here!();
        drop(inner);
        here!();
    }
    check(
        "amidst_",
        || {
            let outer = info_span!("amidst_outer").entered();
            let span = info_span!("amidst_span");
            enter(&span);
            function(info_span!("amidst_other"));
            here!();
            elsewhere(move || {
                exit(&span);
                drop(span);
            });
            drop(profiler_core::span!("amidst_function_2"));
            drop(outer);
            here!();
        },
        &[
            ("amidst_outer", 1),
            ("amidst_outer amidst_function_2", 1),
            ("amidst_outer amidst_span", 1),
            ("amidst_outer amidst_span amidst_function", 1),
            ("amidst_outer amidst_span amidst_function amidst_inner", 1),
            ("amidst_outer amidst_span amidst_function amidst_inner here", 1),
            ("amidst_outer amidst_span amidst_function here", 1),
            ("amidst_outer amidst_span amidst_other", 1),
            ("amidst_outer amidst_span here", 1),
        ],
    );
}

#[test]
fn spans_that_are_closed_elsewhere_go_however_many_they_are() {
    check(
        "many_",
        || {
            for _ in 0..1_000 {
                stray(info_span!("many_span"));
                here!();
            }
            info_span!("many_end").in_scope(|| here!());
        },
        &[("many_end", 1), ("many_end here", 1), ("many_span", 1_000)],
    );
}

#[test]
fn a_span_that_is_closed_elsewhere_is_in_no_record() {
    static ENTERED: profiler_core::CustomProfile = profiler_core::CustomProfile::new("strayed");
    check(
        "record_",
        || {
            stray(info_span!("record_span"));
            let _entry = ENTERED.enter();
            let kind = profiler_core::kinds().into_iter().find(|kind| kind.name() == "strayed");
            let view = profiler_core::View::default().stack(profiler_core::StackView::Logical);
            let profile = profiler_core::snapshot_with(kind.expect("listed"), view).expect("known");
            let frames = profile.samples().flat_map(|sample| sample.frames());
            let frames: Vec<_> = frames.filter_map(|frame| frame.function).collect();
            assert!(!frames.iter().any(|name| name.contains("record_span")), "{frames:?}");
        },
        &[("record_span", 1)],
    );
}

#[cfg(profiler_native)]
#[test]
fn a_span_that_is_closed_elsewhere_shows_in_no_list_of_threads() {
    check(
        "parked_",
        || {
            let span = info_span!("parked_span");
            enter(&span);
            let look = move || {
                let shows = |word: &str| {
                    let mut dump = Vec::new();
                    profiler_core::write_threads(&mut dump).expect("written");
                    let view =
                        profiler_core::View::default().stack(profiler_core::StackView::Logical);
                    let threads =
                        profiler_core::snapshot_with(profiler_core::Kind::Goroutine, view);
                    let threads = threads.expect("known");
                    let frames = threads.samples().flat_map(|sample| sample.frames());
                    [
                        String::from_utf8(dump).expect("text").contains(word),
                        frames.filter_map(|frame| frame.function).any(|name| name.contains(word)),
                    ]
                };
                let before = shows("parked_span");
                exit(&span);
                drop(span);
                (before, shows("parked_span"))
            };
            // Meanwhile this thread does nothing.
            let shown = thread::spawn(look).join().expect("no panic");
            assert_eq!(shown, ([true, true], [false, false]));
        },
        &[("parked_span", 1)],
    );
}

#[test]
fn a_forgotten_guard_of_a_span_that_is_closed_elsewhere_goes_in_the_end() {
    check(
        "recovered_",
        || {
            let span = info_span!("lost_span");
            std::mem::forget(span.enter());
            elsewhere(move || drop(span));
            // Nobody tells when the registry is asked; it is once the profiler's thread has woken up.
            while calls("lost_end").keys().all(|path| path.contains("lost_span")) {
                thread::sleep(std::time::Duration::from_millis(1));
                info_span!(parent: None, "filler").in_scope(|| ());
                drop(profiler_core::span!("lost_end"));
            }
            info_span!("recovered_end").in_scope(|| here!());
        },
        &[("recovered_end", 1), ("recovered_end here", 1)],
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
