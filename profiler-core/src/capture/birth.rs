//! Threads whose creator is known: std's `thread`, with the creator's stack in `threadcreate`.

use std::io;
use std::thread;
pub use std::thread::*;

use crate::buffer::origin::{creator_is_known, nobody_was_created};
use crate::buffer::record::{Header, Source};
use crate::capture;

/// Spawns a thread, as [`std::thread::spawn`] does, and records who did.
///
/// The thread is known to the profiler from its start on.
///
/// # Panics
///
/// If the system refuses to create a thread; see [`Builder::spawn`].
///
/// ```
/// let sum = profiler_core::thread::spawn(|| 1 + 1).join().expect("no panic");
/// assert_eq!(sum, 2);
/// ```
pub fn spawn<F, T>(body: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    Builder::new().spawn(body).expect("failed to spawn thread")
}

/// Configures and spawns threads, as [`std::thread::Builder`] does, and records who did.
///
/// It has the methods of std's builder but the unsafe one. Threads that a [`Scope`] spawns by its own
/// method have no known creator; [`Builder::spawn_scoped`] has.
#[derive(Debug)]
#[must_use = "must eventually spawn the thread"]
pub struct Builder(thread::Builder);

impl Builder {
    /// Makes a builder without a name or a stack size.
    pub fn new() -> Self {
        Self(thread::Builder::new())
    }

    /// Names the thread to be; see [`std::thread::Builder::name`].
    pub fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    /// Sets the size of its stack in bytes; see [`std::thread::Builder::stack_size`].
    pub fn stack_size(self, bytes: usize) -> Self {
        Self(self.0.stack_size(bytes))
    }

    /// Spawns the thread.
    ///
    /// # Errors
    ///
    /// The system refuses to create it.
    ///
    /// # Panics
    ///
    /// If the name contains a NUL byte.
    pub fn spawn<F, T>(self, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        recorded(|on| self.0.spawn(born(on, body)))
    }

    /// Spawns the thread within a scope.
    ///
    /// # Errors
    ///
    /// The system refuses to create it.
    ///
    /// # Panics
    ///
    /// If the name contains a NUL byte.
    pub fn spawn_scoped<'scope, 'env, F, T>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        body: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        recorded(|on| self.0.spawn_scoped(scope, born(on, body)))
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

/// Spawns and, if that worked and the profiler is on, records where.
fn recorded<H>(spawn: impl FnOnce(bool) -> io::Result<H>) -> io::Result<H> {
    let on = capture::is_on();
    if on {
        creator_is_known();
    }
    let handle = spawn(on).inspect_err(|_| {
        if on {
            nobody_was_created();
        }
    })?;
    if on {
        capture::record(Header::new(Source::Threadcreate), [1, 0, 0, 0]);
    }
    Ok(handle)
}

/// The body of a thread that joins the profiler first, so that it is not counted as unknown.
fn born<T>(on: bool, body: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        if on && capture::thread().is_some() {
            capture::cpu::thread_starts();
        }
        body()
    }
}
