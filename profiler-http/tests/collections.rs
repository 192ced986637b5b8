//! Collections: how many there may be, and that they end when nobody waits any more. The bound is
//! that of the process, so each test has one.

mod common;

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use common::{ask, body, connect, header, in_own_process, request, status};
use http_body_util::{BodyExt as _, Empty};
use profiler_http::{Access, ResponseFuture, Service, serve, service};
use tower_service::Service as _;

/// How many there may be.
const BOUND: usize = 8;
/// Longer than any test may take.
const LONG: &str = "mutex?seconds=3600";

#[test]
fn a_client_that_hangs_up_frees_its_place_at_once() {
    in_own_process("a_client_that_hangs_up_frees_its_place_at_once", || {
        let endpoint = serve("127.0.0.1:0").unwrap();
        let address = endpoint.local_addr().unwrap();
        let mut clients = full(address);

        let answer = ask(address, "GET /debug/pprof/mutex");
        assert_eq!(status(&answer), 503);
        assert!(body(&answer).starts_with("too many concurrent collections: 8 "), "{answer}");
        assert_eq!(header(&answer, "X-Go-Pprof"), "1");
        // There is still room to look around.
        assert_eq!(status(&ask(address, "GET /debug/pprof/")), 200);

        clients.pop();
        until(|| status(&ask(address, "GET /debug/pprof/mutex")) == 200);
        endpoint.shutdown();
    });
}

#[test]
fn a_shutdown_ends_the_collections_that_wait() {
    in_own_process("a_shutdown_ends_the_collections_that_wait", || {
        let endpoint = serve("127.0.0.1:0").unwrap();
        let clients = full(endpoint.local_addr().unwrap());
        endpoint.shutdown();
        for mut client in clients {
            // Whether the socket is reset or ends, it is over.
            let _ = client.read_to_end(&mut Vec::new());
        }
        // And the places are free.
        let endpoint = serve("127.0.0.1:0").unwrap();
        let address = endpoint.local_addr().unwrap();
        until(|| status(&ask(address, "GET /debug/pprof/mutex")) == 200);
        endpoint.shutdown();
    });
}

#[test]
fn a_future_that_is_dropped_frees_its_place() {
    in_own_process("a_future_that_is_dropped_frees_its_place", || {
        let mut service = service(Access::already_protected()).unwrap();
        // One more than there may be: they all stay but one, whichever comes last.
        let mut waiting: Vec<_> = (0..=BOUND).map(|_| start(&mut service, LONG)).collect();
        until(|| {
            let before = waiting.len();
            waiting.retain_mut(|future| match poll(future) {
                Poll::Pending => true,
                Poll::Ready(Ok(response)) => {
                    assert_eq!(response.status(), http::StatusCode::SERVICE_UNAVAILABLE);
                    false
                }
            });
            waiting.len() < before
        });
        assert_eq!(waiting.len(), BOUND);
        assert_eq!(get(&mut service, "mutex").0, 503);
        // Nothing is blocked: the caller's thread is here, and other requests are answered.
        assert_eq!(get(&mut service, "cmdline").0, 200);

        waiting.pop();
        until(|| get(&mut service, "mutex").0 == 200);
    });
}

#[test]
fn a_difference_is_given_when_its_time_has_passed() {
    in_own_process("a_difference_is_given_when_its_time_has_passed", || {
        let mut service = service(Access::already_protected()).unwrap();
        let (status, disposition) = get(&mut service, "mutex?seconds=1");
        assert_eq!((status, disposition.as_str()), (200, "attachment; filename=\"mutex-delta\""));
    });
}

/// Starts as many long collections as there may be, and waits until they run.
fn full(address: SocketAddr) -> Vec<TcpStream> {
    let long = request(&format!("GET /debug/pprof/{LONG}"), "");
    // One more than there may be: they all stay but one, whichever comes last.
    let mut clients: Vec<_> = (0..=BOUND).map(|_| connect(address, &long)).collect();
    until(|| {
        let before = clients.len();
        clients.retain_mut(|client| {
            client.set_nonblocking(true).unwrap();
            let waits = client.peek(&mut [0]).is_err();
            client.set_nonblocking(false).unwrap();
            if !waits {
                let mut answer = String::new();
                client.read_to_string(&mut answer).unwrap();
                assert_eq!(status(&answer), 503, "{answer}");
            }
            waits
        });
        clients.len() < before
    });
    assert_eq!(clients.len(), BOUND);
    clients
}

fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

type Future = ResponseFuture<Empty<bytes::Bytes>>;

fn start(service: &mut Service, name: &str) -> Future {
    let request = http::Request::get(format!("/debug/pprof/{name}"));
    service.call(request.body(Empty::new()).unwrap())
}

fn poll(future: &mut Future) -> Poll<<Future as std::future::Future>::Output> {
    std::future::Future::poll(Pin::new(future), &mut Context::from_waker(Waker::noop()))
}

/// Returns status and disposition of an answer, which must have a body.
fn get(service: &mut Service, name: &str) -> (u16, String) {
    let request = http::Request::get(format!("/debug/pprof/{name}"));
    let future = service.call(request.body(Empty::<bytes::Bytes>::new()).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let response = runtime.block_on(future).unwrap();
    let disposition = response.headers().get("content-disposition");
    let disposition = disposition.map_or("", |value| value.to_str().unwrap()).to_owned();
    let status = response.status().as_u16();
    let bytes = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
    assert!(!bytes.is_empty());
    (status, disposition)
}
