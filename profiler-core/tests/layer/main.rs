//! Where tracing spans stand on the span stack.
#![cfg(feature = "tracing")]

/// Marks where the thread stands; see [`check`].
macro_rules! here {
    () => {
        drop(profiler_core::span!("here"))
    };
}

mod both;
mod futures;
mod guards;
mod place;
mod wrapped;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context, Waker};
use std::thread;

use profiler_core::{Config, Kind, View};
use tracing::{Dispatch, Span};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

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

fn poll_once<F: Future>(future: Pin<&mut F>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

fn block_on<F: Future>(future: F) {
    let mut future = std::pin::pin!(future);
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
