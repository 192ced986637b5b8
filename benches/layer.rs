//! What the layer costs on a tracing span: made, entered, left, closed.

use std::hint::black_box;

use profiler_benches::{Case, compare};
use profiler_core::{Config, layer};
use tracing::Dispatch;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

/// A layer that does nothing at all.
struct Nothing;

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Nothing {}

fn spans(dispatch: &Dispatch) -> impl FnMut(u64) {
    move |n| {
        tracing::dispatcher::with_default(dispatch, || {
            for _ in 0..n {
                let span = tracing::info_span!("span");
                let _entered = span.enter();
                black_box(&span);
            }
        });
    }
}

fn main() {
    profiler_core::start(Config::default()).expect("the first start");
    let nothing = Dispatch::new(Registry::default().with(Nothing));
    let ours = Dispatch::new(Registry::default().with(layer()));
    compare(
        "A tracing span: new, enter, exit, close",
        &mut [
            Case::new("Registry with a layer that does nothing", spans(&nothing)),
            Case::new("Registry with `layer()`", spans(&ours)).budget("1.3 ×"),
        ],
    );
}
