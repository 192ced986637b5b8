//! The same endpoints as a service for the application's own server.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Method, StatusCode};

use crate::access::{Access, Guard};
use crate::body::Body;
use crate::environment::Environment;
use crate::error::{ServeError, start_profiler};
use crate::job::Job;
use crate::params::Query;
use crate::path::{Mount, route};
use crate::respond::{MAX_BODY, Request, body_too_large};
use crate::response::{Response, error, finish, plain};

/// Makes a service that answers as [`serve`](crate::serve) does, for axum, hyper, tonic and
/// whatever else takes a [`tower_service::Service`].
///
/// It can be mounted at `/debug/pprof`, by a router that takes the prefix away or by one that
/// leaves it, or behind another prefix that is taken away. The profiler is started as
/// [`serve`](crate::serve) starts it. With `PROFILER_DISABLED=1` every request is answered 503.
///
/// ```
/// # fn main() -> Result<(), profiler_http::ServeError> {
/// let profiles = profiler_http::service(profiler_http::Access::token("open sesame"))?;
/// let router: axum::Router = axum::Router::new().nest_service("/debug/pprof", profiles);
/// # drop(router);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// A token that no request can show, or an environment variable that cannot be used.
#[track_caller]
pub fn service(access: Access) -> Result<Service, ServeError> {
    let Environment::Enabled { token, .. } = Environment::read()? else {
        return Ok(Service { guard: None });
    };
    let token = token.or(access.into_token()?);
    start_profiler()?;
    Ok(Service { guard: Some(Arc::new(Guard { token, loopback: false })) })
}

/// The profiles as a [`tower_service::Service`]; made by [`service`].
///
/// It never blocks: profiles are collected on threads of the profiler. It needs no runtime of a
/// certain kind, and dropping the future ends the work.
#[derive(Debug, Clone)]
pub struct Service {
    /// Nothing if `PROFILER_DISABLED=1`.
    guard: Option<Arc<Guard>>,
}

impl<B: http_body::Body> tower_service::Service<http::Request<B>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> ResponseFuture<B> {
        let (parts, body) = request.into_parts();
        let method = parts.method.clone();
        let step = self.first_step(parts, body).unwrap_or_else(|it| Step::Done(Some(it)));
        ResponseFuture { method, step }
    }
}

impl Service {
    fn first_step<B>(&self, parts: http::request::Parts, body: B) -> Result<Step<B>, Response> {
        let Some(guard) = &self.guard else {
            return Err(error(
                StatusCode::SERVICE_UNAVAILABLE,
                "the profiler is switched off by PROFILER_DISABLED",
            ));
        };
        guard.check(&parts.headers)?;
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let route = route(Mount::Anywhere, &parts.method, parts.uri.path(), Query(&query))?;
        let posted = parts.method == Method::POST;
        let request = Request { route, method: parts.method, query, body: Bytes::new() };
        Ok(if posted {
            Step::Read { request, body: Box::pin(body), read: Vec::new() }
        } else {
            Step::Start(Some(request))
        })
    }
}

/// The response of [`Service`], to be awaited.
pub struct ResponseFuture<B> {
    method: Method,
    step: Step<B>,
}

enum Step<B> {
    /// The body is needed, and comes.
    Read { request: Request, body: Pin<Box<B>>, read: Vec<u8> },
    /// Everything is there.
    Start(Option<Request>),
    /// A thread works on it.
    Run(Job),
    /// The response, until it is taken.
    Done(Option<Response>),
}

impl<B> std::fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let step = match self.step {
            Step::Read { .. } => "reading the body",
            Step::Start(_) => "not started",
            Step::Run(_) => "collecting",
            Step::Done(_) => "done",
        };
        f.debug_struct("ResponseFuture")
            .field("method", &self.method)
            .field("step", &format_args!("{step}"))
            .finish()
    }
}

impl<B: http_body::Body> Future for ResponseFuture<B> {
    type Output = Result<http::Response<Body>, Infallible>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match &mut self.step {
                Step::Read { request, body, read } => {
                    match ready!(poll_body(body.as_mut(), read, context)) {
                        Ok(()) => {
                            request.body = std::mem::take(read).into();
                            Step::Start(Some(request.clone()))
                        }
                        Err(response) => Step::Done(Some(response)),
                    }
                }
                Step::Start(request) => match request.take().map(Job::start) {
                    Some(Ok(job)) => Step::Run(job),
                    Some(Err(response)) => Step::Done(Some(response)),
                    None => Step::Done(None),
                },
                Step::Run(job) => Step::Done(Some(ready!(Pin::new(job).poll(context)))),
                Step::Done(response) => {
                    let response = response.take().expect("polled again after it was ready");
                    return Poll::Ready(Ok(finish(response, &self.method).map(Body::from)));
                }
            };
            self.step = next;
        }
    }
}

/// Reads a body to its end, if that is not too far.
fn poll_body<B: http_body::Body>(
    mut body: Pin<&mut B>,
    read: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Poll<Result<(), Response>> {
    while let Some(frame) = ready!(body.as_mut().poll_frame(context)) {
        let Ok(frame) = frame else {
            return Poll::Ready(Err(plain(
                StatusCode::BAD_REQUEST,
                "400 Bad Request: the body cannot be read",
            )));
        };
        // Trailers are not looked at.
        if let Ok(mut part) = frame.into_data() {
            if part.remaining() > MAX_BODY - read.len() {
                return Poll::Ready(Err(body_too_large()));
            }
            while part.has_remaining() {
                let chunk = part.chunk();
                read.extend_from_slice(chunk);
                let length = chunk.len();
                part.advance(length);
            }
        }
    }
    Poll::Ready(Ok(()))
}
