//! The one way in which the profiler makes threads: with all signals blocked, a name, and a block of its own, by which they
//! are not taken for the program's.

use std::ffi::CStr;
use std::io;

use crate::buffer::origin::{ours_is_coming, ours_is_not_coming};
use crate::capture;
use crate::sys::{self, OwnThread};

/// Makes a thread of a name of up to 15 bytes, and with so many bytes of stack. A panic ends it alone.
///
/// It blocks all signals before it is there, but for those of faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS),
/// which a thread can only raise itself. So it answers no questions either, and has no samples.
///
/// # Errors
///
/// The system refuses to create it.
pub(crate) fn spawn(
    name: &'static CStr,
    stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<OwnThread> {
    if !capture::is_on() {
        return sys::spawn(name, stack_size, body);
    }
    // Before, so that it is never taken for a thread of unknown origin.
    ours_is_coming();
    let joins = move || {
        capture::thread();
        body();
    };
    sys::spawn(name, stack_size, joins).inspect_err(|_| ours_is_not_coming())
}
