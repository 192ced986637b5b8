//! The product's files, against the model's atomics.

pub(crate) mod primitive {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};

    pub(crate) use crate::wide::AtomicU128;
}

#[path = "../../profiler-core/src/buffer/registry.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod registry;
#[path = "../../profiler-core/src/buffer/row.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod row;
#[path = "../../profiler-core/src/buffer/slot.rs"]
pub(crate) mod slot;
#[path = "../../profiler-core/src/buffer/tally.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod tally;
