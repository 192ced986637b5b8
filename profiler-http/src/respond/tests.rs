use std::alloc::System;
use std::cell::Cell;

use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use profiler_core::{Config, CustomProfile, ProfiledAllocator};

use super::*;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> =
    ProfiledAllocator::with_release(System, || RELEASED.set(RELEASED.get() + 1));

thread_local! {
    /// How often this thread had the allocator give memory back.
    static RELEASED: Cell<u32> = const { Cell::new(0) };
}

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

const BINARY: &str = "application/octet-stream";
const TEXT: &str = "text/plain; charset=utf-8";

static CUSTOM: CustomProfile = CustomProfile::new("my/custom.things");

fn is_gzip(response: &Response) -> bool {
    response.body().starts_with(&[0x1f, 0x8b])
}

#[test]
fn every_profile_comes_in_the_binary_form_and_as_text() {
    let _entry = CUSTOM.enter();
    let kinds = profiler_core::kinds();
    for kind in kinds.iter().filter(|kind| kind.description().read != Read::Interval) {
        let name = kind.name();
        let disposition = format!("attachment; filename=\"{name}\"");
        assert!(is_gzip(&success(name, BINARY, Some(&disposition))), "{name}");
        assert!(!is_gzip(&success(&format!("{name}?debug=1"), TEXT, None)), "{name}");
        assert!(!is_gzip(&success(&format!("{name}?debug=3"), TEXT, None)), "{name}");
        // Odd, but what Go does: the heap is text, the others are the binary form said to be text.
        let below_zero = success(&format!("{name}?debug=-1"), TEXT, None);
        assert_eq!(is_gzip(&below_zero), !["allocs", "heap"].contains(&name), "{name}");
    }
}

#[test]
fn the_custom_profile_is_found_by_its_whole_name() {
    let _entry = CUSTOM.enter();
    success("my/custom.things", BINARY, Some("attachment; filename=\"my/custom.things\""));
    failure("my", 404, "Unknown profile");
    failure(
        "my/custom.things?seconds=1",
        400,
        "\"seconds\" parameter is not supported for this profile type",
    );
}

#[test]
fn every_built_in_profile_gives_a_difference() {
    for kind in Kind::ALL.iter().filter(|kind| kind.description().delta) {
        let name = kind.name();
        let disposition = format!("attachment; filename=\"{name}-delta\"");
        assert!(is_gzip(&success(&format!("{name}?seconds=1"), BINARY, Some(&disposition))));
    }
}

#[test]
fn time_is_captured_for_as_long_as_it_is_asked_to() {
    for (query, seconds) in
        [("", 30), ("?seconds=0", 30), ("?seconds=1.5", 30), ("?seconds=7&hz=10000", 7)]
    {
        let fake = Fake { gone: false, waited: Cell::new(None) };
        let response = get_with(&format!("profile{query}"), &Bound::new(1), &fake);
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        assert_eq!(fake.waited.get(), Some(Duration::from_secs(seconds)), "{query}");
        assert_eq!(header(&response, CONTENT_TYPE), Some(BINARY));
        let disposition = Some("attachment; filename=\"profile\"");
        assert_eq!(header(&response, CONTENT_DISPOSITION), disposition);
        let comment = header(&response, "x-profiler-capture").expect("it says how true it is");
        assert!(comment.contains("0 samples lost"), "{comment}");
    }
    let fake = Fake { gone: false, waited: Cell::new(None) };
    let response = get_with("wall?seconds=7&idle=1&labels=state", &Bound::new(1), &fake);
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(fake.waited.get(), Some(Duration::from_secs(7)));
    assert!(is_gzip(&response));
    for kind in ["profile", "wall"] {
        let response = get_with(&format!("{kind}?seconds=7&debug=1"), &Bound::new(1), &fake);
        assert_eq!(header(&response, CONTENT_TYPE), Some("text/plain; charset=utf-8"));
        assert_eq!(header(&response, CONTENT_DISPOSITION), None);
        let text = String::from_utf8_lossy(response.body());
        assert!(text.starts_with(&format!("# {kind}: ")), "{text}");
        assert!(text.contains("# Folded stacks, in nanoseconds:\n"), "{text}");
    }
    let fake = Fake { gone: true, waited: Cell::new(None) };
    for kind in ["profile", "wall"] {
        let response = get_with(kind, &Bound::new(1), &fake);
        assert_eq!(response.body(), "context canceled\n");
    }
    failure(
        "profile?hz=0",
        400,
        r#"invalid value "0" for "hz" - must be a whole number from 1 to 10000"#,
    );
    failure("profile?seconds=3601", 400, r#"invalid value for "seconds" - must be at most 3600"#);
}

#[test]
fn memory_is_given_back_before_the_heap_is_read_and_nothing_else() {
    let releases = |target: &str| {
        let before = RELEASED.get();
        assert_eq!(get(target).status(), StatusCode::OK, "{target}");
        RELEASED.get() - before
    };
    assert_eq!(releases("heap?gc=1"), 1);
    assert_eq!(releases("heap?gc=2&debug=1"), 1);
    for target in ["heap", "heap?gc=0", "heap?gc=x", "heap?gc=1&seconds=1"] {
        assert_eq!(releases(target), 0, "{target}");
    }
    for name in profiler_core::kinds().iter().map(|kind| kind.name()).filter(|it| *it != "heap") {
        assert_eq!(releases(&format!("{name}?gc=1")), 0, "{name}");
    }
}

#[test]
fn threads_are_told_one_by_one_with_debug_2() {
    success("goroutine?debug=2", TEXT, None);
}

#[test]
fn the_small_endpoints_answer() {
    let index = success("", "text/html; charset=utf-8", None);
    assert!(String::from_utf8_lossy(index.body()).contains("Types of profiles available:"));
    assert!(String::from_utf8_lossy(index.body()).contains("<td>live: what Rust allocated"));
    let cmdline = success("cmdline", TEXT, None);
    let first = std::env::args_os().next().unwrap().into_encoded_bytes();
    assert!(cmdline.body().starts_with(&first));
    assert_ne!(cmdline.body().last(), Some(&0));
    assert_eq!(success("symbol", TEXT, None).body(), "num_symbols: 1\n");
}

#[test]
fn symbol_names_our_own_functions() {
    // A function pointer is the first address of a function.
    let address = (is_gzip as fn(&Response) -> bool) as usize;
    let response = success(&format!("symbol?{address:#x}"), TEXT, None);
    let text = String::from_utf8_lossy(response.body());
    let line = text.lines().nth(1).unwrap_or_else(|| panic!("no name in {text:?}"));
    assert!(line.starts_with(&format!("{address:#x} _")), "{line}");
    assert!(line.contains("is_gzip"), "{line}");
}

#[test]
fn names_are_looked_for_only_so_long() {
    let name = |_| Some("f".to_owned());
    assert_eq!(within(Duration::from_mins(10), name)(1), name(1));
    assert_eq!(within(Duration::ZERO, name)(1), None);
}

#[test]
fn errors_are_those_of_go() {
    let positive = r#"invalid value for "seconds" - must be a positive integer"#;
    failure("<script>scripty<script>", 404, "Unknown profile");
    failure("mutex/", 404, "Unknown profile");
    failure("mutex?seconds=x", 400, positive);
    failure("mutex?seconds=0&debug=1", 400, positive);
    failure("mutex?seconds=1&debug=1", 400, "seconds and debug params are incompatible");
}

#[test]
fn our_own_parameters_name_what_they_take() {
    failure("mutex?stack=x", 400, r#"invalid value "x" for "stack" - must be native or logical"#);
    success(
        "mutex?stack=logical&labels=all&symbols=none",
        BINARY,
        Some(r#"attachment; filename="mutex""#),
    );
}

#[test]
fn a_difference_waits_as_long_as_it_is_asked_to() {
    let fake = Fake { gone: false, waited: Cell::new(None) };
    get_with("mutex?seconds=7", &Bound::new(1), &fake);
    assert_eq!(fake.waited.get(), Some(Duration::from_secs(7)));
}

#[test]
fn a_client_that_goes_away_leaves_its_place() {
    let fake = Fake { gone: true, waited: Cell::new(None) };
    let collections = Bound::new(1);
    let response = get_with("mutex?seconds=7", &collections, &fake);
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(response.body(), "context canceled\n");
    assert!(collections.take().is_some());
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
