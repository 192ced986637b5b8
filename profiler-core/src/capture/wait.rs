//! Waits for things that are no lock of ours.

use std::panic::Location;

use crate::buffer::record::{Header, Source, Waiting};
use crate::buffer::thread::Thread;
use crate::buffer::wait::Wait;
use crate::capture::{self, Prepared, rates};
use crate::clock;

/// Runs `body`, and records the time as a wait of that name in the `block` profile.
///
/// For waits that the profiler cannot see: a queue of another library, a reply from a server. The
/// stack is the caller's, the label `kind` is `name`; meanwhile `goroutine` shows the thread as
/// waiting for it. Which waits are recorded is up to [`Rates::block_ns`](crate::Rates::block_ns).
///
/// ```
/// let reply = profiler_core::wait("reply", || std::sync::mpsc::channel::<u32>().1.try_recv());
/// assert!(reply.is_err());
/// ```
#[track_caller]
pub fn wait<R>(name: &'static str, body: impl FnOnce() -> R) -> R {
    let site = Location::caller();
    let _waiting = capture::thread().filter(|_| rates::any()).map(|thread| {
        let header = Header {
            waiting: Waiting::Named,
            name: Some(name),
            acquired_at: Some(site),
            ..Header::new(Source::Block)
        };
        let start = clock::now();
        let prepared = Prepared::new(header);
        let outer = thread.show(Some(Wait { since: start, row: prepared.row(), monitor: 0 }));
        Going { thread, start, prepared, outer }
    });
    body()
}

/// A wait until it is dropped, also by a panic.
struct Going {
    thread: &'static Thread,
    start: u64,
    prepared: Prepared,
    outer: Option<Wait>,
}

impl Drop for Going {
    fn drop(&mut self) {
        self.thread.show(self.outer);
        let length = clock::now().saturating_sub(self.start);
        self.prepared.add_wait(self.thread, length);
    }
}
