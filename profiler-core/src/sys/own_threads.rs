//! Threads of the profiler's own, which keep out of the program's way.
//!
//! A program may block a signal in the thread that it starts with, so that all others inherit it, and wait for it: any thread
//! that does not block it would get it instead, and most often die of it, and with it the program. So ours are born with
//! all signals blocked.
//!
//! But for those that a fault of the thread itself raises: where these are blocked the kernel ends the process at once, past
//! the handlers by which programs report a crash, or by which a sandbox stands in for a system call.
//!
//! A library that the program closes stays as long as a thread of ours runs in it, as it does while a thread has a destructor of it
//! to run.
//!
//! They are threads of C: one of std's waits, when it starts, for a lock of std that in the child of a fork nobody may be
//! there to give back.

#![allow(unsafe_code, reason = "threads are made and signals blocked by system calls")]

use std::ffi::{CStr, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::process::number;

/// What a fault raises.
const FAULTS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// Those that run: the kernel's number, and above it that of the process. More than there ever are; one without a place is
/// taken for the program's that blocks signals.
static RUNNING: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// Has something to drop when a thread ends.
struct Stays;

impl Drop for Stays {
    fn drop(&mut self) {}
}

thread_local!(static STAYS: Stays = const { Stays });

/// Has the library that this is in stay until the calling thread ends.
fn stay() {
    // At the thread's end it stays or goes, whatever is done here.
    let _ = STAYS.try_with(|_| ());
}

/// A thread of ours. Goes on when this is dropped.
#[derive(Debug)]
pub struct OwnThread {
    thread: libc::pthread_t,
    /// In which it is: a child of a fork has a copy of this, and not the thread.
    process: u32,
}

// SAFETY: whose thread it is makes no difference to what names it.
unsafe impl Send for OwnThread {}
// SAFETY: nothing can be done through a shared reference.
unsafe impl Sync for OwnThread {}

/// What the thread is given.
struct Start {
    name: &'static CStr,
    body: Box<dyn FnOnce() + Send>,
}

pub(super) fn spawn(
    name: &'static CStr,
    stack_size: usize,
    body: Box<dyn FnOnce() + Send>,
) -> io::Result<OwnThread> {
    // Until the thread does so itself.
    stay();
    let start = Box::into_raw(Box::new(Start { name, body }));
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: initialises them.
    unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) };
    // SAFETY: initialised above. A size that is refused leaves the usual one.
    unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack_size) };
    let mut thread = MaybeUninit::uninit();
    let made = with_signals_blocked(|| {
        // SAFETY: the attributes are initialised, and the function is of the type that is asked for and takes what it
        // is given.
        unsafe {
            libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), begin, start.cast())
        }
    });
    // SAFETY: initialised above, used no more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    if made != 0 {
        // SAFETY: made above, and no thread has it.
        drop(unsafe { Box::from_raw(start) });
        return Err(io::Error::from_raw_os_error(made));
    }
    // SAFETY: written above.
    Ok(OwnThread { thread: unsafe { thread.assume_init() }, process: number() })
}

extern "C" fn begin(start: *mut c_void) -> *mut c_void {
    stay();
    // SAFETY: made in `spawn`, for this thread alone.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    // SAFETY: the name is ended by zero; the kernel takes 15 bytes of it.
    unsafe { libc::prctl(libc::PR_SET_NAME, start.name.as_ptr()) };
    let mine = word(super::thread_id());
    let put = |place: &&AtomicU64| {
        // Relaxed, here and below: the word says all.
        let word = place.load(Ordering::Relaxed);
        // Those of a parent are not here.
        let is_free = word >> 32 != mine >> 32 || word == 0;
        is_free && place.compare_exchange(word, mine, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    let place = RUNNING.iter().find(put);
    // What it panics with may panic when it is dropped.
    mem::forget(catch_unwind(AssertUnwindSafe(start.body)));
    if let Some(place) = place {
        place.store(0, Ordering::Relaxed);
    }
    ptr::null_mut()
}

/// Calls `body` while the calling thread blocks all signals but faults.
fn with_signals_blocked<R>(body: impl FnOnce() -> R) -> R {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: makes a full set.
    unsafe { libc::sigfillset(signals.as_mut_ptr()) };
    for fault in FAULTS {
        // SAFETY: initialised above, and the signal exists.
        unsafe { libc::sigdelset(signals.as_mut_ptr(), fault) };
    }
    let mut before = MaybeUninit::uninit();
    // SAFETY: both are live; the second is written on success.
    let blocked =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr()) };
    let result = body();
    if blocked == 0 {
        // SAFETY: written above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    }
    result
}

/// What stands for a thread of this process; the process's number is one more, so that it is never zero.
fn word(thread: u32) -> u64 {
    u64::from(number() + 1) << 32 | u64::from(thread)
}

pub(super) fn is_own(thread: u32) -> bool {
    let word = word(thread);
    // Relaxed: the word says all.
    RUNNING.iter().any(|place| place.load(Ordering::Relaxed) == word)
}

impl OwnThread {
    /// Waits until the thread has ended; at once in the child of a fork, where it is not.
    pub fn join(self) {
        if self.process == number() {
            // SAFETY: a thread of this process that was neither joined nor detached.
            unsafe { libc::pthread_join(self.thread, ptr::null_mut()) };
        }
        mem::forget(self);
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        if self.process == number() {
            // SAFETY: a thread of this process that was neither joined nor detached.
            unsafe { libc::pthread_detach(self.thread) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::sys::{thread_id, thread_name};

    const STACK: usize = 256 << 10;

    #[test]
    fn a_thread_has_its_name_and_is_known_while_it_runs() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let body = move || {
            tell.send(thread_id()).unwrap();
            ended.recv().unwrap();
        };
        let thread = spawn(c"kettle", STACK, Box::new(body)).unwrap();
        let number = told.recv().unwrap();
        assert!(is_own(number) && !is_own(thread_id()));
        assert_eq!(thread_name(number).as_deref(), Some("kettle"));
        end.send(()).unwrap();
        thread.join();
        assert!(!is_own(number));
    }

    #[test]
    fn a_panic_ends_the_thread_alone() {
        spawn(c"kettle", STACK, Box::new(|| panic!("as this test wants it"))).unwrap().join();
    }

    #[test]
    fn who_makes_a_thread_hears_signals_as_before() {
        let mask = || {
            let mut now = MaybeUninit::<libc::sigset_t>::zeroed();
            // SAFETY: only asks; the result is written.
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), now.as_mut_ptr()) };
            // SAFETY: zeroed is a value of this type, and so is what was written.
            let now = unsafe { now.assume_init() };
            // SAFETY: a live set, and signals that exist.
            (1..32).map(|signal| unsafe { libc::sigismember(&raw const now, signal) }).sum::<i32>()
        };
        assert_eq!(mask(), 0);
        let (tell, told) = mpsc::channel();
        let thread = spawn(c"kettle", STACK, Box::new(move || tell.send(mask()).unwrap()));
        // Two that nobody can block.
        assert_eq!(told.recv(), Ok(31 - 2 - i32::try_from(FAULTS.len()).unwrap()));
        thread.unwrap().join();
        assert_eq!(mask(), 0);
    }
}
