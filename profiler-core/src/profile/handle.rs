//! Handles: positions in the tables of a profile.

/// Turns a position in a table into a handle.
///
/// # Panics
///
/// A table with more than four thousand million entries, which memory does not hold.
pub(crate) fn index(position: usize) -> u32 {
    u32::try_from(position).expect("a table of a profile fits into 32 bits")
}
