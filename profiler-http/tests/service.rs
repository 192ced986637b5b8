//! The service, by itself and in an application's server.

mod common;

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use common::{alone, body, exchange, header, request, status};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use profiler_http::{Access, Service, service};
use tower::ServiceExt as _;

fn open() -> Service {
    service(Access::already_protected()).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Sends a request through a service and returns status, length said, and body.
fn send<S, B>(service: S, method: Method, uri: &str, body: &str) -> (u16, String, String)
where
    S: tower_service::Service<
            Request<Full<bytes::Bytes>>,
            Response = http::Response<B>,
            Error = std::convert::Infallible,
        >,
    B: http_body::Body,
    B::Error: std::fmt::Debug,
{
    let _alone = alone();
    let body = Full::new(bytes::Bytes::copy_from_slice(body.as_bytes()));
    let request = Request::builder().method(method).uri(uri).body(body).unwrap();
    block_on(async {
        let response = service.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let header = |name| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        let note = header("location").or_else(|| header("content-length")).unwrap_or_default();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, note, String::from_utf8_lossy(&bytes).into_owned())
    })
}

#[test]
fn it_answers_with_and_without_its_prefix() {
    for uri in ["/debug/pprof/symbol", "/symbol", "//symbol"] {
        let answer = send(open(), Method::GET, uri, "");
        assert_eq!(answer, (200, "15".into(), "num_symbols: 1\n".into()), "{uri}");
    }
    assert_eq!(send(open(), Method::GET, "/debug/pprof", "").1, "/debug/pprof/");
    assert_eq!(send(open(), Method::GET, "/nothing", "").2, "Unknown profile\n");
    assert_eq!(send(open(), Method::DELETE, "/symbol", "").0, 405);
}

/// Returns where a link of a page leads, as browsers find out.
fn resolve(page: &str, link: &str) -> String {
    let link = link.replace("&amp;", "&");
    match link.strip_prefix('?') {
        Some(_) => format!("{page}{link}"),
        None if link.starts_with('/') => link,
        None => format!("{}/{link}", page.rsplit_once('/').unwrap().0),
    }
}

/// Links lead to what they say wherever a router has put the service, with a slash at the end or without.
#[test]
fn every_link_of_the_index_leads_somewhere() {
    static THINGS: profiler_core::CustomProfile = profiler_core::CustomProfile::new("a/b & c+d?");
    drop(THINGS.enter());
    let nested = |prefix: &str| Router::new().nest_service(prefix, open());
    let whole = Router::new().route_service("/debug/{*rest}", open());
    let mounts = [
        (nested("/debug/pprof"), vec!["/debug/pprof", "/debug/pprof/"]),
        (nested("/debug"), vec!["/debug/pprof", "/debug/pprof/"]),
        (nested("/internal/profiles"), vec!["/internal/profiles", "/internal/profiles/"]),
        (whole, vec!["/debug/pprof", "/debug/pprof/"]),
        // As hyper has it, by itself.
        (Router::new().fallback_service(open()), vec!["/debug/pprof", "/debug/pprof/", "/"]),
    ];
    for (router, pages) in mounts {
        for asked in pages {
            let mut page = asked.to_owned();
            let mut index = send(router.clone(), Method::GET, &page, "");
            if index.0 == 307 {
                page = index.1;
                index = send(router.clone(), Method::GET, &page, "");
            }
            assert!(!index.2.contains("<script"));
            let links: Vec<_> = index.2.split("href=\"").skip(1).collect();
            assert!(links.len() > 20, "{asked}: {links:?}");
            for link in links {
                let uri = resolve(&page, link.split('"').next().unwrap());
                // What would take its time says at once that it was found.
                let quick = uri.replace("seconds=30", "seconds=x");
                let sign = if quick.contains('?') { '&' } else { '?' };
                let (status, _, body) =
                    send(router.clone(), Method::GET, &format!("{quick}{sign}hz=x"), "");
                let is_found = match status {
                    200 => true,
                    400 => body.starts_with("invalid value"),
                    // The allocator is not there in this test.
                    501 => body.contains("ProfiledAllocator"),
                    _ => false,
                };
                assert!(is_found, "{asked}: {uri} is {status} {body}");
            }
        }
    }
    for (router, uri) in [
        (nested("/debug"), "/debug/fgprof?hz=x"),
        (Router::new().route_service("/debug/fgprof", open()), "/debug/fgprof?hz=x"),
        (Router::new().nest_service("/debug/fgprof", open()), "/debug/fgprof?show=wall&hz=x"),
    ] {
        let (status, _, body) = send(router, Method::GET, uri, "");
        assert!(status == 400 && body.contains("hz"), "{uri}: {status} {body}");
    }
}

#[test]
fn head_says_the_length_and_has_no_body() {
    let (status, length, body) = send(open(), Method::HEAD, "/symbol", "");
    assert_eq!((status, length.as_str(), body.as_str()), (200, "15", ""));
}

#[test]
fn the_body_is_read_for_symbols_up_to_its_bound() {
    assert_eq!(send(open(), Method::POST, "/symbol", "0x0+0x1").0, 200);
    assert_eq!(send(open(), Method::POST, "/symbol", &"0+".repeat(1 << 19)).0, 200);
    assert_eq!(send(open(), Method::POST, "/symbol", &"0".repeat((1 << 20) + 1)).0, 413);
}

#[test]
fn a_body_that_breaks_off_is_refused() {
    let request = Request::post("/symbol").body(Broken { started: false }).unwrap();
    let response = block_on(open().oneshot(request)).unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[test]
fn a_token_is_asked_for() {
    let guarded = service(Access::token("sesame")).unwrap();
    assert_eq!(send(guarded.clone(), Method::GET, "/symbol", "").0, 401);
    assert_eq!(send(guarded.clone(), Method::POST, "/symbol", "0x1").0, 401);
    let request = Request::get("/symbol").header("authorization", "Bearer sesame");
    let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
    assert_eq!(block_on(guarded.oneshot(request)).unwrap().status(), StatusCode::OK);
}

/// Puts a request to an axum router.
fn routed(router: Router, uri: &str) -> (StatusCode, String) {
    let _alone = alone();
    block_on(async {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    })
}

#[test]
fn axum_may_nest_it_under_any_prefix() {
    for prefix in ["/debug/pprof", "/internal/profiles"] {
        let router = || Router::new().nest_service(prefix, open());
        for path in ["", "/"] {
            let (status, body) = routed(router(), &format!("{prefix}{path}"));
            assert_eq!(status, StatusCode::OK, "{prefix}{path}");
            assert!(body.contains("Types of profiles available:"), "{body}");
        }
        assert_eq!(routed(router(), &format!("{prefix}/symbol")).1, "num_symbols: 1\n");
        assert_eq!(routed(router(), &format!("{prefix}/my/thing")).1, "Unknown profile\n");
    }
}

#[test]
fn axum_may_leave_the_prefix() {
    let router = || Router::new().fallback_service(open());
    assert_eq!(routed(router(), "/debug/pprof").0, StatusCode::TEMPORARY_REDIRECT);
    let (status, body) = routed(router(), "/debug/pprof/");
    assert_eq!(status, StatusCode::OK);
    assert!(!body.contains("<script"), "{body}");
    assert_eq!(routed(router(), "/debug/pprof/symbol").1, "num_symbols: 1\n");
}

#[test]
fn behind_a_real_server_it_looks_like_our_own() {
    let _alone = alone();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let router = Router::new().nest_service("/debug/pprof", open());
            let stopped = async { stopped.await.unwrap() };
            axum::serve(listener, router).with_graceful_shutdown(stopped).await.unwrap();
        });
    });
    let ask = |line: &str, more: &str| {
        exchange(address, &request(line, &format!("Connection: close\r\n{more}")))
    };

    let get = ask("GET /debug/pprof/goroutine?debug=1", "");
    assert_eq!(status(&get), 200);
    assert_eq!(header(&get, "Content-Length"), body(&get).len().to_string());
    let head = ask("HEAD /debug/pprof/symbol", "");
    assert_eq!((status(&head), header(&head, "Content-Length"), body(&head)), (200, "15", ""));
    let post = exchange(
        address,
        &(request("POST /debug/pprof/symbol", "Connection: close\r\nContent-Length: 3\r\n")
            + "0x0"),
    );
    assert_eq!((status(&post), body(&post)), (200, "num_symbols: 1\n"));
    let delta = ask("GET /debug/pprof/mutex?seconds=1", "");
    assert_eq!(header(&delta, "Content-Disposition"), "attachment; filename=\"mutex-delta\"");

    stop.send(()).unwrap();
    server.join().unwrap();
}

/// A body that breaks off after its first part.
struct Broken {
    started: bool,
}

impl http_body::Body for Broken {
    type Data = bytes::Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>> {
        let part = bytes::Bytes::from_static(b"0x1");
        Poll::Ready(Some(if std::mem::replace(&mut self.started, true) {
            Err(std::io::ErrorKind::BrokenPipe.into())
        } else {
            Ok(http_body::Frame::data(part))
        }))
    }
}
