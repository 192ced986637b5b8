//! Whether signal handlers may use thread-locals.
//!
//! Those of the program and of libraries that it is linked with lie beside libc's own, at a distance that is
//! the same on every thread. Those of a library that is loaded later are allocated for a thread when it
//! first uses one: a handler that did would wait for the lock of the allocator that it has interrupted.

#![allow(unsafe_code, reason = "libc tells where its own lies, and starts a thread")]

use std::cell::Cell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

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
///
/// One of C's: in the child of a fork one of std's may wait for ever, for a lock of std that a thread had which is
/// not there.
pub(super) fn are_at_hand() -> bool {
    extern "C" fn measure(result: *mut c_void) -> *mut c_void {
        // SAFETY: passed below, and used by nobody else until this thread is joined.
        unsafe { result.cast::<usize>().write(distance()) };
        result
    }
    let mut other = 0_usize;
    let mut thread = MaybeUninit::uninit();
    // SAFETY: the function is of the type that is asked for, and what it gets lives until it is joined.
    let made = unsafe {
        libc::pthread_create(thread.as_mut_ptr(), ptr::null(), measure, (&raw mut other).cast())
    };
    if made != 0 {
        // Where there can be no other thread, none is struck without having used them.
        return true;
    }
    // SAFETY: written above.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: joined once.
    unsafe { libc::pthread_join(thread, ptr::null_mut()) };
    other == distance()
}

#[cfg(test)]
mod tests {
    #[test]
    fn those_of_a_program_are() {
        assert!(super::are_at_hand());
    }
}
