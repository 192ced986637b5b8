//! Signals like those of the profiler's timers, as fast as they can be sent: the kernel looks at timers
//! at its tick only, so a moment of a microsecond would have to be waited for for minutes.

#![allow(unsafe_code, reason = "signals are sent by a system call")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{fs, process, thread};

/// What a signal of a timer with a period of 1 ns carries; see `sys/sampling.rs` of profiler-core.
const VALUE: usize = (0x7072 << 48) | 1;

/// The kernel's `siginfo_t` of a timer.
#[repr(C)]
struct TimerInfo {
    signal: i32,
    errno: i32,
    code: i32,
    _padding: i32,
    timer: i32,
    overruns: i32,
    value: usize,
    _rest: [u64; 12],
}

/// Calls `body` while all other threads of the process are struck again and again, each time as if one
/// nanosecond had passed. Returns how many signals were sent, and what `body` returns.
#[must_use = "without a signal nothing was tried"]
pub fn under_fire<R>(body: impl FnOnce() -> R) -> (u64, R) {
    // One at a time is enough.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = thread::scope(|scope| {
        let gunner = scope.spawn(|| {
            let own = crate::parked::ThreadId::current().get();
            while !done.load(Ordering::Relaxed) {
                for target in threads().filter(|target| *target != own) {
                    // A few, since reading the list takes longer than sending.
                    let hits = (0..20).filter(|_| strike(target)).count();
                    sent.fetch_add(hits as u64, Ordering::Relaxed);
                }
            }
        });
        let ended = Ended(&done);
        let result = body();
        drop(ended);
        gunner.join().expect("no panic");
        result
    });
    (sent.into_inner(), result)
}

/// Ends the fire, after a panic too.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn threads() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Sends one such signal to a thread of this process; returns false if it is gone.
#[must_use]
pub fn strike(thread: u32) -> bool {
    let info = TimerInfo {
        signal: libc::SIGPROF,
        errno: 0,
        code: libc::SI_TIMER,
        _padding: 0,
        timer: 0,
        overruns: 0,
        value: VALUE,
        _rest: [0; 12],
    };
    // SAFETY: the kernel reads the information, which is as long as it wants it; SIGPROF has a handler
    // while there are captures and ever after.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            process::id(),
            thread,
            libc::SIGPROF,
            &raw const info,
        )
    };
    result == 0
}
