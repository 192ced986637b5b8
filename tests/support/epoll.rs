//! A wait that every handled signal ends, whatever the flags of its handler.

#![allow(unsafe_code, reason = "epoll is made by system calls")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

/// Waits in `epoll_wait` for nothing, so many milliseconds at a time, until told otherwise; returns how
/// often a signal ended it.
#[must_use]
pub fn interruptions(until: &AtomicBool, milliseconds: i32) -> usize {
    // SAFETY: takes a flag.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    let mut interrupted = 0;
    while !until.load(Ordering::Relaxed) {
        let mut event = MaybeUninit::<libc::epoll_event>::uninit();
        // SAFETY: room for one event.
        let events = unsafe { libc::epoll_wait(epoll, event.as_mut_ptr(), 1, milliseconds) };
        interrupted += usize::from(events < 0);
    }
    // SAFETY: opened above.
    unsafe { libc::close(epoll) };
    interrupted
}
