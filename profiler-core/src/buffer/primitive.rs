//! The atomics that the protocols of this folder are written in.
//!
//! The model checker compiles `tally.rs` and `registry.rs` against another file of this name; that
//! is the only difference between what is checked and what runs.

pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
