//! Together with `#[instrument]`: the profiler's frame is outside, and knows the span inside.

use std::cell::RefCell;

use profiler_core::profiled;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, info_span, instrument};

use self::__private::CallSite;
use super::runtime::block_on;

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static STACK: RefCell<Vec<&'static CallSite>> = const { RefCell::new(Vec::new()) };
}

/// Keeps a stack of call sites.
pub(crate) mod __private {
    use super::{LOG, STACK};
    pub(crate) use profiler_core::__private::{CallSite, Name, output, profiled_last};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub(crate) struct Entered;

    pub(crate) fn enter(site: &'static CallSite) -> Entered {
        STACK.with_borrow_mut(|stack| stack.push(site));
        let name = site.name().rsplit("::").next().unwrap_or_default();
        LOG.with_borrow_mut(|log| log.push(format!("profiled {name}")));
        Entered
    }

    impl Drop for Entered {
        fn drop(&mut self) {
            STACK.with_borrow_mut(Vec::pop);
        }
    }

    pub(crate) struct Measured<F>(&'static CallSite, Pin<Box<F>>);

    pub(crate) fn future<F: Future>(site: &'static CallSite, future: F) -> Measured<F> {
        Measured(site, Box::pin(future))
    }

    impl<F: Future> Future for Measured<F> {
        type Output = F::Output;
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
            let _entered = enter(self.0);
            self.1.as_mut().poll(context)
        }
    }
}

/// Logs spans, and whether the innermost call site owns them.
struct Spans;

thread_local! {
    static NAMES: RefCell<Vec<&'static Metadata<'static>>> = const { RefCell::new(Vec::new()) };
}

impl Subscriber for Spans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        NAMES.with_borrow_mut(|names| {
            names.push(span.metadata());
            Id::from_u64(names.len() as u64)
        })
    }
    fn enter(&self, id: &Id) {
        let index = usize::try_from(id.into_u64()).expect("made from a length") - 1;
        let span = NAMES.with_borrow(|names| names[index]);
        let site = STACK.with_borrow(|stack| stack.last().copied());
        let same = site.is_some_and(|site| site.is_span(span.file(), span.line()));
        let word = if same { "same" } else { "other" };
        LOG.with_borrow_mut(|log| log.push(format!("{word} {}", span.name())));
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn exit(&self, _: &Id) {}
}

#[track_caller]
fn check<R>(code: impl FnOnce() -> R, expected: &[&str]) {
    LOG.take();
    tracing::subscriber::with_default(Spans, code);
    assert_eq!(LOG.take(), expected);
}

#[test]
fn instrument_below_gives_one_frame() {
    #[profiled(crate = self)]
    #[instrument(fields(more = n))]
    fn work(n: u32) -> u32 {
        let _inner = info_span!("work").entered();
        n
    }
    check(|| work(1), &["profiled work", "same work", "other work"]);
}

#[test]
fn instrument_above_gives_one_frame() {
    #[instrument(name = "renamed", err)]
    #[profiled(crate = self)]
    /// With a line between.
    fn work(n: u32) -> Result<u32, u32> {
        let _inner = info_span!("inner").entered();
        Ok(n)
    }
    check(|| work(1), &["profiled work", "same renamed", "other inner"]);
}

#[test]
fn options_survive_the_change_of_order() {
    #[profiled(crate = self, name = "named",)]
    #[tracing::instrument]
    fn work() {}
    check(work, &["profiled named", "same work"]);
}

#[test]
fn an_instrument_behind_a_condition_is_seen() {
    #[profiled(crate = self)]
    #[cfg_attr(all(), instrument)]
    fn with() {}
    #[profiled(crate = self)]
    #[cfg_attr(any(), instrument)]
    fn without() {}
    check(with, &["profiled with", "same with"]);
    check(without, &["profiled without"]);
}

#[test]
fn futures_give_one_frame() {
    #[profiled(crate = self)]
    #[instrument(ret)]
    async fn below() -> u32 {
        1
    }
    #[instrument]
    #[profiled(crate = self)]
    async fn above() -> Result<u32, Box<dyn std::error::Error>> {
        Ok("1".parse()?)
    }
    // A span is entered once more to drop what it is around.
    check(|| block_on(below()), &["profiled below", "same below", "same below"]);
    check(|| block_on(above()).ok(), &["profiled above", "same above", "same above"]);
}

#[test]
fn methods_of_a_block_and_boxed_futures_give_one_frame() {
    #[async_trait::async_trait]
    trait Job {
        async fn work(&self) -> u32;
    }
    #[derive(Debug)]
    struct Print;
    #[profiled(crate = self)]
    #[async_trait::async_trait]
    impl Job for Print {
        #[instrument]
        async fn work(&self) -> u32 {
            self.sync()
        }
    }
    #[profiled(crate = self)]
    impl Print {
        #[instrument]
        fn sync(&self) -> u32 {
            1
        }
    }
    let calls = ["profiled work", "same work", "profiled sync", "same sync", "same work"];
    check(|| block_on(Print.work()), &calls);
}

#[test]
fn functions_of_one_macro_are_told_apart() {
    macro_rules! make {
        ($($name:ident calls $body:expr;)*) => {$(
            #[profiled(crate = self)]
            #[instrument]
            fn $name() { $body }
        )*};
    }
    make! {
        outer calls inner();
        inner calls ();
    }
    check(outer, &["profiled outer", "same outer", "profiled inner", "same inner"]);
}
