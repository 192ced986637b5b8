//! Locks of the `parking_lot` interface.
