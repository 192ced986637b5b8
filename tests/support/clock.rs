//! Clocks of the kernel.

#![allow(unsafe_code, reason = "clocks are read by a system call")]

use std::mem::MaybeUninit;

/// Returns the CPU time of the calling thread in nanoseconds.
///
/// # Panics
///
/// The kernel has no such clock.
#[must_use]
pub fn thread_cpu() -> u64 {
    let mut time = MaybeUninit::uninit();
    // SAFETY: the result is a live exclusive value.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(read, 0, "a clock of the thread");
    // SAFETY: written above.
    nanoseconds(unsafe { time.assume_init() })
}

/// Returns the nanoseconds between two of the kernel's ticks, at which it looks at the timers of CPU
/// clocks.
///
/// # Panics
///
/// The kernel does not say.
#[must_use]
pub fn tick() -> u64 {
    let mut time = MaybeUninit::uninit();
    // SAFETY: the result is a live exclusive value.
    let read = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, time.as_mut_ptr()) };
    assert_eq!(read, 0, "the clock that goes by the tick");
    // SAFETY: written above.
    nanoseconds(unsafe { time.assume_init() })
}

const fn nanoseconds(time: libc::timespec) -> u64 {
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
