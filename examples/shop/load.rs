//! Customers from inside, who send real requests over the loopback interface.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::catalog::PRODUCTS;

pub(crate) struct Load {
    customers: u16,
    started: Instant,
    finished: OnceLock<Duration>,
    counts: Arc<Counts>,
}

/// Plain counts, which order nothing else: `Relaxed` will do.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    failures: AtomicU64,
    /// Of the orders since somebody asked, the slowest, in microseconds.
    slowest: AtomicU64,
}

impl Load {
    pub(crate) fn new(customers: u16) -> Self {
        let (started, finished) = (Instant::now(), OnceLock::new());
        Self { customers, started, finished, counts: Arc::default() }
    }

    /// Sends the customers off, one connection each; they stop when the set is dropped.
    pub(crate) fn start(&self, shop: SocketAddr) -> JoinSet<()> {
        (0..self.customers).map(|number| visit(shop, number, Arc::clone(&self.counts))).collect()
    }

    pub(crate) fn finish(&self) {
        self.finished.get_or_init(|| self.started.elapsed());
    }

    /// Returns the number of requests that have been answered.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(Relaxed)
    }

    /// Returns the time that the slowest order took since the last call.
    pub(crate) fn slowest_order(&self) -> Duration {
        Duration::from_micros(self.counts.slowest.swap(0, Relaxed))
    }

    pub(crate) fn summary(&self) -> String {
        let time = self.finished.get().copied().unwrap_or_else(|| self.started.elapsed());
        let (requests, failures) = (self.requests(), self.counts.failures.load(Relaxed));
        let rate = per_second(requests, time);
        format!("{requests} requests in {time:.1?}, {rate} a second; {failures} failed")
    }
}

pub(crate) fn per_second(requests: u64, time: Duration) -> u64 {
    u128::from(requests)
        .saturating_mul(1_000_000)
        .checked_div(time.as_micros())
        .and_then(|rate| rate.try_into().ok())
        .unwrap_or(0)
}

async fn visit(shop: SocketAddr, number: u16, counts: Arc<Counts>) {
    if let Err(error) = ask_and_order(shop, number, &counts).await {
        counts.failures.fetch_add(1, Relaxed);
        eprintln!("customer {number} gives up: {error}");
    }
}

/// Asks for prices, mostly, and sometimes orders.
async fn ask_and_order(
    shop: SocketAddr,
    number: u16,
    counts: &Counts,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(shop).await?;
    stream.set_nodelay(true)?;
    let (mut connection, transfer) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(transfer);

    let mut last_order = String::from("1");
    for turn in 0_u64.. {
        // Steps that have no factor in common with the number of products visit them all.
        let sku = (u64::from(number) * 7_919 + turn * 613) % u64::from(PRODUCTS);
        let (method, path) = match turn % 10 {
            3 | 6 => (Method::POST, format!("/products/{sku}/orders/1")),
            9 => (Method::GET, format!("/orders/{last_order}")),
            _ => (Method::GET, format!("/products/{sku}")),
        };
        let is_order = method == Method::POST;
        let request = Request::builder().method(method).uri(path).header("Host", "shop");
        let sent = Instant::now();
        let answer = connection.send_request(request.body(Empty::<Bytes>::new())?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();

        counts.requests.fetch_add(1, Relaxed);
        if status.is_server_error() {
            counts.failures.fetch_add(1, Relaxed);
        }
        if is_order {
            let micros = u64::try_from(sent.elapsed().as_micros())?;
            counts.slowest.fetch_max(micros, Relaxed);
            if status == StatusCode::OK {
                str::from_utf8(&body)?.trim().clone_into(&mut last_order);
            }
        }
    }
    Ok(())
}
