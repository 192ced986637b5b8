//! The audit trail: who was sold what, for whoever may want to know one day.
//!
//! Nobody takes a record out. This is the second mistake of the shop, a leak, and the heap profile
//! names the function that made what is alive.

use std::time::SystemTime;

use profiler_core::profiled;
use profiler_core::sync::Mutex;

use crate::store::Order;

/// Characters of a record, as the auditors' program wants them.
const WIDTH: usize = 512;

/// At 200 MiB it stops, so that the demonstration does no harm: after half a minute or more. A text that grows to
/// its width holds twice as much.
const MOST: usize = (200 << 20) / (2 * WIDTH);

pub(crate) struct Audit(Mutex<Vec<String>>);

impl Default for Audit {
    fn default() -> Self {
        Self(Mutex::named("audit", Vec::new()))
    }
}

#[profiled]
impl Audit {
    /// Keeps a record of an order.
    pub(crate) fn remember(&self, number: u64, order: Order) {
        let Order { sku, quantity, price } = order;
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = format!("{time:?}: order {number}, {quantity} of {sku} at {price} cents");
        let record = format!("{record:WIDTH$}");
        let mut trail = self.0.lock().expect("no thread panicked here");
        if trail.len() < MOST {
            trail.push(record);
        }
    }
}
