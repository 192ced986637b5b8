//! The layer in the places where tracing-subscriber puts layers.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, info_span};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{Extensions, ExtensionsMut, LookupSpan, SpanData};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::{check, subscriber};

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

/// A layer that is not there at first, and what brings it.
fn absent<S>() -> (reload::Layer<Option<Boxed<S>>, S>, impl FnOnce() + Send)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (layer, handle) = reload::Layer::new(None);
    let bring = move || {
        let layer: Boxed<S> = profiler_core::layer().boxed();
        handle.reload(Some(layer)).expect("the subscriber is there");
    };
    (layer, bring)
}

/// Runs code in which the default is a registry with that layer.
#[track_caller]
fn check_with(
    layer: impl Layer<Registry> + Send + Sync,
    word: &str,
    code: impl FnOnce() + Send + 'static,
    expected: &[(&str, i64)],
) {
    subscriber();
    let dispatch = Dispatch::new(Registry::default().with(layer));
    check(word, move || tracing::dispatcher::with_default(&dispatch, code), expected);
}

/// Enters a span of that name with another inside, and is back where it was.
macro_rules! nested {
    ($outer:literal, $inner:literal) => {{
        let outer = info_span!($outer).entered();
        info_span!($inner).in_scope(|| here!());
        drop(outer);
        here!();
    }};
}

#[test]
fn a_layer_may_be_reloaded_by_another() {
    let (layer, handle) = reload::Layer::new(profiler_core::layer());
    check_with(
        layer,
        "another_",
        move || {
            nested!("another_first", "another_inner");
            let across = info_span!("another_across").entered();
            here!();
            handle.reload(profiler_core::layer()).expect("the subscriber is there");
            // What was entered with the layer that is gone is off the stack.
            info_span!("another_under").in_scope(|| here!());
            drop(across);
            nested!("another_second", "another_inner");
        },
        &[
            ("another_across", 1),
            ("another_across here", 1),
            ("another_first", 1),
            ("another_first another_inner", 1),
            ("another_first another_inner here", 1),
            ("another_second", 1),
            ("another_second another_inner", 1),
            ("another_second another_inner here", 1),
            ("another_under", 1),
            ("another_under here", 1),
        ],
    );
}

#[test]
fn a_layer_may_be_reloaded_by_none_and_come_back() {
    let (layer, handle) = reload::Layer::new(Some(profiler_core::layer()));
    check_with(
        layer,
        "none_",
        move || {
            let across = info_span!("none_across").entered();
            here!();
            handle.reload(None).expect("the subscriber is there");
            // Nobody tells any more when it is left.
            drop(profiler_core::span!("none_function"));
            nested!("none_not", "none_not");
            drop(across);
            handle.reload(Some(profiler_core::layer())).expect("the subscriber is there");
            nested!("none_back", "none_inner");
        },
        &[
            ("none_across", 1),
            ("none_across here", 1),
            ("none_back", 1),
            ("none_back none_inner", 1),
            ("none_back none_inner here", 1),
            ("none_function", 1),
        ],
    );
}

#[test]
fn a_layer_may_come_later() {
    let (layer, bring) = absent();
    check_with(
        layer,
        "later_",
        move || {
            let across = info_span!("later_across").entered();
            bring();
            here!();
            drop(across);
            nested!("later_outer", "later_inner");
        },
        &[("later_outer", 1), ("later_outer later_inner", 1), ("later_outer later_inner here", 1)],
    );
}

#[test]
fn a_layer_may_be_reloaded_while_another_thread_is_within_spans() {
    let (layer, handle) = reload::Layer::new(Some(profiler_core::layer()));
    check_with(
        layer,
        "beside_",
        move || {
            let across = info_span!("beside_across").entered();
            let reload = || handle.reload(None).expect("the subscriber is there");
            std::thread::scope(|scope| scope.spawn(reload).join().expect("no panic"));
            drop(profiler_core::span!("beside_function"));
            drop(across);
        },
        &[("beside_across", 1), ("beside_function", 1)],
    );
}

#[test]
fn a_reloaded_layer_works_beside_others() {
    let fmt = || fmt::layer().with_writer(std::io::sink);
    let warn = || fmt().with_filter(LevelFilter::WARN);
    let mut dispatches = Vec::new();
    macro_rules! beside {
        ($layer:ident => $layers:expr) => {{
            let ($layer, bring) = absent();
            dispatches.push(Dispatch::new(Registry::default().with($layers)));
            bring();
        }};
    }
    beside!(layer => layer.and_then(fmt()));
    beside!(layer => fmt().and_then(layer));
    beside!(layer => layer.and_then(warn()));
    beside!(layer => warn().and_then(layer));
    beside!(layer => vec![layer.boxed(), warn().boxed()]);
    beside!(layer => layer.with_filter(LevelFilter::INFO));
    beside!(layer => LevelFilter::INFO.and_then(layer));
    let all = dispatches.len() as i64;
    subscriber();
    check(
        "among_",
        move || {
            for dispatch in &dispatches {
                tracing::dispatcher::with_default(dispatch, || {
                    tracing::warn!("an event");
                    nested!("among_outer", "among_inner");
                });
            }
        },
        &[
            ("among_outer", all),
            ("among_outer among_inner", all),
            ("among_outer among_inner here", all),
        ],
    );
}

#[test]
fn the_filter_around_the_layer_may_be_reloaded() {
    let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
    check_with(
        profiler_core::layer().with_filter(filter),
        "switch_",
        move || {
            let across = info_span!("switch_across").entered();
            here!();
            handle.reload(LevelFilter::OFF).expect("the subscriber is there");
            nested!("switch_not", "switch_not");
            drop(across);
            handle.reload(LevelFilter::INFO).expect("the subscriber is there");
            nested!("switch_on", "switch_inner");
        },
        &[
            ("switch_across", 1),
            ("switch_across here", 3),
            ("switch_on", 1),
            ("switch_on switch_inner", 1),
            ("switch_on switch_inner here", 1),
        ],
    );
}

#[test]
fn the_layer_works_in_every_wrapper() {
    fn layers() -> Vec<(&'static str, Boxed<Registry>)> {
        let ours = profiler_core::layer;
        let warn = || fmt::layer().with_writer(std::io::sink).with_filter(LevelFilter::WARN);
        let spans = filter_fn(|metadata| metadata.is_span());
        vec![
            ("boxed", ours().boxed()),
            ("twice boxed", ours().boxed().boxed()),
            ("some", Some(ours()).boxed()),
            ("vec", vec![ours()].boxed()),
            (
                "mixed vec",
                vec![
                    ours().boxed(),
                    warn().boxed(),
                    fmt::layer().with_writer(std::io::sink).boxed(),
                ]
                .boxed(),
            ),
            ("filtered", ours().with_filter(spans.clone()).boxed()),
            ("twice filtered", ours().with_filter(spans).with_filter(LevelFilter::INFO).boxed()),
            ("tree", ours().and_then(warn()).with_filter(LevelFilter::INFO).boxed()),
            ("other tree", warn().and_then(ours()).boxed()),
            ("reload of a tree", reload::Layer::new(warn().and_then(ours())).0.boxed()),
            ("reload of reload", reload::Layer::new(reload::Layer::new(ours()).0).0.boxed()),
            ("two", ours().and_then(ours()).boxed()),
            ("two of a vec", vec![ours(), ours()].boxed()),
            ("two, one reloaded", ours().and_then(reload::Layer::new(ours()).0).boxed()),
        ]
    }
    let dispatches: Vec<_> = layers()
        .into_iter()
        .map(|(name, layer)| (name, Dispatch::new(Registry::default().with(layer))))
        .collect();
    let all = dispatches.len() as i64;
    check(
        "wrapped_",
        move || {
            for (_, dispatch) in &dispatches {
                tracing::dispatcher::with_default(dispatch, || {
                    tracing::error!("an event");
                    nested!("wrapped_outer", "wrapped_inner");
                });
            }
        },
        &[
            ("wrapped_outer", all),
            ("wrapped_outer wrapped_inner", all),
            ("wrapped_outer wrapped_inner here", all),
        ],
    );
}

/// A registry of somebody else's, which knows of no filters of layers.
#[derive(Default)]
struct Own {
    last: AtomicU64,
    spans: std::sync::RwLock<std::collections::HashMap<u64, &'static Metadata<'static>>>,
}

struct OwnData(Id, &'static Metadata<'static>);

impl SpanData<'_> for OwnData {
    fn id(&self) -> Id {
        self.0.clone()
    }

    fn metadata(&self) -> &'static Metadata<'static> {
        self.1
    }

    fn parent(&self) -> Option<&Id> {
        None
    }

    fn extensions(&self) -> Extensions<'_> {
        unreachable!("nobody asks for extensions")
    }

    fn extensions_mut(&self) -> ExtensionsMut<'_> {
        unreachable!("nobody asks for extensions")
    }
}

impl<'a> LookupSpan<'a> for Own {
    type Data = OwnData;

    fn span_data(&'a self, id: &Id) -> Option<OwnData> {
        let metadata = *self.spans.read().expect("no panic").get(&id.into_u64())?;
        Some(OwnData(id.clone(), metadata))
    }
}

impl Subscriber for Own {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.spans.write().expect("no panic").insert(id, attributes.metadata());
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        self.spans.write().expect("no panic").remove(&id.into_u64()).is_some()
    }
}

#[test]
fn the_layer_works_under_another_registry() {
    subscriber();
    let dispatch = Dispatch::new(Own::default().with(profiler_core::layer()));
    let (layer, bring) = absent();
    let reloaded = Dispatch::new(Own::default().with(layer));
    bring();
    check(
        "foreign_",
        move || {
            for dispatch in [&dispatch, &reloaded] {
                tracing::dispatcher::with_default(dispatch, || {
                    tracing::error!("an event");
                    nested!("foreign_outer", "foreign_inner");
                });
            }
        },
        &[
            ("foreign_outer", 2),
            ("foreign_outer foreign_inner", 2),
            ("foreign_outer foreign_inner here", 2),
        ],
    );
}
