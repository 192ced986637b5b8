//! The profiler's signal, as a timer sends it and as a thread can send it to itself, and whose handler
//! gets it.

#![allow(unsafe_code, reason = "signals and their handlers are system calls")]

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use profiler_core::{Capture, Kind};

/// What the kernel calls.
pub type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// A handler that does nothing: the floor.
pub extern "C" fn empty(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// The profiler's handler, and the signal that its timers send.
#[derive(Debug, Clone, Copy)]
pub struct Expiry {
    /// Whom the signal is for.
    pub handler: Handler,
    /// By which the handler knows it.
    value: usize,
}

static VALUE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn note(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel passes what a timer's signal says.
    let info = unsafe { &*info };
    // SAFETY: a timer's signal has one.
    let value = unsafe { info.si_value() };
    // Relaxed: read by the thread that is struck.
    VALUE.store(value.sival_ptr.addr(), Ordering::Relaxed);
}

impl Expiry {
    /// Learns both from a capture at 100 Hz, on a thread that works until its timer strikes.
    ///
    /// # Panics
    ///
    /// Where CPU time cannot be sampled.
    #[must_use]
    pub fn learn() -> Self {
        let capture = Capture::start(Kind::Profile).expect("Linux");
        // SAFETY: zeroed is a value of this type.
        let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: only asks; the result is written.
        unsafe { libc::sigaction(libc::SIGPROF, ptr::null(), &raw mut action) };
        let handler = ptr::with_exposed_provenance::<()>(action.sa_sigaction);
        // SAFETY: the profiler has installed a handler of three arguments.
        let handler = unsafe { std::mem::transmute::<*const (), Handler>(handler) };
        install(note);
        while VALUE.load(Ordering::Relaxed) == 0 {
            black_box(());
        }
        install(handler);
        drop(capture);
        Self { handler, value: VALUE.load(Ordering::Relaxed) }
    }

    /// Sends the calling thread the signal of a timer that has expired once; it is handled before this
    /// returns.
    #[inline]
    pub fn send(&self) {
        // The kernel's `siginfo_t`: signal and errno, code, timer and overruns, value.
        let mut info = [0_u64; 16];
        info[0] = libc::SIGPROF as u64;
        info[1] = u64::from(libc::SI_TIMER.cast_unsigned());
        info[3] = self.value as u64;
        // SAFETY: getpid takes nothing.
        let process = unsafe { libc::getpid() };
        // SAFETY: gettid takes nothing.
        let thread = unsafe { libc::gettid() };
        // SAFETY: the information lives and is of the kernel's size; the rest are numbers.
        unsafe {
            libc::syscall(
                libc::SYS_rt_tgsigqueueinfo,
                libc::c_long::from(process),
                libc::c_long::from(thread),
                libc::c_long::from(libc::SIGPROF),
                &raw const info,
            )
        };
    }
}

/// Makes a handler that of the signal, in the way in which the profiler does it.
pub fn install(handler: Handler) {
    // SAFETY: zeroed is a value of this type.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: a live set.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the handler does what handlers may.
    let failed = unsafe { libc::sigaction(libc::SIGPROF, &raw const action, ptr::null_mut()) };
    assert_eq!(failed, 0, "there is such a signal");
}
