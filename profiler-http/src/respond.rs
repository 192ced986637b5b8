//! From a request that has found its resource to the response: no socket and no thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, StatusCode};
use profiler_core::{Capture, Kind, Profile, Read, TextForm, Unavailable, View};

use crate::bound::{Bound, Place};
use crate::params::{CaptureParams, Params, Query};
use crate::path::{Resource, Route};
use crate::response::{Content, Response, add_comments, attachment, error, ok};
use crate::{index, memory, symbol};

/// How many requests may collect at one time, in the whole process. Each may hold a profile or two
/// in memory; scrapers ask for five kinds, and people want to look as well.
pub(crate) static COLLECTIONS: Bound = Bound::new(8);

/// How long one request may look for names: all of a profile take less than a second, but a list of
/// made-up addresses could take minutes.
const SYMBOL_TIME: Duration = Duration::from_secs(10);

/// Waiting, on behalf of a client who may go away.
pub(crate) trait Pause {
    /// Returns after that time, or as soon as the client is gone.
    fn pause(&self, time: Duration) -> Result<(), Gone>;
}

/// The client does not want the response any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// The longest body that is read: 50,000 addresses for [`symbol`], more than a profile has.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// A request that has found its resource.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) route: Route,
    pub(crate) method: Method,
    pub(crate) query: String,
    /// Empty unless it is a POST.
    pub(crate) body: Bytes,
}

/// Answers a request; takes as long as its `seconds` say.
pub(crate) fn respond(request: &Request, collections: &Bound, pause: &dyn Pause) -> Response {
    // A panic here would be our own; the application and the next request shall not notice.
    catch_unwind(AssertUnwindSafe(|| answer(request, collections, pause)))
        .unwrap_or_else(|_| failed())
}

fn answer(request: &Request, collections: &Bound, pause: &dyn Pause) -> Response {
    let answer = match &request.route.resource {
        Resource::Index => return ok(Content::Html, page(request.route.stripped)),
        Resource::Cmdline => return ok(Content::Text, command_line()),
        Resource::Symbol => collecting(collections).map(|_place| {
            let input = if request.method == Method::POST {
                request.body.as_ref()
            } else {
                request.query.as_bytes()
            };
            ok(Content::Text, symbol::answer(input, within(SYMBOL_TIME, profiler_core::symbol)))
        }),
        Resource::Profile(name) => profile(name, Query(&request.query), collections, pause),
    };
    answer.unwrap_or_else(|response| response)
}

fn page(stripped: bool) -> String {
    let kinds: Vec<_> =
        profiler_core::kinds().into_iter().map(|kind| (kind, profiler_core::count(kind))).collect();
    let memory = profiler_core::memory();
    // Without the allocator this is said at once, and nothing is collected.
    let unavailable = memory
        .allocations
        .is_none()
        .then(|| profiler_core::snapshot(Kind::Heap).err())
        .flatten()
        .map(|unavailable| unavailable.to_string());
    let memory = memory::section(&memory, unavailable.as_deref(), stripped);
    index::page(&kinds, &memory, &profiler_core::stats(), stripped)
}

fn command_line() -> Vec<u8> {
    let arguments: Vec<_> =
        std::env::args_os().map(std::ffi::OsString::into_encoded_bytes).collect();
    arguments.join(&0)
}

/// Looks addresses up until the time is over; the rest stays without names.
fn within(
    time: Duration,
    symbol: impl Fn(u64) -> Option<String>,
) -> impl FnMut(u64) -> Option<String> {
    let start = Instant::now();
    move |address| if start.elapsed() < time { symbol(address) } else { None }
}

fn profile(
    name: &str,
    query: Query<'_>,
    collections: &Bound,
    pause: &dyn Pause,
) -> Result<Response, Response> {
    let kind = profiler_core::kinds()
        .into_iter()
        .find(|kind| kind.name() == name)
        .ok_or_else(|| error(StatusCode::NOT_FOUND, "Unknown profile"))?;
    let view = profiler_core::default_view();
    let description = kind.description();
    if description.read == Read::Interval {
        return capture(kind, query, view, collections, pause);
    }
    let Params { delta, debug, gc, view } = Params::read(query, description.delta, view)
        .map_err(|message| error(StatusCode::BAD_REQUEST, &message))?;

    let _place = collecting(collections)?;
    if let Some(time) = delta {
        let difference = difference(kind, view, time, pause)?;
        return Ok(attachment(&format!("{name}-delta"), binary(&difference)?));
    }
    if kind == Kind::Goroutine && debug >= 2 {
        return written(|body| profiler_core::write_threads(body))
            .map(|body| ok(Content::Text, body));
    }
    if gc && kind == Kind::Heap {
        profiler_core::release_memory();
    }
    let profile = collect(kind, view)?;
    match debug {
        0 => {
            let mut response = attachment(name, binary(&profile)?);
            add_comments(&mut response, "x-profiler-remark", profile.comments());
            Ok(response)
        }
        // Odd, but what Go does: the binary form, said to be text.
        ..0 if description.text != TextForm::Heap => Ok(ok(Content::Text, binary(&profile)?)),
        _ => written(|body| profile.write_text(body)).map(|body| ok(Content::Text, body)),
    }
}

fn capture(
    kind: Kind,
    query: Query<'_>,
    view: View,
    collections: &Bound,
    pause: &dyn Pause,
) -> Result<Response, Response> {
    let CaptureParams { time, rate, text, view } = CaptureParams::read(query, view)
        .map_err(|message| error(StatusCode::BAD_REQUEST, &message))?;
    let _place = collecting(collections)?;
    let capture = Capture::start_with(kind, rate).map_err(|reason| unavailable(&reason))?;
    pause.pause(time).map_err(gone)?;
    let profile = capture.finish_with(view);
    let mut response = if text {
        ok(Content::Text, written(|body| profile.write_text(body))?)
    } else {
        attachment(kind.name(), binary(&profile)?)
    };
    add_comments(&mut response, "x-profiler-capture", profile.comments());
    Ok(response)
}

fn difference(
    kind: Kind,
    view: View,
    time: Duration,
    pause: &dyn Pause,
) -> Result<Profile, Response> {
    let earlier = collect(kind, view)?;
    pause.pause(time).map_err(gone)?;
    Ok(collect(kind, view)?.since(&earlier))
}

fn collecting(collections: &Bound) -> Result<Place<'_>, Response> {
    collections.take().ok_or_else(|| {
        let limit = collections.limit();
        let message = format!(
            "too many concurrent collections: {limit} are running, try again when one has ended"
        );
        error(StatusCode::SERVICE_UNAVAILABLE, &message)
    })
}

fn collect(kind: Kind, view: View) -> Result<Profile, Response> {
    profiler_core::snapshot_with(kind, view).map_err(|reason| unavailable(&reason))
}

fn unavailable(reason: &Unavailable) -> Response {
    error(StatusCode::NOT_IMPLEMENTED, &reason.to_string())
}

fn gone(Gone: Gone) -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "context canceled")
}

fn binary(profile: &Profile) -> Result<Vec<u8>, Response> {
    written(|body| profile.write_to(body))
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Result<Vec<u8>, Response> {
    let mut body = Vec::new();
    write(&mut body).map_err(|_| failed())?;
    Ok(body)
}

/// Returns the answer to a body that is longer than [`MAX_BODY`].
pub(crate) fn body_too_large() -> Response {
    error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large: at most 1 MiB is read")
}

fn failed() -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "failed to collect profile")
}

#[cfg(test)]
mod tests;
