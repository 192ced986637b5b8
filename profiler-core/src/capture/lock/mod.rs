//! Locks that know who holds them and who waits.
//!
//! Both families, `parking_lot`'s and std's, are decorators: the lock below does the locking, a
//! [`monitor`] beside it keeps who holds and who waits, a [`condvar`] queue who waits for what.

mod condvar;
#[cfg(feature = "parking_lot")]
mod guard;
mod monitor;
#[cfg(feature = "parking_lot")]
pub mod parking_lot;
#[cfg(feature = "parking_lot")]
mod raw_condvar;
#[cfg(feature = "parking_lot")]
mod raw_mutex;
#[cfg(feature = "parking_lot")]
mod raw_rwlock;
#[cfg(feature = "parking_lot")]
mod raw_rwlock_upgrade;
mod std_condvar;
mod std_mutex;
mod std_rwlock;
pub mod sync;
mod waiters;
