//! One table of requests, put to Go's `net/http/pprof` and to us: status, headers and the bodies of
//! errors must be the same, because tools and scrapers were written against Go's.

use std::alloc::System;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::thread;

use profiler_core::{CustomProfile, ProfiledAllocator};
use profiler_tests::oracle::Oracle;
use profiler_tests::server::{Request, Response};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// What must agree in a row.
#[derive(Debug, Clone, Copy)]
enum Agree {
    /// Status, headers and body.
    Whole,
    /// Status, headers, and whether the body is a binary profile; it is each program's own.
    Head,
    /// Status, headers and body but for `nosniff`, which Go's router leaves out of its redirects.
    Redirect,
    /// Nothing: we differ on purpose, with this status, for this reason.
    Not(u16, &'static str),
}
use Agree::{Head, Not, Redirect, Whole};

const TABLE: &[(&str, &str, Agree)] = &[
    // The index, and paths that are not clean.
    ("GET", "/debug/pprof/", Head),
    ("HEAD", "/debug/pprof/", Head),
    ("GET", "/debug/pprof/?debug=1", Head),
    ("GET", "/debug/pprof", Redirect),
    ("HEAD", "/debug/pprof", Redirect),
    ("GET", "/debug/pprof?seconds=1", Redirect),
    ("GET", "/debug/pprof//block", Redirect),
    ("GET", "/debug/pprof//block?debug=1", Redirect),
    ("GET", "/debug/pprof/./block", Redirect),
    ("GET", "/debug/pprof/x/../block", Redirect),
    ("GET", "//debug/pprof/", Redirect),
    // Profiles, and how their names are found.
    ("GET", "/debug/pprof/block", Head),
    ("GET", "/debug/pprof/goroutine", Head),
    ("GET", "/debug/pprof/mutex", Head),
    ("GET", "/debug/pprof/threadcreate", Head),
    ("HEAD", "/debug/pprof/block", Head),
    ("HEAD", "/debug/pprof/goroutine", Head),
    ("GET", "/debug/pprof/%62lock", Head),
    ("GET", "/debug/pprof/bloc%6B", Head),
    ("GET", "/debug/pprof/block/", Whole),
    ("GET", "/debug/pprof/block%2F", Whole),
    ("GET", "/debug/pprof/Block", Whole),
    ("GET", "/debug/pprof/nope", Whole),
    ("HEAD", "/debug/pprof/nope", Whole),
    ("GET", "/debug/pprof/%3Cscript%3Ealert(1)%3C/script%3E", Whole),
    ("GET", "/debug/pprof/nope?seconds=x", Whole),
    ("GET", "/debug/pprof/nope?debug=1", Whole),
    ("GET", "/debug/pprof/symbol/", Whole),
    ("GET", "/debug/pprof/cmdline/", Whole),
    // A profile of the application's own; a name may hold slashes and dots.
    ("GET", "/debug/pprof/my/custom.things", Head),
    ("GET", "/debug/pprof/my%2Fcustom.things", Head),
    ("HEAD", "/debug/pprof/my/custom.things", Head),
    ("GET", "/debug/pprof/my/custom.things?debug=1", Head),
    ("GET", "/debug/pprof/my/custom.things?seconds=1", Whole),
    ("GET", "/debug/pprof/my/custom.things?seconds=x", Whole),
    ("GET", "/debug/pprof/my/custom.things?seconds=1&debug=1", Whole),
    ("GET", "/debug/pprof/my", Whole),
    // The parameter `debug`.
    ("GET", "/debug/pprof/block?debug=0", Head),
    ("GET", "/debug/pprof/block?debug=1", Head),
    ("GET", "/debug/pprof/mutex?debug=1", Head),
    ("GET", "/debug/pprof/threadcreate?debug=1", Head),
    ("GET", "/debug/pprof/goroutine?debug=1", Head),
    ("GET", "/debug/pprof/goroutine?debug=2", Head),
    ("GET", "/debug/pprof/goroutine?debug=3", Head),
    ("HEAD", "/debug/pprof/goroutine?debug=2", Head),
    ("GET", "/debug/pprof/block?debug=2", Head),
    ("GET", "/debug/pprof/block?debug=-1", Head),
    ("GET", "/debug/pprof/block?debug=yes", Head),
    ("GET", "/debug/pprof/block?debug=", Head),
    ("GET", "/debug/pprof/block?debug=1.0", Head),
    ("GET", "/debug/pprof/block?debug=%31", Head),
    ("GET", "/debug/pprof/block?%64ebug=1", Head),
    ("GET", "/debug/pprof/block?debug=+1", Head),
    ("GET", "/debug/pprof/block?debug=%2B1", Head),
    ("GET", "/debug/pprof/block?debug=1&debug=0", Head),
    ("GET", "/debug/pprof/block?debug=0&debug=1", Head),
    ("GET", "/debug/pprof/block?debug=1;x=1", Head),
    ("GET", "/debug/pprof/block?x=%zz&debug=1", Head),
    ("GET", "/debug/pprof/block?DEBUG=1", Head),
    // The parameter `seconds`: differences.
    ("GET", "/debug/pprof/block?seconds=1", Head),
    ("GET", "/debug/pprof/goroutine?seconds=1", Head),
    ("GET", "/debug/pprof/mutex?seconds=1&seconds=x", Head),
    ("HEAD", "/debug/pprof/threadcreate?seconds=1", Head),
    ("GET", "/debug/pprof/block?seconds=", Head),
    ("GET", "/debug/pprof/block?seconds=0", Whole),
    ("GET", "/debug/pprof/block?seconds=-1", Whole),
    ("GET", "/debug/pprof/block?seconds=1.5", Whole),
    ("GET", "/debug/pprof/block?seconds=x", Whole),
    ("GET", "/debug/pprof/block?seconds=x&seconds=1", Whole),
    ("GET", "/debug/pprof/block?seconds=0x1", Whole),
    ("GET", "/debug/pprof/block?seconds=1_0", Whole),
    ("GET", "/debug/pprof/block?seconds=99999999999999999999", Whole),
    ("HEAD", "/debug/pprof/block?seconds=x", Whole),
    ("GET", "/debug/pprof/goroutine?seconds=1&debug=1", Whole),
    ("GET", "/debug/pprof/goroutine?seconds=1&debug=2", Whole),
    ("GET", "/debug/pprof/block?seconds=x&debug=1", Whole),
    ("GET", "/debug/pprof/block?seconds=1&debug=-1", Whole),
    // The heap, and the parameter `gc`, which others accept and ignore.
    ("GET", "/debug/pprof/heap", Head),
    ("HEAD", "/debug/pprof/heap", Head),
    ("GET", "/debug/pprof/allocs", Head),
    ("HEAD", "/debug/pprof/allocs", Head),
    ("GET", "/debug/pprof/heap?debug=1", Head),
    ("GET", "/debug/pprof/allocs?debug=1", Head),
    ("GET", "/debug/pprof/heap?debug=2", Head),
    ("GET", "/debug/pprof/heap?debug=-1", Head),
    ("GET", "/debug/pprof/allocs?debug=-1", Head),
    ("GET", "/debug/pprof/heap?gc=1", Head),
    ("HEAD", "/debug/pprof/heap?gc=1", Head),
    ("GET", "/debug/pprof/heap?gc=1&debug=1", Head),
    ("GET", "/debug/pprof/heap?gc=0", Head),
    ("GET", "/debug/pprof/heap?gc=-1", Head),
    ("GET", "/debug/pprof/heap?gc=yes", Head),
    ("GET", "/debug/pprof/heap?gc=", Head),
    ("GET", "/debug/pprof/heap?gc=99999999999999999999", Head),
    ("GET", "/debug/pprof/allocs?gc=1", Head),
    ("GET", "/debug/pprof/block?gc=1", Head),
    ("GET", "/debug/pprof/my/custom.things?gc=1", Head),
    ("GET", "/debug/pprof/heap?seconds=1", Head),
    ("GET", "/debug/pprof/heap?seconds=1&gc=1", Head),
    ("GET", "/debug/pprof/allocs?seconds=1", Head),
    ("GET", "/debug/pprof/heap?seconds=x&gc=1", Whole),
    ("GET", "/debug/pprof/heap?seconds=1&debug=1", Whole),
    ("GET", "/debug/pprof/heap/", Whole),
    ("POST", "/debug/pprof/heap", Whole),
    // The command line and names of addresses.
    ("GET", "/debug/pprof/cmdline", Head),
    ("HEAD", "/debug/pprof/cmdline", Head),
    ("GET", "/debug/pprof/cmdline?debug=1", Head),
    ("GET", "/debug/pprof/symbol", Whole),
    ("HEAD", "/debug/pprof/symbol", Whole),
    ("GET", "/debug/pprof/symbol?0x1", Whole),
    ("GET", "/debug/pprof/symbol?0x0+zero+0xg++", Whole),
    ("GET", "/debug/pprof/symbol?debug=1", Whole),
    // CPU time, which every request collects for a while.
    ("GET", "/debug/pprof/profile?seconds=1", Head),
    ("HEAD", "/debug/pprof/profile?seconds=1", Head),
    ("HEAD", "/debug/pprof/profile?seconds=1&debug=1", Not(200, "text, for terminals")),
    // What is nearly a parameter.
    ("GET", "/debug/pprof/block?debg=1", Not(400, "most likely it was meant to be one")),
    // Methods.
    ("POST", "/debug/pprof/", Whole),
    ("POST", "/debug/pprof/block", Whole),
    ("PUT", "/debug/pprof/block", Whole),
    ("DELETE", "/debug/pprof/block", Whole),
    ("PATCH", "/debug/pprof/block", Whole),
    ("OPTIONS", "/debug/pprof/block", Whole),
    ("POST", "/debug/pprof/nope", Whole),
    ("POST", "/debug/pprof/cmdline", Whole),
    ("POST", "/debug/pprof/symbol", Not(200, "go tool pprof gives up when a server refuses this")),
    ("PUT", "/debug/pprof/symbol", Not(405, "Allow names POST too")),
    // What Go has and we do not have yet.
    ("GET", "/debug/pprof/goroutineleak", Not(404, "no source yet")),
    ("GET", "/debug/pprof/trace?seconds=1", Not(404, "no source yet")),
];

/// The headers that the contract speaks of; the others belong to the transport.
const HEADERS: &[&str] = &[
    "Allow",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Type",
    "ETag",
    "Location",
    "X-Content-Type-Options",
    "X-Go-Pprof",
];

static ORACLE: LazyLock<Oracle> = LazyLock::new(Oracle::start);
static THINGS: CustomProfile = CustomProfile::new("my/custom.things");
static OURS: LazyLock<SocketAddr> = LazyLock::new(|| {
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    std::mem::forget(THINGS.enter());
    endpoint.local_addr().expect("the endpoint is not switched off")
});

/// Returns a sentence for each difference that the row does not allow.
fn differences(agree: Agree, go: &Response, ours: &Response) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, go: &str, ours: &str| {
        if go != ours {
            found.push(format!("{what}: Go says {go:?}, we say {ours:?}"));
        }
    };
    if let Not(status, _) = agree {
        compare("status", &status.to_string(), &ours.status.to_string());
        return found;
    }
    compare("status", &go.status.to_string(), &ours.status.to_string());
    for name in HEADERS {
        if matches!(agree, Redirect) && *name == "X-Content-Type-Options" {
            continue;
        }
        let of = |response: &Response| format!("{:?}", response.header(name));
        compare(name, &of(go), &of(ours));
    }
    if matches!(agree, Whole | Redirect) {
        compare("body", &go.text(), &ours.text());
    } else {
        let form = |response: &Response| match response.body.get(..2) {
            Some([0x1f, 0x8b]) => "binary",
            _ => "no profile",
        };
        compare("form", form(go), form(ours));
    }
    found
}

#[test]
fn we_answer_as_go_does() {
    let mut report = Vec::new();
    for &(method, target, agree) in TABLE {
        let request = Request::new(method, target);
        let (go, ours) = thread::scope(|scope| {
            let go = scope.spawn(|| request.send(ORACLE.address()));
            let ours = request.send(*OURS);
            (go.join().expect("Go answers"), ours)
        });
        let differences = differences(agree, &go, &ours);
        if !differences.is_empty() {
            report.push(format!("{method} {target}: {}", differences.join("; ")));
        }
        if let Not(_, reason) = agree {
            let same = self::differences(Whole, &go, &ours).is_empty();
            assert!(!same, "{method} {target} agrees with Go; the table says {reason:?}");
        }
    }
    assert!(report.is_empty(), "we do not answer as Go does:\n{}", report.join("\n"));
}

#[test]
fn a_difference_is_found() {
    let response = |status, header: &str, body: &str| Response {
        status,
        headers: vec![("content-type".into(), header.into())],
        body: body.into(),
    };
    let go = response(200, "text/plain", "a");
    let check = |agree, ours: Response, expected: usize| {
        assert_eq!(differences(agree, &go, &ours).len(), expected, "{agree:?} {ours:?}");
    };
    check(Whole, go.clone(), 0);
    check(Whole, response(404, "text/html", "b"), 3);
    check(Head, response(200, "text/plain", "b"), 0);
    check(Head, response(500, "text/plain", "b"), 1);
    check(Head, Response { body: vec![0x1f, 0x8b], ..go.clone() }, 1);
    check(Redirect, response(307, "text/plain", "b"), 2);
    check(Not(405, "for a reason"), response(405, "text/html", "b"), 0);
    check(Not(405, "for a reason"), go.clone(), 1);
}

#[test]
fn both_indexes_hold_what_people_look_for() {
    for server in [ORACLE.address(), *OURS] {
        let index = Request::get("/debug/pprof/").send(server).text();
        let phrases = [
            "<title>/debug/pprof/</title>",
            "Types of profiles available:",
            "full goroutine stack dump",
            "Profile Descriptions:",
            "allocs?debug=1",
            "block?debug=1",
            "cmdline?debug=1",
            "goroutine?debug=1",
            "goroutine?debug=2",
            "heap?debug=1",
            "mutex?debug=1",
            "symbol?debug=1",
            "threadcreate?debug=1",
        ];
        for phrase in phrases {
            assert!(index.contains(phrase), "{phrase:?} is not in the index of {server}:\n{index}");
        }
    }
}

#[test]
fn the_command_line_is_joined_by_nul() {
    let ours = Request::get("/debug/pprof/cmdline").send(*OURS).text();
    let arguments: Vec<_> = std::env::args().collect();
    assert_eq!(ours, arguments.join("\0"));
}

#[test]
fn a_posted_address_that_is_too_long_is_told_and_does_no_harm() {
    // Go's handler reads tokens through a buffer of 4096 bytes.
    let long = "1".repeat(10_000);
    let response = Request::new("POST", "/debug/pprof/symbol").body(long).send(*OURS);
    assert_eq!(response.status, 200);
    assert!(response.text().starts_with("num_symbols: 1\n"), "{}", response.text());
}
