//! Whether signal handlers may use thread-locals.
//!
//! Those of the program and of libraries that it is linked with lie beside libc's own, at a distance that is
//! the same on every thread. Those of a library that is loaded later are allocated for a thread when it
//! first uses one: a handler that did would wait for the lock of the allocator that it has interrupted.

#![allow(unsafe_code, reason = "libc tells where its own lies")]

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    /// Where it lies, all of this library's do.
    static ANY: Cell<u8> = const { Cell::new(0) };
}

/// Returns how far ours lie from libc's, on the calling thread.
fn distance() -> usize {
    // SAFETY: takes nothing and cannot fail.
    let libc = unsafe { libc::__errno_location() };
    ANY.with(|ours| ours.as_ptr().addr()).wrapping_sub(libc.addr())
}

/// Returns whether a handler may use thread-locals of this library on any thread. Starts a thread and waits
/// for it.
pub(super) fn are_at_hand() -> bool {
    let other = Arc::new(AtomicUsize::new(0));
    let thread = {
        let other = Arc::clone(&other);
        // Relaxed: joined before it is read.
        super::spawn(c"profiler-probe", STACK, move || other.store(distance(), Ordering::Relaxed))
    };
    // Where there can be no other thread, none is struck without having used them.
    thread.is_err()
        || thread.is_ok_and(|thread| {
            thread.join();
            other.load(Ordering::Relaxed) == distance()
        })
}

/// For a subtraction.
const STACK: usize = 64 << 10;

#[cfg(test)]
mod tests {
    #[test]
    fn those_of_a_program_are() {
        assert!(super::are_at_hand());
    }
}
