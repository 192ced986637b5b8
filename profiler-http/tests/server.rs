//! What a client meets at the socket.

mod common;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::OnceLock;

use common::{ask, body, connect, exchange, header, request, status};
use profiler_http::Endpoint;

/// The endpoint of all tests here; they only ask.
fn address() -> SocketAddr {
    static ENDPOINT: OnceLock<Endpoint> = OnceLock::new();
    let endpoint = ENDPOINT.get_or_init(|| profiler_http::serve("127.0.0.1:0").unwrap());
    endpoint.local_addr().unwrap()
}

#[track_caller]
fn check(line: &str, expected: u16) -> String {
    let answer = ask(address(), line);
    assert_eq!(status(&answer), expected, "{answer}");
    assert_eq!(header(&answer, "X-Content-Type-Options"), "nosniff", "{answer}");
    assert_eq!(header(&answer, "Connection"), "close", "{answer}");
    assert!(header(&answer, "Date").ends_with(" GMT"), "{answer}");
    if !line.starts_with("HEAD") {
        assert_eq!(header(&answer, "Content-Length"), body(&answer).len().to_string(), "{answer}");
    }
    answer
}

#[test]
fn the_index_is_a_page_with_every_profile() {
    let answer = check("GET /debug/pprof/", 200);
    assert_eq!(header(&answer, "Content-Type"), "text/html; charset=utf-8");
    let kinds = profiler_core::Kind::ALL.iter().map(|kind| kind.name());
    for name in kinds.chain(["cmdline", "symbol"]) {
        assert!(answer.contains(&format!("<a href=\"{name}?debug=1\">{name}</a>")), "{name}");
    }
}

/// What a program lacks that has another global allocator, as this one has.
const LINES: &str = "
#[global_allocator]
static ALLOCATOR: profiler_core::ProfiledAllocator<std::alloc::System> =
    profiler_core::ProfiledAllocator::new(std::alloc::System);
";

#[test]
fn without_the_allocator_the_heap_says_which_lines_to_add() {
    for target in ["heap", "allocs", "heap?debug=1", "heap?gc=1", "heap?seconds=1"] {
        let answer = check(&format!("GET /debug/pprof/{target}"), 501);
        assert_eq!(header(&answer, "X-Go-Pprof"), "1", "{target}");
        assert_eq!(header(&answer, "Content-Type"), "text/plain; charset=utf-8", "{target}");
        assert_eq!(header(&answer, "Content-Disposition"), "", "{target}");
        let name = target.split('?').next().unwrap();
        assert!(body(&answer).starts_with(&format!("profile {name} is not available: ")));
        assert!(body(&answer).ends_with(LINES), "{target}: {answer}");
    }
}

#[test]
fn without_the_allocator_the_index_shows_what_is_resident_and_which_lines_to_add() {
    let page = check("GET /debug/pprof/", 200).replace("&lt;", "<").replace("&gt;", ">");
    let lines = page.split("<pre>").nth(1).and_then(|rest| rest.split("</pre>").next());
    assert!(lines.is_some_and(|lines| lines.ends_with(LINES.trim_end())), "{page}");
    assert!(page.contains("<td>resident: ") && page.contains("<td>peak: "), "{page}");
    assert!(!page.contains("<td>live: ") && !page.contains("is a leak"), "{page}");
}

#[test]
fn the_command_line_comes_with_nul_between_its_arguments() {
    let answer = check("GET /debug/pprof/cmdline", 200);
    let expected: Vec<_> = std::env::args().collect();
    assert_eq!(body(&answer), expected.join("\0"));
}

#[test]
fn head_gives_the_headers_of_get() {
    for path in ["/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/nothing"] {
        let get = ask(address(), &format!("GET {path}"));
        let head = check(&format!("HEAD {path}"), status(&get));
        assert_eq!(body(&head), "");
        for name in ["Content-Type", "X-Go-Pprof"] {
            assert_eq!(header(&head, name), header(&get, name), "{name} of {path}");
        }
        let lengths = [&head, &get].map(|answer| header(answer, "Content-Length"));
        if path.ends_with('/') {
            // The page has numbers that change from one look to the next.
            assert!(!lengths.contains(&"") && !lengths.contains(&"0"), "{lengths:?}");
        } else {
            assert_eq!(lengths[0], lengths[1], "{path}");
        }
    }
}

#[test]
fn errors_are_marked_for_the_tool_only_where_they_are_ours() {
    let answer = check("GET /debug/pprof/nothing", 404);
    assert_eq!(body(&answer), "Unknown profile\n");
    assert_eq!(header(&answer, "X-Go-Pprof"), "1");
    assert_eq!(header(&check("GET /elsewhere", 404), "X-Go-Pprof"), "");
}

#[test]
fn other_methods_are_told_what_is_allowed() {
    let answer = check("POST /debug/pprof/mutex", 405);
    assert_eq!(header(&answer, "Allow"), "GET, HEAD");
    assert_eq!(header(&answer, "X-Go-Pprof"), "");
    assert_eq!(body(&answer), "Method Not Allowed\n");
    assert_eq!(header(&check("DELETE /debug/pprof/symbol", 405), "Allow"), "GET, HEAD, POST");
}

#[test]
fn a_path_that_is_not_clean_is_redirected() {
    let answer = check("GET /debug/pprof?x=1", 307);
    assert_eq!(header(&answer, "Location"), "/debug/pprof/?x=1");
    assert_eq!(body(&answer), "<a href=\"/debug/pprof/?x=1\">Temporary Redirect</a>.\n\n");
    assert_eq!(body(&check("HEAD /debug/pprof//mutex", 307)), "");
}

#[test]
fn symbols_are_posted() {
    let post = "POST /debug/pprof/symbol";
    let answer = exchange(address(), &(request(post, "Content-Length: 3\r\n") + "0x0"));
    assert_eq!((status(&answer), body(&answer)), (200, "num_symbols: 1\n"));
    // Without a body there are none.
    assert_eq!(body(&check(post, 200)), "num_symbols: 1\n");
}

#[test]
fn a_client_may_ask_before_it_sends_a_body() {
    let headers = "Content-Length: 3\r\nExpect: 100-continue\r\n";
    let mut client = connect(address(), &request("POST /debug/pprof/symbol", headers));
    let mut first = [0; 25];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"0x0").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!((status(&answer), body(&answer)), (200, "num_symbols: 1\n"));
}

#[test]
fn bodies_that_cannot_be_read_are_refused_before_they_are_sent() {
    let refused = |headers: &str, expected: u16| {
        let answer = exchange(address(), &request("POST /debug/pprof/symbol", headers));
        assert_eq!(status(&answer), expected, "{answer}");
    };
    refused("Content-Length: 1048577\r\n", 413);
    refused("Content-Length: x\r\n", 400);
    refused("Transfer-Encoding: chunked\r\n", 411);
    refused("Content-Length: 3\r\nExpect: the impossible\r\n", 417);
}

#[test]
fn a_body_where_none_belongs_does_not_cost_the_answer() {
    let body = "x".repeat(100_000);
    let headers = format!("Content-Length: {}\r\n", body.len());
    let request = request("GET /debug/pprof/nothing", &headers) + &body;
    assert_eq!(status(&exchange(address(), &request)), 404);
}

#[test]
fn what_is_no_request_is_refused() {
    let refused = |bytes: &str, expected: u16| {
        let answer = exchange(address(), bytes);
        assert_eq!(status(&answer), expected, "{bytes:.40}: {answer}");
    };
    refused("nonsense\r\n\r\n", 400);
    refused("GET /debug/pprof/\r\n\r\n", 400);
    refused("GET /debug/pprof/ HTTP/1.1\r\n\r\n", 400);
    refused("GET /debug/pprof/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
    refused(&request("GET /", &format!("Cookie: {}\r\n", "x".repeat(16 * 1024))), 431);
    refused(&request("GET /", &"x: y\r\n".repeat(101)), 431);
    refused(&format!("GET /{}", "x".repeat(16 * 1024)), 431);
}

#[test]
fn http_1_0_and_absolute_targets_are_understood() {
    let answer = exchange(address(), "GET /debug/pprof/cmdline HTTP/1.0\r\n\r\n");
    assert_eq!(status(&answer), 200);
    assert_eq!(status(&ask(address(), "GET http://localhost/debug/pprof/cmdline")), 200);
    assert_eq!(status(&ask(address(), "GET http://example.org/debug/pprof/cmdline")), 403);
}

#[test]
fn a_foreign_name_for_this_machine_is_refused() {
    let get = |host: &str| {
        let request = format!("GET /debug/pprof/cmdline HTTP/1.1\r\nHost: {host}\r\n\r\n");
        exchange(address(), &request)
    };
    let answer = get("rebound.example.org:6060");
    assert_eq!(status(&answer), 403);
    assert!(body(&answer).contains("answers only to localhost"), "{answer}");
    assert_eq!(header(&answer, "X-Go-Pprof"), "1");
    assert_eq!(status(&get(&address().to_string())), 200);
    assert_eq!(status(&get("[::1]:6060")), 200);
}

#[test]
fn profiles_that_do_not_exist_yet_are_unknown() {
    for name in ["trace", "goroutineleak"] {
        check(&format!("GET /debug/pprof/{name}?seconds=1"), 404);
    }
}

#[test]
fn it_answers_while_the_applications_runtime_is_blocked() {
    let (unblock, blocked) = std::sync::mpsc::channel::<()>();
    let runtime = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // A task that waits as it should not: nothing else runs on this runtime.
        runtime.block_on(async { blocked.recv() })
    });
    check("GET /debug/pprof/goroutine?debug=2", 200);
    assert!(!runtime.is_finished());
    unblock.send(()).unwrap();
    runtime.join().unwrap().unwrap();
}
