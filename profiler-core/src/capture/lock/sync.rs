//! Locks with the interface of `std::sync`, for `use profiler_core::sync::…` in place of
//! `use std::sync::…`.
//!
//! [`Mutex`], [`RwLock`] and [`Condvar`] behave as std's, poisoning included, and are built on them;
//! the rest of `std::sync` is re-exported as it is.
//!
//! ```
//! use profiler_core::sync::{Arc, Mutex};
//!
//! let stock = Arc::new(Mutex::named("stock", vec![1, 2]));
//! stock.lock().unwrap().push(3);
//! assert_eq!(stock.lock().unwrap().len(), 3);
//! ```

pub use std::sync::*;

pub use super::std_condvar::Condvar;
pub use super::std_mutex::{Mutex, MutexGuard};
pub use super::std_rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
