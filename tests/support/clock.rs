//! Clocks of the kernel.

#![allow(unsafe_code, reason = "clocks are read by a system call")]

/// Returns the CPU time of the calling thread in nanoseconds.
///
/// # Panics
///
/// The kernel has no such clock.
#[must_use]
pub fn thread_cpu() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is a live exclusive value.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(read, 0, "a clock of the thread");
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
