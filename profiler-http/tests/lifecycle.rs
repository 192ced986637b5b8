//! Opening and closing the process's endpoint.

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{alone, ask, exchange, header, in_own_process, request, status};
use profiler_http::{Access, ServeError, serve, serve_with};

#[track_caller]
fn refused(error: Result<profiler_http::Endpoint, ServeError>, words: &[&str]) {
    let message = error.expect_err("it should be refused").to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is missing in {message:?}");
    }
}

#[test]
fn a_second_endpoint_is_refused_and_the_error_names_the_first() {
    let _alone = alone();
    let first = serve("127.0.0.1:0").unwrap();
    let line = line!() - 1;
    let address = first.local_addr().unwrap().to_string();
    refused(serve("127.0.0.1:0"), &[&address, &format!("{}:{line}:", file!()), "already serves"]);
    refused(serve_with("0.0.0.0:0", Access::already_protected()), &[&address]);
    first.shutdown();
}

#[test]
fn after_a_shutdown_the_same_port_can_be_served_again() {
    let _alone = alone();
    let endpoint = serve("127.0.0.1:0").unwrap();
    let address = endpoint.local_addr().unwrap();
    assert_eq!(endpoint.url(), Some(format!("http://{address}/debug/pprof/")));
    assert_eq!(status(&ask(address, "GET /debug/pprof/cmdline")), 200);
    endpoint.shutdown();
    assert!(TcpStream::connect(address).is_err());

    let again = serve(address).unwrap();
    assert_eq!(status(&ask(address, "GET /debug/pprof/cmdline")), 200);
    again.shutdown();
}

#[test]
fn a_dropped_endpoint_runs_on() {
    in_own_process("a_dropped_endpoint_runs_on", || {
        let address = serve("127.0.0.1:0").unwrap().local_addr().unwrap();
        refused(serve("127.0.0.1:0"), &["already serves"]);
        assert_eq!(status(&ask(address, "GET /debug/pprof/cmdline")), 200);
    });
}

#[test]
fn serving_starts_the_profiler_in_the_name_of_the_caller() {
    in_own_process("serving_starts_the_profiler_in_the_name_of_the_caller", || {
        serve("127.0.0.1:0").unwrap().shutdown();
        let line = line!() - 1;
        let error = profiler_core::start(profiler_core::Config::default()).unwrap_err();
        let place = format!("{}:{line}:", file!());
        assert!(error.to_string().contains(&place), "{error}");
    });
}

#[test]
fn a_port_in_use_is_an_error_that_says_what_to_do() {
    let _alone = alone();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    refused(serve(address), &[&address.to_string(), "is in use", "port 0"]);
    // It leaves nothing behind.
    serve("127.0.0.1:0").unwrap().shutdown();
}

#[test]
fn an_address_that_is_none_is_an_error() {
    let _alone = alone();
    for address in ["", "6060", "localhost", "127.0.0.1:x", "127.0.0.1:66000"] {
        refused(serve(address), &["a host and a port, such as 127.0.0.1:6060"]);
    }
    let none: &[SocketAddr] = &[];
    refused(serve(none), &["leads to no address"]);
}

#[test]
fn other_machines_need_an_access() {
    let _alone = alone();
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        refused(serve(address), &["serve_with", "Access::token", "Access::already_protected"]);
    }
    // One address that is open is enough.
    let mixed: &[SocketAddr] = &["127.0.0.1:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap()];
    refused(serve(mixed), &["0.0.0.0:0", "serve_with"]);
}

#[test]
fn an_access_opens_every_address() {
    let _alone = alone();
    let endpoint = serve_with("0.0.0.0:0", Access::already_protected()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], endpoint.local_addr().unwrap().port()));
    let foreign = "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: shop.example.org\r\n\r\n";
    assert_eq!(status(&exchange(address, foreign)), 200);
    endpoint.shutdown();
}

#[test]
fn a_token_guards_every_path() {
    let _alone = alone();
    let endpoint = serve_with("127.0.0.1:0", Access::token("sesame")).unwrap();
    let address = endpoint.local_addr().unwrap();
    let get = |path: &str, authorization: &str| {
        exchange(address, &request(&format!("GET {path}"), authorization))
    };
    for path in ["/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof", "/nothing"] {
        let answer = get(path, "");
        assert_eq!(status(&answer), 401, "{path}");
        assert!(header(&answer, "WWW-Authenticate").starts_with("Basic realm="), "{answer}");
        assert_eq!(header(&answer, "X-Go-Pprof"), "1");
    }
    let path = "/debug/pprof/cmdline";
    assert_eq!(status(&get(path, "Authorization: Bearer sesame\r\n")), 200);
    assert_eq!(status(&get(path, "Authorization: Basic OnNlc2FtZQ==\r\n")), 200); // :sesame
    assert_eq!(status(&get(path, "Authorization: Bearer simsala\r\n")), 401);
    assert_eq!(status(&get("/debug/pprof/cmdline?token=sesame", "")), 401);
    endpoint.shutdown();
}

#[test]
fn a_token_that_no_request_can_show_is_an_error() {
    let _alone = alone();
    for token in ["", "two\nlines"] {
        let access = Access::token(token);
        refused(serve_with("127.0.0.1:0", access.clone()), &["Access::token", "one character"]);
        assert!(matches!(profiler_http::service(access), Err(ServeError::Token)));
    }
}
