//! The signal that interrupts a thread, sent by a timer on its CPU clock or by whoever has a question.

#![allow(unsafe_code, reason = "timers and signal handlers are made by system calls")]

use std::ffi::{c_int, c_long, c_void};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::arch;
use super::handler::{self, Before};
use super::handler_stacks;
use super::platform::{self, KeepErrno, errno};
use super::thread_locals;
use super::{InHandler, Registers};

/// What a signal has struck.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Struck {
    /// Where the thread was; nothing if there is no stack with room for more than to count the signal.
    pub(crate) registers: Option<Registers>,
    pub(crate) cause: Cause,
}

/// Why a thread is interrupted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cause {
    /// By its timer or by [`interrupt`], to record CPU time in the account of that number.
    CpuTime { account: u32 },
    /// By [`interrupt`], to say where it is.
    Question,
    /// By [`interrupt`] or by somebody else: the system has had no room for what the signal says
    /// (`RLIMIT_SIGPENDING`).
    Lost,
}

/// Mark our signals, above the number of an account: others send SIGPROF too.
const CPU_TIME: usize = 0x7072 << 48;
const QUESTION: usize = 0x7173 << 48;
const ACCOUNT: usize = u32::MAX as usize;

/// The part of the kernel's `siginfo_t` that is filled in for timers and for queued signals.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    #[cfg(target_pointer_width = "64")]
    padding: c_int,
    /// A timer's number, or the sending process.
    sender: c_int,
    /// A timer's overruns, or the sending user.
    #[allow(dead_code, reason = "the kernel's")]
    count: c_int,
    value: usize,
}

/// The kernel takes so many bytes.
#[repr(C)]
union WholeInfo {
    info: ManuallyDrop<Info>,
    whole: [u64; 16],
}

/// Null until there is one; never freed.
static HANDLER: AtomicPtr<Installed> = AtomicPtr::new(ptr::null_mut());

static LOST_HANDLER: AtomicU64 = AtomicU64::new(0);
const REFUSED: &str = "the system refuses a handler of SIGPROF";

struct Installed {
    call: fn(Struck) -> bool,
    /// Whom SIGPROF was for before.
    before: Before,
}

/// Has `call`, the same each time, run on a thread whenever one of its timers expires or it is asked something. It stays
/// so for good: a signal that is still under way would end the process otherwise. One at a time may call this.
///
/// # Errors
///
/// A sentence that says why no signal may be sent: the system refuses, somebody else has put a handler in the place of
/// ours since the last call, or a handler would not find its thread.
///
/// `call` may do what a signal handler may; `errno` is kept, all signals are masked, and it runs on a
/// stack of its own. Signals of others, among them those for which it returns
/// false, go to the handler from before.
pub(crate) fn on_signal(call: fn(Struck) -> bool) -> Result<(), &'static str> {
    if installed().is_some() {
        return keep_hearing();
    }
    let before = Before::of(libc::SIGPROF).ok_or(REFUSED)?;
    if !thread_locals::are_at_hand() {
        return Err("a library that was loaded by dlopen cannot sample threads");
    }
    handler_stacks::make();
    let installed = Box::into_raw(Box::new(Installed { call, before }));
    // Release: pairs with the Acquire in `installed`.
    HANDLER.store(installed, Ordering::Release);
    handler::install(libc::SIGPROF, handle).then_some(()).ok_or(REFUSED)
}

/// Looks whether SIGPROF still has our handler, and puts it back if somebody has left the signal to nobody, as other
/// profilers do when they stop.
///
/// # Errors
///
/// A sentence that says why no signal may be sent, as [`on_signal`].
pub(crate) fn keep_hearing() -> Result<(), &'static str> {
    let Some(installed) = installed() else { return Ok(()) };
    let now = Before::of(libc::SIGPROF).ok_or(REFUSED)?;
    if now.is_for(handle) {
        return Ok(());
    }
    // Relaxed: a figure.
    LOST_HANDLER.fetch_add(1, Ordering::Relaxed);
    // The next signal would end the process, or tell nothing.
    if now.is_for_nobody() || now.is_same(&installed.before) {
        return handler::install(libc::SIGPROF, handle).then_some(()).ok_or(REFUSED);
    }
    // Whether it hands on what is ours cannot be known, and it may be called by ours already.
    Err("something else in the program has replaced the profiler's handler of SIGPROF")
}

/// Returns how often our handler was not found in its place.
pub(crate) fn lost_handler() -> u64 {
    // Relaxed: a figure.
    LOST_HANDLER.load(Ordering::Relaxed)
}

fn installed() -> Option<&'static Installed> {
    // Acquire: pairs with the Release in `on_signal`.
    let installed = HANDLER.load(Ordering::Acquire);
    // SAFETY: null, or made there and never freed.
    unsafe { installed.as_ref() }
}

/// Begins anew in the child of a fork, where none of the handlers runs that ran on other threads.
///
/// # Signal safety
///
/// Stores only.
pub(crate) fn forked() {
    handler_stacks::forked();
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let _errno = KeepErrno::new();
    let Some(installed) = installed() else { return };
    // SAFETY: the kernel passes it, with at least so many bytes.
    let Info { code, sender, value, .. } = *unsafe { &*info.cast::<Info>() };
    let cause = match code {
        libc::SI_TIMER => match value & !ACCOUNT {
            CPU_TIME => Some(Cause::CpuTime { account: (value & ACCOUNT) as u32 }),
            QUESTION => Some(Cause::Question),
            _ => None,
        },
        libc::SI_USER if sender == 0 => Some(Cause::Lost),
        _ => None,
    };
    // SAFETY: the kernel passed it to this handler.
    let registers = unsafe { arch::interrupted(context) };
    let is_ours = cause.is_some_and(|cause| {
        let _in_handler = InHandler::enter();
        handler_stacks::with_room(|| (installed.call)(Struck { registers: Some(registers), cause }))
            .unwrap_or_else(|| (installed.call)(Struck { registers: None, cause }))
    });
    if !is_ours {
        installed.before.hand_on(signal, info, context);
    }
}

/// What has become of a signal to a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is under way.
    Yes,
    /// The thread is gone.
    Gone,
    /// The system refuses.
    Refused,
}

/// What a thread is interrupted for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// To record CPU time in the account of that number.
    CpuTime(u32),
    /// To answer a question.
    Question,
}

/// Interrupts a thread of this process. A signal that comes while another one is pending is dropped, and so may have to be
/// sent again.
///
/// It says of itself that it is a timer's: those the kernel forgets when the process becomes another program,
/// which any other signal would end.
///
/// # Signal safety
///
/// System calls only; `errno` is kept.
pub(crate) fn interrupt(thread: u32, purpose: Purpose) -> Sent {
    let _errno = KeepErrno::new();
    // SAFETY: getpid takes nothing and cannot fail.
    let process = unsafe { libc::getpid() };
    let mut info = WholeInfo { whole: [0; 16] };
    info.info = ManuallyDrop::new(Info {
        signal: libc::SIGPROF,
        errno: 0,
        code: libc::SI_TIMER,
        #[cfg(target_pointer_width = "64")]
        padding: 0,
        sender: process,
        count: 0,
        value: match purpose {
            Purpose::CpuTime(account) => CPU_TIME | account as usize,
            Purpose::Question => QUESTION,
        },
    });
    // SAFETY: the information lives and is of the kernel's size; the rest are numbers.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            c_long::from(process),
            c_long::from(thread),
            c_long::from(libc::SIGPROF),
            &raw const info,
        )
    };
    match sent {
        0 => Sent::Yes,
        _ if errno() == libc::ESRCH => Sent::Gone,
        _ => Sent::Refused,
    }
}

/// A timer on the CPU clock of one thread, which it signals. Deleted when dropped.
#[derive(Debug)]
pub(crate) struct Timer(libc::timer_t);

// SAFETY: a number that the kernel gave to the process.
unsafe impl Send for Timer {}

impl Timer {
    /// Makes and starts one on a thread of this process: it expires after `first` nanoseconds of the
    /// thread's CPU time and every `period` from then on, for the account of that number. Nothing if the system refuses, for want of
    /// room for signals (`RLIMIT_SIGPENDING`) or because the thread is gone.
    pub(crate) fn start(thread: u32, account: u32, first: u64, period: u64) -> Option<Self> {
        // SAFETY: zeroed is a value of this type.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGPROF;
        event.sigev_notify_thread_id = thread.cast_signed();
        event.sigev_value.sival_ptr = ptr::without_provenance_mut(CPU_TIME | account as usize);
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

impl Timer {
    /// Returns whether the thread of that number lives that the timer was made for, whoever has its number by now.
    pub(crate) fn is_of_living(&self, thread: u32) -> bool {
        let mut times = MaybeUninit::<libc::itimerspec>::zeroed();
        // SAFETY: the timer lives, and the times are written on success.
        let asked = unsafe { libc::timer_gettime(self.0, times.as_mut_ptr()) };
        // SAFETY: zeroed is a value of this type, and so is what was written.
        let libc::timespec { tv_sec, tv_nsec } = unsafe { times.assume_init() }.it_interval;
        if asked != 0 {
            // The system refuses to say so.
            return platform::is_thread_alive(thread);
        }
        // The kernel says zero once the thread is gone.
        (tv_sec, tv_nsec) != (0, 0)
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

/// Returns the nanoseconds between two looks of the kernel at the timers.
pub(crate) fn tick() -> u64 {
    const SLOWEST: u64 = 10_000_000;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is a live exclusive value.
    let read = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    let ticks = (read == 0 && time.tv_sec == 0).then_some(time.tv_nsec.cast_unsigned());
    ticks.filter(|&tick| tick != 0).unwrap_or(SLOWEST)
}

/// Returns whether the system tells the CPU time of threads.
pub(crate) fn has_clocks() -> bool {
    thread_cpu(super::thread_id()).is_some()
}

/// Returns whether the kernel says that there is no such clock, and so no such thread. Keeps no `errno`.
pub(super) fn is_clock_gone(thread: u32) -> bool {
    thread_cpu(thread).is_none() && matches!(errno(), libc::EINVAL | libc::ESRCH)
}

/// Returns the CPU time of the calling thread in nanoseconds. May be called in a signal handler.
pub(crate) fn own_cpu() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::sync::mpsc;

    use super::*;

    /// One that is queued as most are would end the new program, or wait for it to unblock the signal.
    #[test]
    fn a_signal_under_way_does_not_reach_a_program_that_is_executed() {
        let pending = |send: fn()| {
            let mut program = std::process::Command::new("cat");
            program.arg("/proc/self/status");
            let before = move || {
                let mut all = MaybeUninit::uninit();
                // SAFETY: the set is written.
                unsafe { libc::sigfillset(all.as_mut_ptr()) };
                // SAFETY: written above; the old mask is not asked for.
                unsafe { libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
                send();
                Ok(())
            };
            // SAFETY: system calls only.
            let output = unsafe { program.pre_exec(before) }.output().unwrap();
            let status = String::from_utf8(output.stdout).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
            u64::from_str_radix(line.expect(&status).trim(), 16).unwrap()
        };
        assert_eq!(
            pending(|| assert_eq!(
                interrupt(crate::sys::thread_id(), Purpose::Question),
                Sent::Yes
            )),
            0
        );
        // Positive control.
        let raise = || {
            // SAFETY: the signal is blocked.
            unsafe { libc::raise(libc::SIGPROF) };
        };
        assert_eq!(pending(raise), 1 << (libc::SIGPROF - 1));
    }

    #[test]
    fn a_timer_knows_whether_its_thread_lives() {
        // So long that it never expires, since nobody would handle its signal.
        const HOUR: u64 = 3_600_000_000_000;
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(crate::sys::thread_id()).unwrap();
            ended.recv().unwrap_err();
        });
        let number = told.recv().unwrap();
        let timer = Timer::start(number, 0, HOUR, HOUR).unwrap();
        assert!(timer.is_of_living(number));
        drop(end);
        thread.join().unwrap();
        // The kernel takes a thread off its list a moment after it has told those who join it.
        while timer.is_of_living(number) {
            std::thread::yield_now();
        }
    }
}
