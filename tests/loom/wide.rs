//! An atomic word of 128 bits for loom, which has none: one that cannot be torn, behind a lock.

use std::sync::atomic::Ordering;

use loom::sync::Mutex;

/// Every access is one step, as the processor's is.
#[derive(Debug)]
pub(crate) struct AtomicU128(Mutex<u128>);

impl AtomicU128 {
    pub(crate) fn new(value: u128) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, access: impl FnOnce(&mut u128) -> R) -> R {
        access(&mut self.0.lock().expect("no model panics here"))
    }

    pub(crate) fn load(&self, _: Ordering) -> u128 {
        self.with(|value| *value)
    }

    pub(crate) fn fetch_update(
        &self,
        _: Ordering,
        _: Ordering,
        change: impl FnOnce(u128) -> Option<u128>,
    ) -> Result<u128, u128> {
        self.with(|value| match change(*value) {
            Some(changed) => Ok(std::mem::replace(value, changed)),
            None => Err(*value),
        })
    }
}
