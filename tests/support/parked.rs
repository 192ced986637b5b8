//! Waiting until another thread sleeps, as the kernel tells it, instead of sleeping in the hope.

use std::fs;
use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks; a thread that slept all the time between them is parked.
const BETWEEN: Duration = Duration::from_millis(1);

/// Does something when it is dropped: what lets other threads end, so that a test whose assertion fails
/// in a scope does not wait for them for ever.
#[derive(Debug)]
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A thread of this process, by the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadId(u32);

/// Starts a thread and returns once it is parked.
///
/// # Panics
///
/// The thread ends, or does not park within half a minute.
pub fn start_parked<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> R + Send + 'scope,
) -> ScopedJoinHandle<'scope, R> {
    let (say, said) = mpsc::channel();
    let handle = scope.spawn(move || {
        say.send(ThreadId::current()).expect("the caller listens");
        body()
    });
    said.recv().expect("the thread is there").wait_until_parked();
    handle
}

/// What the kernel says about a thread at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    asleep: bool,
    in_futex: bool,
    switches: String,
}

impl ThreadId {
    /// Returns the calling thread's.
    ///
    /// # Panics
    ///
    /// There is no `/proc`.
    #[must_use]
    pub fn current() -> Self {
        let link = fs::read_link("/proc/thread-self").expect("/proc/thread-self");
        let name = link.file_name().and_then(|name| name.to_str()).expect("a number");
        Self(name.parse().expect("a number"))
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Waits until the thread sleeps in a futex and has not run between two looks: it waits for a
    /// lock, a condition or another thread.
    ///
    /// # Panics
    ///
    /// The thread is gone, or does not park within half a minute.
    #[track_caller]
    pub fn wait_until_parked(self) {
        self.wait_until(|look| look.asleep && look.in_futex, "parked");
    }

    /// The same for any sleep, for example in `read` or `nanosleep`.
    ///
    /// # Panics
    ///
    /// The thread is gone, or does not sleep within half a minute.
    #[track_caller]
    pub fn wait_until_asleep(self) {
        self.wait_until(|look| look.asleep, "asleep");
    }

    /// Says whether the thread sleeps now.
    ///
    /// # Panics
    ///
    /// The thread is gone.
    #[must_use]
    #[track_caller]
    pub fn is_asleep(self) -> bool {
        self.look().asleep
    }

    #[track_caller]
    fn wait_until(self, reached: impl Fn(&Look) -> bool, what: &str) {
        let start = Instant::now();
        let mut before = None;
        loop {
            let now = self.look();
            if reached(&now) && before.as_ref() == Some(&now) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "thread {} is not {what}: {now:?}", self.0);
            before = Some(now);
            thread::sleep(BETWEEN);
        }
    }

    #[track_caller]
    fn look(self) -> Look {
        let read = |file: &str| {
            let path = format!("/proc/self/task/{}/{file}", self.0);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let status = read("status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("/proc status has no {name}")).trim().to_owned()
        };
        // `202 0x7f… …` in a system call, `running` outside of one.
        let call = read("syscall");
        Look {
            asleep: field("State:").starts_with('S'),
            in_futex: call.split(' ').next() == Some(FUTEX),
            switches: field("voluntary_ctxt_switches:"),
        }
    }
}

/// The number of `futex` among the system calls.
const FUTEX: &str = if cfg!(target_arch = "aarch64") { "98" } else { "202" };

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_waits_is_parked_and_one_that_runs_is_not() {
        let (say, said) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                say.send(ThreadId::current()).unwrap();
                released.recv().unwrap_err();
            });
            let waiter = said.recv().unwrap();
            waiter.wait_until_parked();
            assert!(waiter.is_asleep());
            assert!(!ThreadId::current().is_asleep());
            drop(release);
        });
    }
}
