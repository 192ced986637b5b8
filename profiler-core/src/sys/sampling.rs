//! Timers on the threads' CPU clocks, and the signal that they send.

#![allow(unsafe_code, reason = "timers and signal handlers are made by system calls")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use super::InHandler;
use super::arch::{self, Registers};
use super::platform::KeepErrno;

/// What a timer's signal has struck.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Struck {
    /// Where the thread was.
    pub(crate) registers: Registers,
    /// Nanoseconds between two expiries of the timer.
    pub(crate) period: u64,
    /// How often it has expired since its last signal, this time included.
    pub(crate) expiries: u64,
}

/// Marks the signals of our timers, above the period: others send SIGPROF too.
const TAG: usize = 0x7072 << 48;
const PERIOD: usize = (1 << 48) - 1;

static HANDLER: OnceLock<Installed> = OnceLock::new();

struct Installed {
    call: fn(Struck),
    /// Whom SIGPROF was for before.
    before: libc::sigaction,
}

/// Has `call` run on a thread whenever one of its timers expires. It stays so for good: a signal
/// that is still under way would end the process otherwise. Returns false if the system refuses.
///
/// `call` may do what a signal handler may; `errno` is kept, SIGPROF masked, and it runs on the
/// alternate signal stack if there is one. Signals of others go to the handler from before.
pub(crate) fn on_timer(call: fn(Struck)) -> bool {
    let mut before = MaybeUninit::zeroed();
    // SAFETY: only asks; the result is written.
    let asked = unsafe { libc::sigaction(libc::SIGPROF, ptr::null(), before.as_mut_ptr()) };
    // SAFETY: zeroed is a value of this type, and so is what was written.
    let before = unsafe { before.assume_init() };
    if asked != 0 || HANDLER.set(Installed { call, before }).is_err() {
        return asked == 0;
    }
    // SAFETY: zeroed is a value of this type: no flags, nothing masked but the signal itself.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the handler is a function of this program and does what handlers may.
    unsafe { libc::sigaction(libc::SIGPROF, &raw const action, ptr::null_mut()) == 0 }
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    /// The part of the kernel's `siginfo_t` that timers fill in.
    #[repr(C)]
    struct TimerInfo {
        signal: c_int,
        errno: c_int,
        code: c_int,
        #[cfg(target_pointer_width = "64")]
        _padding: c_int,
        timer: c_int,
        overruns: c_int,
        value: usize,
    }
    let _errno = KeepErrno::new();
    let Some(installed) = HANDLER.get() else { return };
    // SAFETY: the kernel passes it, with at least so many bytes.
    let timer = unsafe { &*info.cast::<TimerInfo>() };
    if timer.code != libc::SI_TIMER || timer.value & !PERIOD != TAG {
        return hand_on(&installed.before, signal, info, context);
    }
    // SAFETY: the kernel passed it to this handler.
    let registers = unsafe { arch::interrupted(context) };
    let _in_handler = InHandler::enter();
    let expiries = u64::try_from(timer.overruns).unwrap_or(0) + 1;
    (installed.call)(Struck { registers, period: (timer.value & PERIOD) as u64, expiries });
}

/// Gives a signal that is not ours to whom it was for before; to nobody if it was to end the process,
/// since then nobody sent it on purpose.
fn hand_on(
    before: &libc::sigaction,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    let handler = before.sa_sigaction;
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        return;
    }
    let handler = ptr::with_exposed_provenance::<()>(handler);
    if before.sa_flags & libc::SA_SIGINFO != 0 {
        type Full = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: with this flag it was installed as a function of this type.
        let handler = unsafe { std::mem::transmute::<*const (), Full>(handler) };
        handler(signal, info, context);
    } else {
        // SAFETY: without the flag it was installed as a function of this type.
        let handler = unsafe { std::mem::transmute::<*const (), extern "C" fn(c_int)>(handler) };
        handler(signal);
    }
}

/// A timer on the CPU clock of one thread, which it signals. Deleted when dropped.
#[derive(Debug)]
pub(crate) struct Timer(libc::timer_t);

// SAFETY: a number that the kernel gave to the process.
unsafe impl Send for Timer {}

impl Timer {
    /// Makes and starts one on a thread of this process: it expires after `first` nanoseconds of the
    /// thread's CPU time and every `period` from then on. Nothing if the system refuses, for want of
    /// room for signals (`RLIMIT_SIGPENDING`) or because the thread is gone.
    pub(crate) fn start(thread: u32, first: u64, period: u64) -> Option<Self> {
        // SAFETY: zeroed is a value of this type.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = thread.cast_signed();
        event.sigev_value.sival_ptr = ptr::without_provenance_mut(TAG | (period as usize & PERIOD));
        let mut timer = MaybeUninit::uninit();
        // SAFETY: both are live; the result is written on success.
        let made = unsafe { libc::timer_create(clock(thread), &raw mut event, timer.as_mut_ptr()) };
        if made != 0 {
            return None;
        }
        // SAFETY: written above.
        let timer = Self(unsafe { timer.assume_init() });
        let time = |nanoseconds: u64| libc::timespec {
            tv_sec: (nanoseconds / 1_000_000_000).cast_signed(),
            tv_nsec: (nanoseconds % 1_000_000_000).cast_signed(),
        };
        let times = libc::itimerspec { it_interval: time(period), it_value: time(first.max(1)) };
        // SAFETY: the timer lives, and the old times are not asked for.
        let set = unsafe { libc::timer_settime(timer.0, 0, &raw const times, ptr::null_mut()) };
        (set == 0).then_some(timer)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made by `start`, deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Returns the clock of the CPU time of a thread of this process, as the kernel numbers them.
const fn clock(thread: u32) -> libc::clockid_t {
    const PER_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    !thread.cast_signed() << 3 | PER_THREAD | SCHEDULED
}

/// Returns the CPU time of a thread of this process in nanoseconds; nothing if it is gone.
pub(crate) fn thread_cpu(thread: u32) -> Option<u64> {
    read(clock(thread))
}

/// Returns the CPU time of this process in nanoseconds, of threads that are gone too.
pub(crate) fn process_cpu() -> u64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0)
}

fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is a live exclusive value; a clock that is not there is refused.
    let read = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (read == 0).then(|| time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned())
}

/// Returns the kernel's numbers of all threads of this process. Reads a directory, and allocates.
pub(crate) fn threads() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
