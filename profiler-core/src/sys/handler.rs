//! Handlers of signals, and whom a signal was for before.

#![allow(unsafe_code, reason = "signal handlers are set by system calls")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// What the kernel calls: the signal, what it says, and the registers it has struck.
pub(super) type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// Whom a signal was for.
#[derive(Clone, Copy)]
pub(super) struct Before(libc::sigaction);

/// Has a handler run at a signal, on the alternate signal stack if there is one, and no other handler
/// meanwhile; calls that it interrupts begin again where the kernel does that. Returns false if the system
/// refuses.
pub(super) fn install(signal: c_int, handler: Handler) -> bool {
    // SAFETY: zeroed is a value of this type: no flags, nothing masked.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: a live set, all of which is written.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the handler is a function of this program and does what handlers may.
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) == 0 }
}

impl Before {
    /// Asks for whom a signal is now; nothing if there is none of that number.
    pub(super) fn of(signal: c_int) -> Option<Self> {
        let mut before = MaybeUninit::zeroed();
        // SAFETY: only asks; the result is written.
        let asked = unsafe { libc::sigaction(signal, ptr::null(), before.as_mut_ptr()) };
        // SAFETY: zeroed is a value of this type, and so is what was written.
        (asked == 0).then(|| Self(unsafe { before.assume_init() }))
    }

    /// Returns whether the signal was for that handler.
    pub(super) fn is_for(&self, handler: Handler) -> bool {
        self.0.sa_sigaction == handler as usize
    }

    /// Returns whether the signal was for the same handler.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.sa_sigaction == other.0.sa_sigaction
    }

    /// Returns whether there was no handler: the signal did what the kernel does by default, or nothing.
    pub(super) fn is_for_nobody(&self) -> bool {
        self.is_default() || self.0.sa_sigaction == libc::SIG_IGN
    }

    /// Returns whether the signal was for nobody, and so does what the kernel does by default.
    pub(super) fn is_default(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_DFL
    }

    /// Makes the signal that of before again.
    ///
    /// # Signal safety
    ///
    /// A system call.
    pub(super) fn restore(&self, signal: c_int) {
        // SAFETY: what the kernel returned for this signal.
        unsafe { libc::sigaction(signal, &raw const self.0, ptr::null_mut()) };
    }

    /// Gives a signal to whom it was for; to nobody if the kernel would act by default.
    ///
    /// # Signal safety
    ///
    /// That of the handler from before.
    pub(super) fn hand_on(&self, signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let handler = self.0.sa_sigaction;
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            return;
        }
        let handler = ptr::with_exposed_provenance::<()>(handler);
        if self.0.sa_flags & libc::SA_SIGINFO != 0 {
            // SAFETY: with this flag it was installed as a function of this type.
            let handler = unsafe { std::mem::transmute::<*const (), Handler>(handler) };
            handler(signal, info, context);
        } else {
            // SAFETY: without the flag it was installed as a function of this type.
            let handler =
                unsafe { std::mem::transmute::<*const (), extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}
