//! The threads of the process that are alive, as far as they are known.

use super::thread::{Thread, all};
use crate::sys;

/// The threads of the process that are alive.
#[derive(Debug)]
pub(crate) struct Living {
    /// The kernel's numbers, sorted.
    pub(crate) numbers: Vec<u32>,
    /// Why others may be missing, if the system does not list them: those are known that have a block.
    pub(crate) missing: Option<&'static str>,
}

/// Returns the threads that are alive. Reads a directory, and allocates.
pub(crate) fn living() -> Living {
    match sys::threads() {
        Ok(numbers) => Living { numbers, missing: None },
        Err(reason) => {
            let owners = all().filter(|thread| thread.is_owned()).map(Thread::owner_id);
            let mut numbers: Vec<_> = owners.filter(|&owner| sys::is_thread_alive(owner)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            Living { numbers, missing: Some(reason) }
        }
    }
}
