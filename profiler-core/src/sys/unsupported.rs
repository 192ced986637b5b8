//! Every platform that has no file of its own.

/// Returns 0: threads have no number here.
pub(crate) fn thread_id() -> u32 {
    0
}

/// Returns an empty text.
pub(crate) fn memory_maps() -> String {
    String::new()
}
