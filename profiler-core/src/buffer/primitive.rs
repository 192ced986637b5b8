//! The atomics that the protocols of this folder are written in.
//!
//! The model checker compiles `tally.rs`, `registry.rs`, `slot.rs`, `live_set.rs`, `counters.rs`,
//! `vicinity.rs`, `question.rs` and `ledger.rs` against another module of this name; that is the only difference
//! between what is checked and what runs.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU64, Ordering, fence};

pub(crate) use portable_atomic::AtomicU128;

/// Makes atomics of zeroed memory, which in these is nothing to do: they are plain words.
///
/// # Safety
///
/// So many words from `first` on are zeroed and belong to the caller.
#[allow(unsafe_code, reason = "raw memory becomes atomics")]
pub(crate) const unsafe fn make_zeros(_first: *mut AtomicU64, _count: usize) {}
