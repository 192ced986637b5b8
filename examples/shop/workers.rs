//! The threads that carry out orders, and the queue in front of them.

use std::collections::VecDeque;
use std::fmt;

use profiler_core::profiled;
use profiler_core::sync::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::Shop;
use crate::catalog::Sku;
use crate::store::{Order, StoreError};

/// Orders that may wait; more are turned away, so that none waits for long.
const LONGEST_QUEUE: usize = 1_000;

/// An order that waits for a worker.
pub(crate) struct Job {
    sku: Sku,
    quantity: u32,
    reply: oneshot::Sender<Result<u64, OrderError>>,
}

#[derive(Debug)]
pub(crate) enum OrderError {
    NoSuchProduct,
    SoldOut,
    Busy,
    Store(StoreError),
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProduct => f.write_str("there is no such product"),
            Self::SoldOut => f.write_str("there are not enough left"),
            Self::Busy => f.write_str("too many orders are waiting"),
            Self::Store(error) => write!(f, "the order could not be stored: {error}"),
        }
    }
}

pub(crate) struct Queue {
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self { line: Mutex::named("queue", Line::default()), changed: Condvar::new() }
    }
}

#[profiled]
impl Queue {
    /// Hands an order to the workers; the receiver gets its number.
    pub(crate) fn push(
        &self,
        sku: Sku,
        quantity: u32,
    ) -> Result<oneshot::Receiver<Result<u64, OrderError>>, OrderError> {
        let (reply, result) = oneshot::channel();
        let mut line = self.line.lock().expect("no thread panicked here");
        if line.closed || line.jobs.len() >= LONGEST_QUEUE {
            return Err(OrderError::Busy);
        }
        line.jobs.push_back(Job { sku, quantity, reply });
        drop(line);
        self.changed.notify_one();
        Ok(result)
    }

    /// Waits for an order; there is none once the queue is closed and empty.
    fn pop(&self) -> Option<Job> {
        let line = self.line.lock().expect("no thread panicked here");
        let idle = |line: &mut Line| line.jobs.is_empty() && !line.closed;
        self.changed.wait_while(line, idle).expect("no thread panicked here").jobs.pop_front()
    }

    pub(crate) fn close(&self) {
        self.line.lock().expect("no thread panicked here").closed = true;
        self.changed.notify_all();
    }
}

/// What each worker does until the shop closes.
pub(crate) fn work(shop: &Shop) {
    while let Some(Job { sku, quantity, reply }) = shop.queue.pop() {
        // The customer may have hung up.
        let _ = reply.send(carry_out(shop, sku, quantity));
    }
}

#[profiled]
fn carry_out(shop: &Shop, sku: Sku, quantity: u32) -> Result<u64, OrderError> {
    let price = shop.catalog.prices.quote(sku).ok_or(OrderError::NoSuchProduct)?;
    if !shop.catalog.reserve(sku, quantity) {
        return Err(OrderError::SoldOut);
    }
    let order = Order { sku, quantity, price };
    let number = shop.store.record(order).map_err(OrderError::Store)?;
    if let Some(audit) = &shop.audit {
        audit.remember(number, order);
    }
    Ok(number)
}
