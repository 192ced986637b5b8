use std::cell::Cell;

use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use profiler_core::Config;

use super::*;

/// Waits no time, or finds the client gone.
struct Fake {
    gone: bool,
    waited: Cell<Option<Duration>>,
}

impl Pause for Fake {
    fn pause(&self, time: Duration) -> Result<(), Gone> {
        self.waited.set(Some(time));
        if self.gone { Err(Gone) } else { Ok(()) }
    }
}

fn get(target: &str) -> Response {
    let fake = Fake { gone: false, waited: Cell::new(None) };
    get_with(target, &Bound::new(1), &fake)
}

fn get_with(target: &str, collections: &Bound, pause: &dyn Pause) -> Response {
    // Whichever test is first starts it; there is one in a process.
    let _ = profiler_core::start(Config::default());
    let (name, query) = target.split_once('?').unwrap_or((target, ""));
    let resource = match name {
        "" => Resource::Index,
        "cmdline" => Resource::Cmdline,
        "symbol" => Resource::Symbol,
        name => Resource::Profile(name.to_owned()),
    };
    let request = Request {
        route: Route { resource, stripped: false },
        method: Method::GET,
        query: query.to_owned(),
        body: Bytes::new(),
    };
    respond(&request, collections, pause)
}

fn header(response: &Response, name: impl http::header::AsHeaderName) -> Option<&str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// Checks a success: its type, and the name under which it is saved.
#[track_caller]
fn success(target: &str, content: &str, disposition: Option<&str>) -> Response {
    let response = get(target);
    assert_eq!(response.status(), StatusCode::OK, "{target}: {:?}", response.body());
    assert_eq!(header(&response, CONTENT_TYPE), Some(content), "{target}");
    assert_eq!(header(&response, CONTENT_DISPOSITION), disposition, "{target}");
    assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), Some("nosniff"), "{target}");
    assert_eq!(header(&response, "x-go-pprof"), None, "{target}");
    response
}

/// Checks an error of the profiler: status and message.
#[track_caller]
fn failure(target: &str, status: u16, message: &str) {
    let response = get(target);
    assert_eq!(response.status().as_u16(), status, "{target}");
    assert_eq!(response.body(), format!("{message}\n").as_bytes(), "{target}");
    assert_eq!(header(&response, CONTENT_TYPE), Some("text/plain; charset=utf-8"), "{target}");
    assert_eq!(header(&response, CONTENT_DISPOSITION), None, "{target}");
    assert_eq!(header(&response, X_CONTENT_TYPE_OPTIONS), Some("nosniff"), "{target}");
    assert_eq!(header(&response, "x-go-pprof"), Some("1"), "{target}");
}

const TEXT: &str = "text/plain; charset=utf-8";

#[test]
fn threads_are_told_one_by_one_with_debug_2() {
    success("goroutine?debug=2", TEXT, None);
}

#[test]
fn the_small_endpoints_answer() {
    let index = success("", "text/html; charset=utf-8", None);
    assert!(String::from_utf8_lossy(index.body()).contains("Types of profiles available:"));
    let cmdline = success("cmdline", TEXT, None);
    let first = std::env::args_os().next().unwrap().into_encoded_bytes();
    assert!(cmdline.body().starts_with(&first));
    assert_ne!(cmdline.body().last(), Some(&0));
    assert_eq!(success("symbol", TEXT, None).body(), "num_symbols: 1\n");
}

#[test]
fn errors_are_those_of_go() {
    let positive = r#"invalid value for "seconds" - must be a positive integer"#;
    failure("<script>scripty<script>", 404, "Unknown profile");
    failure("mutex/", 404, "Unknown profile");
    failure("profile?seconds=x", 404, "Unknown profile");
    failure("mutex?seconds=x", 400, positive);
    failure("mutex?seconds=0&debug=1", 400, positive);
    failure("mutex?seconds=1&debug=1", 400, "seconds and debug params are incompatible");
}

#[test]
fn our_own_parameters_name_what_they_take() {
    failure("mutex?stack=x", 400, r#"invalid value "x" for "stack" - must be native or logical"#);
}

#[test]
fn collections_are_bounded_but_looking_around_is_not() {
    let fake = Fake { gone: false, waited: Cell::new(None) };
    let collections = Bound::new(1);
    let _place = collections.take();
    let status = |target| get_with(target, &collections, &fake).status().as_u16();
    assert_eq!(status("mutex"), 503);
    assert_eq!(status("goroutine?debug=2"), 503);
    assert_eq!(status("symbol"), 503);
    assert_eq!(status("nothing"), 404);
    assert_eq!(status("mutex?seconds=x"), 400);
    assert_eq!(status(""), 200);
    assert_eq!(status("cmdline"), 200);
}
