//! The tracing layer before the profiler starts, and spans that are entered meanwhile.
#![cfg(feature = "tracing")]

use profiler_core::{Config, Kind, View};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

fn paths() -> Vec<(String, i64)> {
    let profile = profiler_core::snapshot_with(Kind::Spans, View::default()).expect("spans");
    let path = |sample: profiler_core::Sample<'_>| {
        let mut names: Vec<_> = sample.frames().filter_map(|frame| frame.function).collect();
        names.reverse();
        (names.join(" "), sample.values()[0])
    };
    let mut paths: Vec<_> = profile.samples().map(path).filter(|(_, calls)| *calls > 0).collect();
    paths.sort();
    paths
}

#[test]
fn what_was_entered_before_the_start_is_not_known() {
    let subscriber = Registry::default().with(profiler_core::layer());
    tracing::subscriber::with_default(subscriber, || {
        let early = tracing::info_span!("early");
        let entered = early.enter();
        tracing::info_span!("over").in_scope(|| ());
        assert_eq!(paths(), []);
        profiler_core::start(Config::default()).expect("the only start");
        let inner = tracing::info_span!("inner").entered();
        drop(entered);
        drop(profiler_core::span!("leaf"));
        drop(inner);
        early.in_scope(|| drop(profiler_core::span!("leaf")));
        drop(profiler_core::span!("leaf"));
    });
    let expected = [
        ("layer_before_start::early leaf", 1),
        ("layer_before_start::inner", 1),
        ("layer_before_start::inner leaf", 1),
        ("leaf", 1),
    ];
    assert_eq!(paths(), expected.map(|(path, calls)| (path.to_owned(), calls)));
}
