//! Which spans are where, and what counts.

use profiler_core::{Kind, StackView, View, profiled};
use tracing::{Dispatch, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::{check, subscriber};

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
    assert_eq!(frames, [("elsewhere::place", true), ("layer::place::place", true)]);
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
                ["layer::place::shown_span"]
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
