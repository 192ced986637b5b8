//! The prices that customers see: read by every request, replaced now and then.
//!
//! This part of the shop knows nothing of the profiler but the type of its lock. It uses the spans
//! of `tracing`, as many libraries do; the profiler's layer puts them on the same stack.

use std::collections::HashMap;

use profiler_core::parking_lot::RwLock;
use tracing::instrument;

use crate::catalog::{Cents, Sku};

pub(crate) struct Prices(RwLock<HashMap<Sku, Cents>>);

impl Default for Prices {
    fn default() -> Self {
        Self(RwLock::named("prices", HashMap::new()))
    }
}

impl Prices {
    #[instrument(skip_all)]
    pub(crate) fn quote(&self, sku: Sku) -> Option<Cents> {
        self.0.read().get(&sku).copied()
    }

    #[instrument(skip_all)]
    pub(crate) fn publish(&self, prices: HashMap<Sku, Cents>) {
        *self.0.write() = prices;
    }
}
