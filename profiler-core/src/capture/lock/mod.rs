//! Locks that know who holds them and who waits.

mod monitor;
#[cfg(feature = "parking_lot")]
pub mod parking_lot;
