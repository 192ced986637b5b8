//! Stands in for profiler-core: writes down what the attribute calls, and nothing else.

pub(crate) mod __private {
    use std::cell::RefCell;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub(crate) use profiler_core::__private::{CallSite, Name, output, profiled_last};

    thread_local! {
        static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Adds a line.
    pub(crate) fn log(line: impl Into<String>) {
        LOG.with_borrow_mut(|log| log.push(line.into()));
    }

    /// Takes all lines of this thread.
    pub(crate) fn take() -> Vec<String> {
        LOG.take()
    }

    pub(crate) struct Entered(&'static CallSite);

    pub(crate) fn enter(site: &'static CallSite) -> Entered {
        log(format!("enter {}", short(site)));
        Entered(site)
    }

    impl Drop for Entered {
        fn drop(&mut self) {
            log(format!("leave {}", short(self.0)));
        }
    }

    /// The last segment: whole names have a test of their own.
    fn short(site: &'static CallSite) -> &'static str {
        site.name().rsplit("::").next().unwrap_or_default()
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

    #[derive(Clone)]
    pub(crate) struct CallLabels(String);

    impl CallLabels {
        pub(crate) fn begin() -> Self {
            Self(String::new())
        }

        pub(crate) fn with(self, key: &'static str, value: &dyn std::fmt::Display) -> Self {
            Self(format!("{} {key}={value}", self.0))
        }
    }

    pub(crate) struct Restore(CallLabels);

    pub(crate) fn enter_labels(labels: CallLabels) -> Restore {
        log(format!("labels{}", labels.0));
        Restore(labels)
    }

    impl Drop for Restore {
        fn drop(&mut self) {
            log(format!("without{}", self.0.0));
        }
    }

    pub(crate) struct Labelled<F>(CallLabels, Pin<Box<F>>);

    pub(crate) fn labelled<F: Future>(labels: CallLabels, future: F) -> Labelled<F> {
        Labelled(labels, Box::pin(future))
    }

    impl<F: Future> Future for Labelled<F> {
        type Output = F::Output;
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
            let _labels = enter_labels(self.0.clone());
            self.1.as_mut().poll(context)
        }
    }
}

pub(crate) use __private::{log, take};
pub(crate) use profiler_core::profiled;

/// Polls until ready; what is polled here wakes itself.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// Is pending once.
pub(crate) async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
