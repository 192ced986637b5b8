//! Paths: what a request means.

use http::Method;
use http::StatusCode;

use crate::params::Query;
use crate::percent::{Plus, decode, encode_path};
use crate::response::{Response, method_not_allowed, plain, redirect};

/// Where everything is found.
pub(crate) const ROOT: &str = "/debug/pprof/";
/// Where scrapers look for wall-clock time, which Go has from elsewhere.
const FGPROF: &str = "/debug/fgprof";

/// The parameter by which the index of a mounted service names what its links lead to.
const SHOW: &str = "show";

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    Index,
    Cmdline,
    Symbol,
    /// Everything else that stands below the root; the name may hold slashes.
    Profile(String),
}

/// Which paths are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mount {
    /// Those below [`ROOT`]: we are the server.
    Root,
    /// All of them: a router sends us what is ours, and may have taken its prefix away.
    Anywhere,
}

/// A resource, and how its path was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) resource: Resource,
    /// Whether the path came without [`ROOT`].
    pub(crate) stripped: bool,
}

/// Finds the resource of a path, given as it was sent.
///
/// # Errors
///
/// The response that ends the request here: a redirect, or that nothing is found, or that the
/// method is not allowed.
pub(crate) fn route(
    mount: Mount,
    method: &Method,
    path: &str,
    query: Query<'_>,
) -> Result<Route, Response> {
    let clean = clean(path);
    let Some(decoded) = decode(&clean, Plus::Itself) else {
        return Err(plain(
            StatusCode::BAD_REQUEST,
            "400 Bad Request: a % in the path must be followed by two hexadecimal digits",
        ));
    };
    let reading = method == Method::GET || method == Method::HEAD;
    let to = |path: &str| {
        let question = if query.0.is_empty() { "" } else { "?" };
        redirect(&format!("{path}{question}{}", query.0), method)
    };

    let (name, stripped) = if let Some(name) = decoded.strip_prefix(ROOT) {
        if clean != path {
            return Err(to(&clean));
        }
        (name, false)
    } else if decoded == FGPROF {
        ("wall", false)
    } else if decoded == ROOT.trim_end_matches('/') {
        return Err(if reading { to(ROOT) } else { method_not_allowed(READ) });
    } else {
        match mount {
            Mount::Anywhere => (below_debug(decoded.trim_start_matches('/')), true),
            // A person who types only the address gets to the index.
            Mount::Root if decoded == "/" && reading => return Err(to(ROOT)),
            Mount::Root => return Err(plain(StatusCode::NOT_FOUND, "404 page not found")),
        }
    };
    let shown = if stripped && name.is_empty() { query.first(SHOW) } else { String::new() };
    let resource = match if shown.is_empty() { name } else { &shown } {
        "" => Resource::Index,
        "cmdline" => Resource::Cmdline,
        "symbol" => Resource::Symbol,
        name => Resource::Profile(name.to_owned()),
    };
    match resource {
        _ if reading => {}
        // Go answers 405 here, and its tool then gives up the whole report.
        Resource::Symbol if method == Method::POST => {}
        Resource::Symbol => return Err(method_not_allowed("GET, HEAD, POST")),
        _ => return Err(method_not_allowed(READ)),
    }
    Ok(Route { resource, stripped })
}

/// Returns the name of what a path leads to that a router has taken its prefix from: all of it, or `/debug` alone.
fn below_debug(name: &str) -> &str {
    match name {
        "fgprof" => "wall",
        "pprof" => "",
        name => name.strip_prefix("pprof/").unwrap_or(name),
    }
}

/// Returns the address of a resource with that query, relative to the page, as it stands in HTML.
pub(crate) fn link(name: &str, query: &str, stripped: bool) -> String {
    let name = encode_path(name);
    match (stripped, query) {
        (false, "") => name,
        (false, query) => format!("{name}?{query}"),
        (true, "") => format!("?{SHOW}={name}"),
        (true, query) => format!("?{SHOW}={name}&amp;{query}"),
    }
}

const READ: &str = "GET, HEAD";

/// Takes out empty segments, `.` and `..`; a slash at the end stays.
fn clean(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn cleaned(path: &str, expected: &str) {
        assert_eq!(clean(path), expected, "{path}");
    }

    #[track_caller]
    fn check(mount: Mount, request: &str, expected: &str) {
        let (method, target) = request.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let found = match route(mount, &method, path, Query(query)) {
            Ok(Route { resource, stripped: false }) => format!("{resource:?}"),
            Ok(Route { resource, stripped: true }) => format!("{resource:?}, stripped"),
            Err(response) => {
                let header =
                    |name| response.headers().get(name).map_or("", |value| value.to_str().unwrap());
                let more = format!("{}{}", header("location"), header("allow"));
                format!("{} {more}", response.status().as_u16()).trim_end().to_owned()
            }
        };
        assert_eq!(found, expected, "{request}");
    }

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        cleaned("", "/");
        cleaned("/", "/");
        cleaned("//", "/");
        cleaned("/a//b", "/a/b");
        cleaned("/a/./b/", "/a/b/");
        cleaned("/a/../b", "/b");
        cleaned("/../a", "/a");
        cleaned("/a/..", "/");
        cleaned("/a/.", "/a");
    }

    #[test]
    fn the_server_answers_below_its_root() {
        let check = |request, expected| check(Mount::Root, request, expected);
        check("GET /debug/pprof/", "Index");
        check("HEAD /debug/pprof/", "Index");
        check("GET /debug/pprof/mutex", r#"Profile("mutex")"#);
        check("GET /debug/pprof/%6Dutex", r#"Profile("mutex")"#);
        check("GET /debug/pprof/mutex/", r#"Profile("mutex/")"#);
        check("GET /debug/pprof/my/custom.things", r#"Profile("my/custom.things")"#);
        check("GET /debug/fgprof?seconds=3", r#"Profile("wall")"#);
        check("POST /debug/fgprof", "405 GET, HEAD");
        check("GET /debug/fgprof/", "404");
        check("GET /debug/pprof/cmdline", "Cmdline");
        check("GET /debug/pprof/symbol", "Symbol");
        check("POST /debug/pprof/symbol", "Symbol");
        check("GET /debug/pprof", "307 /debug/pprof/");
        check("HEAD /debug/pprof?x=1", "307 /debug/pprof/?x=1");
        check("GET /debug/pprof//mutex?debug=1", "307 /debug/pprof/mutex?debug=1");
        check("GET /debug/pprof/./%6Dutex", "307 /debug/pprof/%6Dutex");
        check("GET /debug/x/../pprof/gr\u{fc}n", "307 /debug/pprof/gr%C3%BCn");
        check("GET /", "307 /debug/pprof/");
        check("GET /favicon.ico", "404");
        check("GET /debug/pprofx", "404");
        check("GET //\\example.org/", "404");
        check("GET /debug/pprof/%zz", "400");
    }

    #[test]
    fn other_methods_are_told_which_ones_there_are() {
        let check = |request, expected| check(Mount::Root, request, expected);
        check("POST /debug/pprof/", "405 GET, HEAD");
        check("POST /debug/pprof", "405 GET, HEAD");
        check("POST /debug/pprof/nothing", "405 GET, HEAD");
        check("DELETE /debug/pprof/mutex", "405 GET, HEAD");
        check("OPTIONS /debug/pprof/mutex", "405 GET, HEAD");
        check("PUT /debug/pprof/symbol", "405 GET, HEAD, POST");
    }

    #[test]
    fn a_mounted_service_takes_paths_with_and_without_its_prefix() {
        let check = |request, expected| check(Mount::Anywhere, request, expected);
        check("GET /debug/pprof/", "Index");
        check("GET /debug/pprof", "307 /debug/pprof/");
        check("GET /debug/pprof/mutex", r#"Profile("mutex")"#);
        check("GET /debug/fgprof", r#"Profile("wall")"#);
        check("GET /", "Index, stripped");
        check("GET /?show=", "Index, stripped");
        check("GET /?show=mutex&debug=1", r#"Profile("mutex"), stripped"#);
        check("GET /?show=cmdline", "Cmdline, stripped");
        check("GET /?show=my/custom+things", r#"Profile("my/custom things"), stripped"#);
        check("POST /?show=mutex", "405 GET, HEAD");
        check("GET /mutex?show=block", r#"Profile("mutex"), stripped"#);
        check("GET /debug/pprof/?show=mutex", "Index");
        // A router that has taken `/debug` alone.
        check("GET /fgprof", r#"Profile("wall"), stripped"#);
        check("GET /pprof", "Index, stripped");
        check("GET /pprof/", "Index, stripped");
        check("GET /pprof/mutex", r#"Profile("mutex"), stripped"#);
        check("GET /mutex", r#"Profile("mutex"), stripped"#);
        check("GET //mutex", r#"Profile("mutex"), stripped"#);
        check("POST /symbol", "Symbol, stripped");
        check("POST /mutex", "405 GET, HEAD");
    }

    proptest! {
        #[test]
        fn routing_never_panics_and_never_leads_elsewhere(
            path in "([a-z./%\\\\]|/debug/pprof|.){0,40}",
            query in ".{0,10}",
        ) {
            for mount in [Mount::Root, Mount::Anywhere] {
                if let Err(response) = route(mount, &Method::GET, &path, Query(&query))
                    && let Some(location) = response.headers().get("location")
                {
                    let location = location.to_str().unwrap();
                    prop_assert!(location.starts_with(ROOT), "{}", location);
                }
            }
        }
    }
}
