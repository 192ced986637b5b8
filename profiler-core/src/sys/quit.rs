//! SIGQUIT, which Ctrl-\\ sends: asks a program to say what it does before it ends.

#![allow(unsafe_code, reason = "a signal is sent and its number written by system calls")]

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::handler::{self, Before};

/// For whom the signal was before.
static BEFORE: OnceLock<Before> = OnceLock::new();
/// Whether it has come, and what shall be done before it takes effect is not done yet.
static PENDING: AtomicBool = AtomicBool::new(false);

pub(super) fn on_quit() -> bool {
    let Some(before) = Before::of(libc::SIGQUIT) else { return false };
    // Called once, at the start.
    BEFORE.set(before).is_ok() && handler::install(libc::SIGQUIT, handle)
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // Relaxed: a flag.
    if PENDING.swap(true, Ordering::Relaxed) {
        // Somebody cannot wait, or what is to be done first hangs.
        take_effect();
    }
    if let Some(before) = BEFORE.get() {
        before.hand_on(signal, info, context);
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
