//! Native stacks on platforms where they are not known: always empty.

use crate::loaded::Closed;
use crate::sys::{Registers, StackBounds};

/// Room for a thread that calls [`refresh`], in bytes.
pub(crate) const REFRESH_STACK: usize = 128 << 10;

/// Does nothing.
pub(crate) const fn prepare() {}

/// Does nothing.
pub(crate) const fn refresh() {}

/// Nothing is known of libraries.
pub(crate) const fn unloaded() -> Option<u64> {
    None
}

/// Returns 0: no walk is begun.
pub(crate) const fn cut_walks() -> u64 {
    0
}

/// Returns 0: no frame is known.
pub(crate) const fn capture(_: Option<StackBounds>, _: &mut [u8], _: &mut [u64]) -> usize {
    0
}

pub(crate) const fn capture_interrupted(
    _: Registers,
    _: Option<StackBounds>,
    _: &mut [u64],
) -> usize {
    0
}

/// Returns 0: nothing is known to be closed.
pub(crate) const fn closings_under(_: &[u64]) -> u64 {
    0
}

pub(crate) const fn closed() -> (Vec<Closed>, u64) {
    (Vec::new(), 0)
}

pub(crate) const fn noted() -> (Vec<Closed>, u64) {
    (Vec::new(), 0)
}

pub(crate) const fn is_time_to_look() -> bool {
    false
}

pub(crate) const fn was_touched(_: u64) -> bool {
    false
}
