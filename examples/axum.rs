//! A service of axum that has its profiles under `/debug/pprof`, behind a token.
//!
//! ```sh
//! cargo run --release --bin axum
//! go tool pprof -top http://:sesame@127.0.0.1:3000/debug/pprof/mutex
//! ```

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use profiler_core::parking_lot::Mutex;
use profiler_core::profiled;
use profiler_http::Access;

/// How often the page was asked for.
type Visits = Arc<Mutex<u64>>;

#[profiled]
async fn page(State(visits): State<Visits>) -> String {
    let mut visits = visits.lock();
    *visits += 1;
    format!("visit {visits}\n")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let profiles = profiler_http::service(Access::token("sesame"))?;
    let visits = Visits::new(Mutex::named("visits", 0));
    let router = Router::new()
        .route("/", get(page))
        .with_state(visits)
        .nest_service("/debug/pprof", profiles);

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("http://{}/", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}
