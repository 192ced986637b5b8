//! In debug builds: whether a signal's handler of ours runs on this thread, in which nothing may be
//! allocated. Release builds know nothing of it.

#[cfg(debug_assertions)]
use std::cell::Cell;

#[cfg(debug_assertions)]
thread_local! {
    // Without a destructor and initialised by the compiler, so that asking allocates nothing.
    static RUNS: Cell<bool> = const { Cell::new(false) };
}

/// Stands for the time that a handler runs.
#[must_use = "the handler is left when this is dropped"]
#[derive(Debug)]
pub(crate) struct InHandler {
    /// A handler may be interrupted by one of another signal.
    #[cfg(debug_assertions)]
    before: bool,
}

impl InHandler {
    #[inline(always)]
    pub(crate) fn enter() -> Self {
        Self {
            #[cfg(debug_assertions)]
            before: RUNS.replace(true),
        }
    }
}

#[cfg(debug_assertions)]
impl Drop for InHandler {
    fn drop(&mut self) {
        RUNS.set(self.before);
    }
}

/// Ends the process with a sentence if this is called in a handler; called by the allocator.
#[inline(always)]
pub(crate) fn assert_may_allocate() {
    #[cfg(debug_assertions)]
    if RUNS.get() {
        super::platform::die(b"profiler: a signal's handler has called the allocator\n");
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;
    use crate::ProfiledAllocator;

    /// The allocator is called in a child process.
    #[test]
    #[allow(unsafe_code, reason = "the allocator is called as the compiler calls it")]
    fn an_allocation_in_a_handler_ends_the_process() {
        const CHILD: &str = "PROFILER_ALLOCATES_IN_HANDLER";
        if std::env::var_os(CHILD).is_some() {
            let allocator = ProfiledAllocator::new(System);
            drop(InHandler::enter());
            // SAFETY: the size is not zero.
            let block = unsafe { allocator.alloc(Layout::new::<u64>()) };
            let _in_handler = InHandler::enter();
            // SAFETY: allocated above.
            return unsafe { allocator.dealloc(block, Layout::new::<u64>()) };
        }
        let output = Command::new(std::env::current_exe().expect("the path of the test binary"))
            .args([
                "--exact",
                "sys::in_handler::tests::an_allocation_in_a_handler_ends_the_process",
            ])
            .arg("--nocapture")
            .env(CHILD, "1")
            .output()
            .expect("it runs");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("a signal's handler has called the allocator"), "{said}");
    }
}
