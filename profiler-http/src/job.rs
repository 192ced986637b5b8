//! A request answered on a thread of its own, for whoever awaits it.
//!
//! Collecting takes milliseconds, and a difference takes as long as it is asked to: neither may
//! happen on a thread of the caller's runtime. The future and the thread share one place for the
//! response; dropping the future tells the thread that nobody waits any more.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::bound::Bound;
use crate::respond::{COLLECTIONS, Gone, Pause, Request, respond};
use crate::response::{Response, error};
use crate::workers::WORKERS;

/// Threads that answer at one time: the collections there may be, and as many small requests.
static THREADS: Bound = Bound::new(16);

/// The response of a request that is being answered.
#[derive(Debug)]
pub(crate) struct Job(Arc<Exchange>);

/// What the future and the thread share.
#[derive(Debug, Default)]
struct Exchange {
    state: Mutex<State>,
    dropped: Condvar,
}

#[derive(Debug, Default)]
struct State {
    response: Option<Response>,
    waker: Option<Waker>,
    dropped: bool,
}

impl Job {
    /// Starts to answer.
    ///
    /// # Errors
    ///
    /// The response if there is no thread for it.
    pub(crate) fn start(request: Request) -> Result<Self, Response> {
        let busy =
            || error(StatusCode::SERVICE_UNAVAILABLE, "too many requests, try again in a moment");
        let place = THREADS.take().ok_or_else(busy)?;
        let exchange = Arc::new(Exchange::default());
        let run = {
            let exchange = Arc::clone(&exchange);
            move || {
                let response = respond(&request, &COLLECTIONS, &*exchange);
                drop(place);
                exchange.complete(response);
            }
        };
        WORKERS.run(run).map_err(|_| busy())?;
        Ok(Self(exchange))
    }
}

impl Future for Job {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Response> {
        let mut state = self.0.state();
        if let Some(response) = state.response.take() {
            return Poll::Ready(response);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.state().dropped = true;
        self.0.dropped.notify_one();
    }
}

impl Exchange {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step; a waker that panics does so outside.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete(&self, response: Response) {
        let waker = {
            let mut state = self.state();
            state.response = Some(response);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Pause for Exchange {
    fn pause(&self, time: Duration) -> Result<(), Gone> {
        let deadline = Instant::now() + time;
        let mut state = self.state();
        while !state.dropped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let waited = self.dropped.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(Gone)
    }
}
