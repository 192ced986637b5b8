//! Files of the product, so that the candidates count as it does and keep samples where it does.

#[path = "../../profiler-core/src/buffer/counters.rs"]
#[allow(dead_code, reason = "the candidates use a part of it")]
pub(crate) mod counters;

#[path = "../../profiler-core/src/buffer/live_set.rs"]
#[allow(dead_code, reason = "the candidates use a part of it")]
pub(crate) mod live_set;

#[path = "../../profiler-core/src/buffer/registry.rs"]
#[allow(dead_code, unused_imports, reason = "the counters need its types")]
pub(crate) mod registry;

#[path = "../../profiler-core/src/buffer/vicinity.rs"]
#[allow(dead_code, reason = "the candidates use a part of it")]
pub(crate) mod vicinity;

mod primitive {
    #![allow(unsafe_code, reason = "declared as the product declares it")]

    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering, fence};

    /// Makes atomics of zeroed memory, which in these is nothing to do.
    ///
    /// # Safety
    ///
    /// So many words from `first` on are zeroed and belong to the caller.
    pub(crate) const unsafe fn make_zeros(_first: *mut AtomicU64, _count: usize) {}
}
