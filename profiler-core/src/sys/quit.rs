//! SIGQUIT, which Ctrl-\\ sends: asks a program to say what it does before it ends.

#![allow(unsafe_code, reason = "a signal is sent and its number written by system calls")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::handler::{self, Before};
use super::platform::KeepErrno;
use crate::first::First;

/// For whom the signal was before.
static BEFORE: First<Before> = First::new();
/// Whether it has come, and what shall be done before it takes effect is not done yet.
static PENDING: AtomicBool = AtomicBool::new(false);

/// The process that says something first: a child of a fork has no thread that would, until one is made there.
static PROCESS: AtomicU32 = AtomicU32::new(0);

pub(super) fn on_quit() -> bool {
    // Relaxed: the system call below orders it before the first signal.
    PROCESS.store(std::process::id(), Ordering::Relaxed);
    let Some(before) = Before::of(libc::SIGQUIT) else { return false };
    // Once, at the start; again in the child of a fork that came in the midst of it.
    if !before.is_for(handle) {
        BEFORE.get_or_make(|| before);
    }
    handler::install(libc::SIGQUIT, handle)
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let _errno = KeepErrno::new();
    // Relaxed: see `on_quit`.
    let is_child = PROCESS.load(Ordering::Relaxed) != std::process::id();
    // Relaxed: a flag.
    if is_child || PENDING.swap(true, Ordering::Relaxed) {
        // Nobody is there, or somebody cannot wait, or what is to be done first hangs.
        take_effect();
    }
    if let Some(before) = BEFORE.get() {
        before.hand_on(signal, info, context);
    }
}

/// Has the calling process say something first: it has a thread for that now.
pub(super) fn quit_here() {
    let here = std::process::id();
    // Relaxed, both: see `on_quit`.
    if PROCESS.swap(here, Ordering::Relaxed) != here {
        // What came to the parent is no affair of this one's.
        PENDING.store(false, Ordering::Relaxed);
    }
}

pub(super) fn is_quitting() -> bool {
    // Relaxed: a flag.
    PENDING.load(Ordering::Relaxed)
}

pub(super) fn quit() {
    // Relaxed: a flag.
    PENDING.store(false, Ordering::Relaxed);
    take_effect();
}

/// Ends the process, if that is what the signal did before.
fn take_effect() {
    if let Some(before) = BEFORE.get().filter(|before| before.is_default()) {
        before.restore(libc::SIGQUIT);
        // SAFETY: takes nothing and cannot fail.
        let process = unsafe { libc::getpid() };
        // SAFETY: a signal to this process.
        unsafe { libc::kill(process, libc::SIGQUIT) };
    }
}
