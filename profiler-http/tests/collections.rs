//! Collections: how many there may be, and that they end when nobody waits any more. All share the
//! bound of the process, so one test runs at a time.

mod common;

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use common::{alone, ask, body, connect, header, request, status};
use http_body_util::{BodyExt as _, Empty};
use profiler_http::{Access, ResponseFuture, Service, serve, service};
use tower_service::Service as _;

/// How many there may be.
const BOUND: usize = 8;
/// Longer than any test may take.
const LONG: &str = "mutex?seconds=3600";

#[test]
fn a_client_that_hangs_up_frees_its_place_at_once() {
    let _alone = alone();
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
}

#[test]
fn a_shutdown_ends_the_collections_that_wait() {
    let _alone = alone();
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
}

#[test]
fn a_future_that_is_dropped_frees_its_place() {
    let _alone = alone();
    let mut service = service(Access::already_protected()).unwrap();
    let mut waiting: Vec<_> = (0..BOUND).map(|_| start(&mut service, LONG)).collect();
    until(|| get(&mut service, "mutex").0 == 503);
    assert!(waiting.iter_mut().all(|future| poll(future).is_pending()));
    // Nothing is blocked: the caller's thread is here, and other requests are answered.
    assert_eq!(get(&mut service, "cmdline").0, 200);

    waiting.pop();
    until(|| get(&mut service, "mutex").0 == 200);
}

#[test]
fn a_difference_is_given_when_its_time_has_passed() {
    let _alone = alone();
    let mut service = service(Access::already_protected()).unwrap();
    let (status, disposition) = get(&mut service, "mutex?seconds=1");
    assert_eq!((status, disposition.as_str()), (200, "attachment; filename=\"mutex-delta\""));
}

/// Starts as many long collections as there may be, and waits until they run.
fn full(address: SocketAddr) -> Vec<TcpStream> {
    let long = request(&format!("GET /debug/pprof/{LONG}"), "");
    let clients = (0..BOUND).map(|_| connect(address, &long)).collect();
    until(|| status(&ask(address, "GET /debug/pprof/mutex")) == 503);
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
    let mut future = service.call(request.body(Empty::new()).unwrap());
    let _ = poll(&mut future);
    future
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
