//! The atomics that the protocols of this folder are written in.
//!
//! The model checker compiles `tally.rs`, `registry.rs`, `slot.rs` and `ledger.rs` against another
//! module of this name; that is the only difference between what is checked and what runs.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering, fence};

pub(crate) use portable_atomic::AtomicU128;
