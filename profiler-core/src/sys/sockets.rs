//! Sockets of the profiler's own, which a child of a fork does not keep.
//!
//! A child inherits every descriptor. While it holds a listener nobody is refused, and nobody answers; while it holds a
//! connection whose parent has ended, the client waits. So the child closes them in its handler of forks; where none runs, when it
//! next has to do with such sockets.
//!
//! A descriptor is taken off the list before it is closed, so that a child never closes what has the same number.
//! One that is forked between the two, or between `accept` and the list, keeps the connection.

#![allow(unsafe_code, reason = "descriptors are closed by system calls")]

use std::mem::{ManuallyDrop, MaybeUninit};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::process::{number, on_fork_child};

/// A listener, and as many connections as there may be, twice.
const PLACES: usize = 128;

static OPEN: [Place; PLACES] = [const { Place::new() }; PLACES];

/// A descriptor that a child closes.
#[derive(Debug)]
struct Place {
    /// Its number, and above it that of the process and 1. Zero is free.
    word: AtomicU64,
    /// What the kernel calls the socket: a child may have closed it, as daemons do with all that they inherit, and
    /// have something else by that number.
    socket: AtomicU64,
}

impl Place {
    const fn new() -> Self {
        Self { word: AtomicU64::new(0), socket: AtomicU64::new(0) }
    }

    /// Changes the word; false if it is another one by now.
    fn exchange(&self, from: u64, to: u64) -> bool {
        // Relaxed, both: the word says all, and the rest is read in another process.
        self.word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Returns the number of what is open by that descriptor.
fn node(descriptor: RawFd) -> Option<u64> {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: written on success.
    let asked = unsafe { libc::fstat(descriptor, status.as_mut_ptr()) };
    // SAFETY: written, then.
    (asked == 0).then(|| unsafe { status.assume_init() }.st_ino)
}

/// A socket that is this process's alone.
#[derive(Debug)]
pub struct OwnSocket<S> {
    socket: ManuallyDrop<S>,
    /// Where it is listed, and how; nothing if there was no room.
    listed: Option<(&'static Place, u64)>,
}

impl OwnSocket<TcpListener> {
    /// Has a listener closed in every child.
    #[must_use]
    pub fn listener(socket: TcpListener) -> Self {
        Self::new(socket)
    }
}

impl OwnSocket<TcpStream> {
    /// Has a connection closed in every child.
    #[must_use]
    pub fn stream(socket: TcpStream) -> Self {
        Self::new(socket)
    }
}

impl<S: AsRawFd> OwnSocket<S> {
    fn new(socket: S) -> Self {
        static CLOSE: fn() = close_inherited;
        on_fork_child(&CLOSE);
        let descriptor = socket.as_raw_fd();
        let word = u64::from(number() + 1) << 32 | u64::from(descriptor.cast_unsigned());
        let listed = OPEN.iter().find(|place| place.exchange(0, word)).map(|place| (place, word));
        if let Some((place, _)) = listed {
            // Relaxed: read in a child.
            place.socket.store(node(descriptor).unwrap_or(0), Ordering::Relaxed);
        }
        Self { socket: ManuallyDrop::new(socket), listed }
    }
}

/// Closes what this process has from its parents.
///
/// # Signal safety
///
/// Atomics, `fstat` and `close`.
pub fn close_inherited() {
    let here = u64::from(number() + 1);
    for place in &OPEN {
        // Relaxed, both: written before the fork.
        let word = place.word.load(Ordering::Relaxed);
        let socket = place.socket.load(Ordering::Relaxed);
        if word == 0 || word >> 32 == here || !place.exchange(word, 0) {
            continue;
        }
        let descriptor = (word as u32).cast_signed();
        if node(descriptor) == Some(socket) {
            // SAFETY: the socket, and nobody else closes it: its owner was not about to when the process was forked, or it
            // would be off the list, and does not now that it is.
            unsafe { libc::close(descriptor) };
        }
    }
}

impl<S> Deref for OwnSocket<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

impl<S> Drop for OwnSocket<S> {
    fn drop(&mut self) {
        if self.listed.is_none_or(|(place, word)| place.exchange(word, 0)) {
            // SAFETY: dropped once, here.
            unsafe { ManuallyDrop::drop(&mut self.socket) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::FromRawFd;

    use super::*;

    #[test]
    fn a_child_closes_what_it_inherits_and_nothing_else() {
        let listener = OwnSocket::listener(TcpListener::bind("127.0.0.1:0").unwrap());
        // A number that other tests, which open files meanwhile, do not come to.
        let high = || {
            let low = TcpListener::bind("127.0.0.1:0").unwrap();
            // SAFETY: an open descriptor.
            let number = unsafe { libc::fcntl(low.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 700) };
            assert!(number >= 700);
            // SAFETY: just made, and nobody else's.
            unsafe { TcpListener::from_raw_fd(number) }
        };
        let gone = OwnSocket::listener(high());
        let number_of_gone = gone.as_raw_fd();
        drop(gone);
        let again = high();
        assert_eq!(again.as_raw_fd(), number_of_gone, "so that it could be mistaken");
        let is_open = |descriptor| {
            // SAFETY: asks about a number.
            unsafe { libc::fcntl(descriptor, libc::F_GETFD) >= 0 }
        };
        // SAFETY: the child makes system calls and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let was = listener.as_raw_fd();
            let closed = !is_open(was);
            // What has its number now is another's.
            // SAFETY: an open descriptor.
            let other = unsafe { libc::fcntl(again.as_raw_fd(), libc::F_DUPFD, was) };
            drop(listener);
            let is_right = closed && other == was && is_open(was) && is_open(again.as_raw_fd());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(is_right)) };
        }
        let mut status = 0;
        // SAFETY: the status is a live exclusive value.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status));
        assert_eq!(libc::WEXITSTATUS(status), 1);
        assert!(is_open(listener.as_raw_fd()));
    }
}
