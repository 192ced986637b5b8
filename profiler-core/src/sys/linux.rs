//! Linux.

#![allow(unsafe_code, reason = "system calls")]

/// Returns the kernel's id of this thread.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    let id = unsafe { libc::gettid() };
    id.cast_unsigned()
}

/// Returns the text of `/proc/self/maps`, empty if it cannot be read.
pub(crate) fn memory_maps() -> String {
    std::fs::read_to_string("/proc/self/maps").unwrap_or_default()
}
