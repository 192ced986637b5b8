//! Locks that know who holds them and who waits.

#[cfg(feature = "parking_lot")]
mod guard;
mod monitor;
#[cfg(feature = "parking_lot")]
pub mod parking_lot;
#[cfg(feature = "parking_lot")]
mod raw_mutex;
#[cfg(feature = "parking_lot")]
mod raw_rwlock;
#[cfg(feature = "parking_lot")]
mod raw_rwlock_upgrade;
mod std_mutex;
mod std_rwlock;
pub mod sync;
