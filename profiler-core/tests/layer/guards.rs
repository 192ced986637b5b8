//! Guards that are dropped in another order, on another thread, or never.

use std::thread;

use profiler_core::profiled;
use tracing::span::EnteredSpan;
use tracing::{info_span, instrument};

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
