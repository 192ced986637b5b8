//! The shop over HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, serve::ListenerExt as _};
use profiler_core::profiled;
use tokio::net::TcpListener;

use crate::Shop;
use crate::catalog::Sku;
use crate::load::Load;
use crate::workers::OrderError;

/// Serves the shop, and the customers that come from inside, until it is time to close.
pub(crate) async fn serve(
    listener: TcpListener,
    shop: &Arc<Shop>,
    load: &Load,
    time: Option<Duration>,
) -> io::Result<()> {
    let mut customers = load.start(listener.local_addr()?);
    let routes = Router::new()
        .route("/products/{sku}", get(show_price))
        .route("/products/{sku}/orders/{quantity}", post(place_order))
        .route("/orders/{number}", get(show_order))
        .with_state(Arc::clone(shop));
    let listener = listener.tap_io(|connection| {
        // Without this answers wait for acknowledgements; if it fails, they do.
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move {
            closing_time(time).await;
            customers.shutdown().await;
        })
        .await
}

async fn closing_time(time: Option<Duration>) {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    match time {
        Some(time) => tokio::time::timeout(time, interrupted).await.unwrap_or(()),
        None => interrupted.await,
    }
}

#[profiled]
async fn show_price(State(shop): State<Arc<Shop>>, Path(sku): Path<Sku>) -> Response {
    match shop.catalog.prices.quote(sku) {
        Some(price) => format!("{price}\n").into_response(),
        None => OrderError::NoSuchProduct.into_response(),
    }
}

#[profiled]
async fn place_order(
    State(shop): State<Arc<Shop>>,
    Path((sku, quantity)): Path<(Sku, u32)>,
) -> Result<String, OrderError> {
    // A worker hangs up only if it panicked.
    let number = shop.queue.push(sku, quantity)?.await.map_err(|_| OrderError::Busy)??;
    Ok(format!("{number}\n"))
}

#[profiled]
async fn show_order(State(shop): State<Arc<Shop>>, Path(number): Path<u64>) -> Response {
    // The store may be waiting for the disk, and so must not be asked on a thread of the runtime.
    let found = tokio::task::spawn_blocking(move || shop.store.find(number)).await;
    match found.map_err(Into::into).flatten() {
        Ok(Some(order)) => format!("{order:?}\n").into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "there is no such order\n").into_response(),
        Err(error) => OrderError::Store(error).into_response(),
    }
}

impl IntoResponse for OrderError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoSuchProduct => StatusCode::NOT_FOUND,
            Self::SoldOut => StatusCode::CONFLICT,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{self}\n")).into_response()
    }
}
