//! Threads of the profiler's own where nothing native is known: std's.

use std::ffi::CStr;
use std::io;
use std::thread::{Builder, JoinHandle};

/// A thread of ours. Goes on when this is dropped.
#[derive(Debug)]
pub struct OwnThread(JoinHandle<()>);

pub(super) fn spawn(
    name: &'static CStr,
    stack_size: usize,
    body: Box<dyn FnOnce() + Send>,
) -> io::Result<OwnThread> {
    let builder = Builder::new().name(name.to_string_lossy().into_owned());
    builder.stack_size(stack_size).spawn(body).map(OwnThread)
}

pub(super) const fn is_own(_: u32) -> bool {
    false
}

impl OwnThread {
    /// Waits until the thread has ended.
    pub fn join(self) {
        // If it has panicked it has ended, as wanted.
        let _ = self.0.join();
    }
}
