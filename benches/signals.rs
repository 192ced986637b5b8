//! The profiler's signal, as a thread can send it to itself, and whose handler gets it.

#![allow(unsafe_code, reason = "signals and their handlers are system calls")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use profiler_core::{Capture, Kind};

/// What the kernel calls.
pub type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// A handler that does nothing: the floor.
pub extern "C" fn empty(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// The profiler's handler, as far as the profiler knows the one that is in place; 0 until there is one.
static PROFILERS: AtomicUsize = AtomicUsize::new(0);

/// Stands before libc's, for the whole program. The profiler asks whether its handler is in place, and gives up if it is
/// not: it is told of its own, whatever [`install`] has put there.
///
/// # Safety
///
/// As libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: given by the caller.
    let result = unsafe { libcs(signal, new, old) };
    if signal != libc::SIGPROF {
        return result;
    }
    // SAFETY: null, or given by the caller.
    if let Some(new) = unsafe { new.as_ref() } {
        PROFILERS.store(new.sa_sigaction, Ordering::Relaxed);
    } else if let profilers @ 1.. = PROFILERS.load(Ordering::Relaxed)
        // SAFETY: null, or given by the caller.
        && let Some(old) = unsafe { old.as_mut() }
    {
        old.sa_sigaction = profilers;
    }
    result
}

/// Calls libc's function of that name.
unsafe fn libcs(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int {
    type Function =
        unsafe extern "C" fn(c_int, *const libc::sigaction, *mut libc::sigaction) -> c_int;
    // SAFETY: the name is a text.
    let function = unsafe { libc::dlsym(libc::RTLD_NEXT, c"sigaction".as_ptr()) };
    assert!(!function.is_null(), "libc has it");
    // SAFETY: a function of this type.
    let function = unsafe { std::mem::transmute::<*mut c_void, Function>(function) };
    // SAFETY: given by the caller.
    unsafe { function(signal, new, old) }
}

/// Returns the profiler's handler, which a capture has put in its place.
///
/// # Panics
///
/// Where CPU time cannot be sampled.
#[must_use]
pub fn profilers() -> Handler {
    drop(Capture::start(Kind::Profile).expect("Linux"));
    let handler = ptr::with_exposed_provenance::<()>(PROFILERS.load(Ordering::Relaxed));
    assert!(!handler.is_null(), "the profiler has put its handler in place");
    // SAFETY: the profiler's handler has three arguments.
    unsafe { std::mem::transmute::<*const (), Handler>(handler) }
}

/// Sends the calling thread a signal as when the system has no room for what it says; the profiler's handler records the
/// CPU time that is due. It is handled before this returns.
#[inline]
pub fn send() {
    // The kernel's `siginfo_t`: signal and errno, code, sender 0.
    let mut info = [0_u64; 16];
    info[0] = libc::SIGPROF as u64;
    info[1] = u64::from(libc::SI_USER.cast_unsigned());
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

/// Makes a handler that of the signal, in the way in which the profiler does it.
pub fn install(handler: Handler) {
    // SAFETY: zeroed is a value of this type.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: a live set.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    // SAFETY: the handler does what handlers may.
    let failed = unsafe { libcs(libc::SIGPROF, &raw const action, ptr::null_mut()) };
    assert_eq!(failed, 0, "there is such a signal");
}
