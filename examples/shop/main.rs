//! A small shop, and its profiler: `cargo run --release --bin shop`.
//!
//! It takes orders over HTTP, keeps them in an embedded database, and changes its prices now and
//! then. That last part holds a lock for too long, and the mutex profile says so by name; an audit
//! trail only grows, and the heap profile says so. The load comes from inside, so one command shows it
//! all; [`ALLOCATOR`] and [`start_profiler`] are all that the profiler needs.

mod audit;
mod catalog;
mod load;
mod options;
mod prices;
mod report;
mod routes;
mod store;
mod workers;

use std::alloc::System;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};

use std::time::Duration;

use profiler_core::{ProfiledAllocator, thread};
use profiler_http::{Endpoint, ServeError};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::prelude::*;

use crate::audit::Audit;
use crate::catalog::Catalog;
use crate::load::Load;
use crate::options::Options;
use crate::store::Store;
use crate::workers::Queue;

/// Samples what the shop allocates, for the heap profile.
#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// Threads that carry out orders.
const WORKERS: usize = 8;

/// How often the back office looks after the shop.
const BACK_OFFICE: Duration = Duration::from_millis(250);

/// How many rounds of the back office make a checkpoint of the store.
const CHECKPOINT: u32 = 20;

/// Everything that requests share.
struct Shop {
    catalog: Catalog,
    store: Store,
    queue: Queue,
    /// Nothing if there is to be none.
    audit: Option<Audit>,
}

fn main() -> ExitCode {
    let options = match options::parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("shop: {error}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Puts tracing spans on the span stack and opens the endpoint, which starts recording.
fn start_profiler() -> Result<Endpoint, ServeError> {
    let warnings = tracing_subscriber::fmt::layer().with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(warnings).with(profiler_core::layer()).init();
    profiler_http::serve("127.0.0.1:6060")
}

fn run(options: &Options) -> Result<(), Box<dyn Error + Send + Sync>> {
    let endpoint = match options.profiler.then(start_profiler) {
        Some(Ok(endpoint)) => Some(endpoint),
        // A shop without a profiler still sells.
        Some(Err(error)) => {
            eprintln!("shop: no profiler: {error}");
            None
        }
        None => None,
    };
    let shop = Arc::new(Shop {
        catalog: Catalog::stocked(),
        store: Store::temporary()?,
        queue: Queue::default(),
        audit: options.audit.then(Audit::default),
    });
    let runtime = Runtime::new()?;
    let listener = runtime
        .block_on(TcpListener::bind(&options.addr))
        .map_err(|error| format!("--addr {} cannot be used: {error}", options.addr))?;
    println!("shop      http://{}", listener.local_addr()?);
    report::introduce(endpoint.and_then(|endpoint| endpoint.url()));

    let load = Load::new(options.load);
    let (office_open, office_closes) = mpsc::channel();
    let (report_runs, report_ends) = mpsc::channel();
    thread::scope(|scope| {
        let named = |name: String| thread::Builder::new().name(name);
        let serve = || {
            for number in 1..=WORKERS {
                named(format!("worker {number}")).spawn_scoped(scope, || workers::work(&shop))?;
            }
            named("back office".to_owned())
                .spawn_scoped(scope, || look_after(&shop, options.repricing, office_closes))?;
            named("report".to_owned())
                .spawn_scoped(scope, || report::every_interval(&load, report_ends))?;
            runtime.block_on(routes::serve(listener, &shop, &load, options.time))
        };
        // The threads end, and with them the scope, only if this is done in any case.
        let served = serve();
        load.finish();
        drop((office_open, report_runs));
        shop.queue.close();
        served
    })?;
    drop(runtime);
    println!("{}", load.summary());
    Ok(())
}

/// What nobody orders but has to be done.
fn look_after(shop: &Shop, repricing: bool, closes: Receiver<()>) {
    for round in rounds(BACK_OFFICE, closes) {
        shop.catalog.restock();
        if repricing {
            shop.catalog.reprice_catalog();
        }
        if round % CHECKPOINT == 0
            && let Err(error) = shop.store.checkpoint()
        {
            tracing::error!("the checkpoint failed: {error}");
        }
    }
}

/// Counts from one, with a pause before each, until the other end of the channel is dropped.
fn rounds(pause: Duration, end: Receiver<()>) -> impl Iterator<Item = u32> {
    (1..).take_while(move |_| end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout))
}
