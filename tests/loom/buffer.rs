//! The product's files, against the model's atomics.

pub(crate) mod primitive {
    #![allow(unsafe_code, reason = "raw memory becomes atomics")]

    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU16, AtomicU64, Ordering, fence,
    };

    pub(crate) use crate::wide::AtomicU128;

    /// Makes atomics of raw memory: the model's must be registered, each by itself.
    ///
    /// # Safety
    ///
    /// So many words from `first` on belong to the caller.
    pub(crate) unsafe fn make_zeros(first: *mut AtomicU64, count: usize) {
        for index in 0..count {
            // SAFETY: the caller owns so many words.
            unsafe { first.wrapping_add(index).write(AtomicU64::new(0)) };
        }
    }
}

#[path = "../../profiler-core/src/buffer/counters.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod counters;
#[path = "../../profiler-core/src/buffer/live_set.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod live_set;
#[path = "../../profiler-core/src/buffer/question.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod question;
#[path = "../../profiler-core/src/buffer/registry.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod registry;
#[path = "../../profiler-core/src/buffer/rest.rs"]
mod rest;
#[path = "../../profiler-core/src/buffer/row.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod row;
#[path = "../../profiler-core/src/buffer/slot.rs"]
pub(crate) mod slot;
#[path = "../../profiler-core/src/buffer/table.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod table;
#[path = "../../profiler-core/src/buffer/tally.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod tally;
#[path = "../../profiler-core/src/buffer/vicinity.rs"]
#[allow(dead_code, reason = "the models use a part of it")]
pub(crate) mod vicinity;
