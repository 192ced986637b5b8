//! What the tracing layer enables: its spans, and nothing for anybody else.
//!
//! Whether a callsite is enabled is kept for all subscribers of a process together, so the tests of
//! this file run one after the other.
#![cfg(feature = "tracing")]

use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use profiler_core::{Config, Kind, LayerOptions, View};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

fn one_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands for a library that the application uses.
mod dependency {
    pub(super) fn work() {
        let _span = tracing::info_span!("info_span").entered();
        let _span = tracing::debug_span!("debug_span").entered();
        let _span = tracing::trace_span!("trace_span").entered();
        tracing::warn!("warn event");
        tracing::info!("info event");
        tracing::debug!("debug event");
        tracing::trace!("trace event");
    }
}

/// Returns what a subscriber enables of events, then of spans.
fn enabled(subscriber: impl Subscriber + Send + Sync) -> [Vec<Level>; 2] {
    tracing::subscriber::with_default(subscriber, || {
        let events = [
            (Level::WARN, tracing::event_enabled!(Level::WARN)),
            (Level::INFO, tracing::event_enabled!(Level::INFO)),
            (Level::DEBUG, tracing::event_enabled!(Level::DEBUG)),
            (Level::TRACE, tracing::event_enabled!(Level::TRACE)),
        ];
        let spans = [
            (Level::WARN, tracing::span_enabled!(Level::WARN)),
            (Level::INFO, tracing::span_enabled!(Level::INFO)),
            (Level::DEBUG, tracing::span_enabled!(Level::DEBUG)),
            (Level::TRACE, tracing::span_enabled!(Level::TRACE)),
        ];
        [events, spans].map(|all| {
            all.into_iter().filter(|(_, enabled)| *enabled).map(|(level, _)| level).collect()
        })
    })
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output {
    /// Returns a `fmt` layer that writes here, spans too.
    fn layer<S>(&self, level: LevelFilter) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        self.unfiltered().with_filter(level)
    }

    fn unfiltered<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        let output = self.clone();
        fmt::layer()
            .with_ansi(false)
            .without_time()
            .with_span_events(fmt::format::FmtSpan::ENTER)
            .with_writer(move || output.clone())
    }

    /// Returns such a layer, or one without a filter.
    fn boxed<S>(&self, level: Option<LevelFilter>) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        match level {
            Some(level) => self.layer(level).boxed(),
            None => self.unfiltered().boxed(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
    }
}

#[test]
fn alone_it_enables_spans_up_to_its_level() {
    let _alone = one_at_a_time();
    let default = Registry::default().with(profiler_core::layer());
    assert_eq!(default.max_level_hint(), Some(LevelFilter::INFO));
    assert_eq!(enabled(default), [vec![], vec![Level::WARN, Level::INFO]]);
    for (level, expected) in [
        (LevelFilter::OFF, vec![]),
        (LevelFilter::WARN, vec![Level::WARN]),
        (LevelFilter::DEBUG, vec![Level::WARN, Level::INFO, Level::DEBUG]),
    ] {
        let layer = profiler_core::layer_with(LayerOptions::new().level(level));
        assert_eq!(enabled(Registry::default().with(layer)), [vec![], expected]);
    }
}

#[test]
fn beside_a_filtered_layer_it_adds_its_spans_only() {
    let _alone = one_at_a_time();
    let output = Output::default();
    let warn = LevelFilter::WARN;
    let expected = [vec![Level::WARN], vec![Level::WARN, Level::INFO]];
    let after = Registry::default().with(output.layer(warn)).with(profiler_core::layer());
    assert_eq!(enabled(after), expected);
    let before = Registry::default().with(profiler_core::layer()).with(output.layer(warn));
    assert_eq!(enabled(before), expected);
    // The other way round, tracing-subscriber 0.3 takes the level of the first alone.
    let joined = output.layer(warn).and_then(profiler_core::layer());
    assert_eq!(enabled(Registry::default().with(joined)), expected);
    // The check can fail: a layer without a filter enables everything.
    struct Unfiltered;
    impl<S: Subscriber> Layer<S> for Unfiltered {}
    let planted = Registry::default().with(output.layer(warn)).with(Unfiltered);
    assert_eq!(enabled(planted)[0].len(), 4);
}

#[test]
fn another_layer_sees_what_it_would_see_alone() {
    let _alone = one_at_a_time();
    for level in [LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE] {
        let (alone, beside) = (Output::default(), Output::default());
        let subscriber = Registry::default().with(alone.layer(level));
        tracing::subscriber::with_default(subscriber, dependency::work);
        let subscriber = Registry::default().with(beside.layer(level)).with(profiler_core::layer());
        tracing::subscriber::with_default(subscriber, dependency::work);
        assert_eq!(alone.text(), beside.text(), "{level}");
        assert!(alone.text().contains("warn event"), "{level}");
    }
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

/// Returns the layer in the places where its filter cannot be seen from outside, or comes later.
fn hidden<S>() -> Vec<Boxed<S>>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let ours = || profiler_core::layer::<S>().boxed();
    let brought = |layer: Option<Boxed<S>>| {
        let (place, handle) = reload::Layer::new(layer);
        handle.reload(Some(ours())).expect("it is there");
        // The layer looks dropped to the handle once that goes; the value stays.
        place.boxed()
    };
    vec![
        reload::Layer::new(ours()).0.boxed(),
        brought(None),
        brought(Some(ours())),
        vec![ours(), reload::Layer::new(ours()).0.boxed()].boxed(),
        ours().and_then(brought(None)).boxed(),
        brought(None).with_filter(LevelFilter::INFO).boxed(),
        reload::Layer::new(None::<Boxed<S>>).0.boxed(),
    ]
}

#[test]
fn another_layer_sees_what_it_would_see_alone_wherever_the_layer_is() {
    let _alone = one_at_a_time();
    fn text(layers: impl Subscriber + Send + Sync, output: &Output) -> String {
        tracing::subscriber::with_default(layers, dependency::work);
        output.text()
    }
    let levels = [None, Some(LevelFilter::WARN), Some(LevelFilter::INFO), Some(LevelFilter::DEBUG)];
    for level in levels {
        let alone = Output::default();
        let alone = text(Registry::default().with(alone.boxed(level)), &alone);
        assert!(alone.contains("warn event"), "{level:?}");
        for position in 0..hidden::<Registry>().len() {
            let check = |place: &str, seen: String| {
                assert_eq!(seen, alone, "{level:?}, {place} place {position}");
            };
            let output = Output::default();
            let above =
                Registry::default().with(output.boxed(level)).with(hidden().remove(position));
            check("above", text(above, &output));
            let output = Output::default();
            let below =
                Registry::default().with(hidden().remove(position)).with(output.boxed(level));
            check("below", text(below, &output));
            let output = Output::default();
            let tree = hidden().remove(position).and_then(output.boxed(level));
            check("in a tree", text(Registry::default().with(tree), &output));
            let output = Output::default();
            let tree = vec![output.boxed(level), hidden().remove(position)];
            check("in a vector", text(Registry::default().with(tree), &output));
        }
    }
}

#[test]
fn a_filter_for_all_layers_stands_above_it() {
    let _alone = one_at_a_time();
    let subscriber = Registry::default().with(LevelFilter::WARN).with(profiler_core::layer());
    assert_eq!(enabled(subscriber)[1], [Level::WARN]);
}

#[test]
fn spans_for_others_are_not_on_the_stack() {
    let _alone = one_at_a_time();
    profiler_core::start(Config::default()).expect("the only start");
    let output = Output::default();
    let subscriber =
        Registry::default().with(output.layer(LevelFilter::TRACE)).with(profiler_core::layer());
    tracing::subscriber::with_default(subscriber, || {
        let _outer = tracing::debug_span!("outer").entered();
        dependency::work();
        let _inner = tracing::info_span!("inner").entered();
        drop(profiler_core::span!("leaf"));
    });
    assert!(output.text().contains("debug_span"), "{}", output.text());
    let profile = profiler_core::snapshot_with(Kind::Spans, View::default()).expect("spans");
    let mut paths: Vec<Vec<_>> = profile
        .samples()
        .map(|sample| sample.frames().filter_map(|frame| frame.function).collect())
        .collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            vec!["layer_filter::dependency::info_span"],
            vec!["layer_filter::inner"],
            vec!["leaf", "layer_filter::inner"],
        ]
    );
}
