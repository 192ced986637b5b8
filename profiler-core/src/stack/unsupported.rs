//! Native stacks on platforms where they are not known: always empty.

use crate::sys::StackBounds;

/// Does nothing.
pub(crate) const fn prepare() {}

/// Does nothing.
pub(crate) const fn refresh() {}

/// Returns false.
pub(crate) const fn frame_pointers() -> bool {
    false
}

/// Returns 0: no frame is known.
pub(crate) const fn capture(_: StackBounds, _: &mut [u64]) -> usize {
    0
}
