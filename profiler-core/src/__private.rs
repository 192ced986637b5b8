//! What the macros and `profiler-http` call; not a public interface.

use std::ffi::CStr;
use std::io;

pub use profiler_macros::profiled_last;

pub use crate::callsite::{CallSite, Name};
pub use crate::capture::labels::Restore;
pub use crate::capture::scope::{Entered, enter};
pub use crate::capture::{CallLabels, Labelled, Profiled, enter_labels, future, labelled};

pub use crate::per_process::PerProcess;
pub use crate::profiler::see_to_tending;
pub use crate::sys::{OwnSocket, OwnThread, close_inherited, process_number};

/// Makes a thread of the profiler's: it blocks all signals, and is none of the program's in profiles. The name has up to 15
/// bytes.
///
/// # Errors
///
/// The system refuses to create it.
pub fn spawn(
    name: &'static CStr,
    stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<OwnThread> {
    crate::own_thread::spawn(name, stack_size, body)
}

/// Stands for the return type of an `async fn` in code that never runs.
#[must_use]
pub fn output<T>() -> T {
    unreachable!("only named to give an async block its type")
}
