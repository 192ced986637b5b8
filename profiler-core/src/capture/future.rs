//! Profiled futures: on the span stack, or under labels, while they are polled, not between.

#![allow(unsafe_code, reason = "pin projection to the one field that is pinned")]

use std::future::Future;
use std::hint;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::buffer::opened::Mark;
use crate::buffer::thread::Thread;
use crate::buffer::tree::Node;
use crate::callsite::CallSite;
use crate::capture::labels;
use crate::capture::{self, CallLabels, scope};
use crate::clock;
use crate::labels::{LabelPairs, Labels};

/// A future that stands on the span stack whenever it is polled.
///
/// It counts one call at its first poll; the time within polls is busy, the time between them idle.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct Profiled<F> {
    site: &'static CallSite,
    counted: bool,
    /// When the last poll ended, if the profiler was on.
    pending_since: Option<u64>,
    inner: F,
}

/// Makes a future that stands on the span stack whenever it is polled.
pub const fn future<F: Future>(site: &'static CallSite, inner: F) -> Profiled<F> {
    Profiled { site, counted: false, pending_since: None, inner }
}

impl<F: Future> Future for Profiled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `inner` is pinned and never moved; the other fields are not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let thread = capture::thread();
        let poll = thread.map(|thread| {
            scope::settle(thread);
            let poll = Polling { thread, before: thread.node(), mark: thread.opened.mark() };
            let node = scope::push(this.site, !this.counted);
            this.counted = true;
            if let (Some(since), Some(node)) = (this.pending_since.take(), node) {
                node.add_idle(clock::now().saturating_sub(since));
            }
            poll
        });
        // SAFETY: `this` came out of a pin.
        let inner = unsafe { Pin::new_unchecked(&mut this.inner) };
        // Not inlined here: without debug information its frame would be ours.
        let out_of_line: fn(Pin<&mut F>, &mut Context<'_>) -> Poll<F::Output> = F::poll;
        let result = hint::black_box(out_of_line)(inner, context);
        drop(poll);
        if result.is_pending() && thread.is_some() {
            this.pending_since = Some(clock::now());
        }
        result
    }
}

/// Goes back, at the end of a poll or when it panics, to where the thread was. A tracing span whose
/// guard is held over an await is off the path until the future enters one again.
struct Polling {
    thread: &'static Thread,
    before: &'static Node,
    mark: Mark,
}

impl Drop for Polling {
    fn drop(&mut self) {
        scope::restore(self.thread, self.before, self.mark);
    }
}

/// A future that has labels in force whenever it is polled.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct Labelled<F> {
    labels: Labels,
    inner: F,
}

/// Makes a future that has labels in force whenever it is polled.
pub fn labelled<F: Future>(labels: CallLabels, inner: F) -> Labelled<F> {
    Labelled { labels: labels.into_labels(), inner }
}

impl<F: Future> Future for Labelled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: `inner` is pinned and never moved; the labels are not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        let _restore = labels::put(this.labels.pairs());
        // SAFETY: `this` came out of a pin.
        let inner = unsafe { Pin::new_unchecked(&mut this.inner) };
        inner.poll(context)
    }
}
