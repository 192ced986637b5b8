//! Locks that know who holds them and who waits.

mod monitor;
#[cfg(feature = "parking_lot")]
pub mod parking_lot;
#[cfg(feature = "parking_lot")]
mod raw_mutex;
mod std_mutex;
pub mod sync;
