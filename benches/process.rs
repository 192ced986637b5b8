//! What the kernel says of this process: its memory, and the CPU time of its threads.

#![allow(unsafe_code, reason = "clocks of CPU time are read by system calls")]

use std::fs;
use std::time::Instant;

/// Returns one field of `/proc/self/status` in MiB, for example `VmRSS`.
///
/// # Panics
///
/// Where there is no such field.
#[must_use]
pub fn mib(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("a field");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
    kib.expect("a number") / 1024.0
}

/// Begins anew with `VmHWM`, the most memory that was resident.
///
/// # Panics
///
/// Where the kernel does not let a process do so.
pub fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("resets the peak");
}

/// Returns the CPU time that the calling thread has used, in nanoseconds.
#[must_use]
pub fn thread_cpu() -> f64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the CPU time that all threads have used, in nanoseconds.
#[must_use]
pub fn process_cpu() -> f64 {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn read(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is a live exclusive value.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(failed, 0, "Linux has this clock");
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// What something took, in milliseconds: on the clock, of the caller's CPU time, of everybody's.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// By the clock on the wall, in which others take their turns.
    pub elapsed: f64,
    /// CPU time of the thread that called it.
    pub caller: f64,
    /// CPU time of all threads.
    pub process: f64,
}

impl Took {
    /// Calls `body` and measures.
    pub fn of<R>(body: impl FnOnce() -> R) -> (Self, R) {
        let before = (Instant::now(), thread_cpu(), process_cpu());
        let result = body();
        let took = Self {
            elapsed: before.0.elapsed().as_secs_f64() * 1e3,
            caller: (thread_cpu() - before.1) / 1e6,
            process: (process_cpu() - before.2) / 1e6,
        };
        (took, result)
    }

    /// Returns the median of each figure.
    #[must_use]
    pub fn median(of: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| crate::median(of.iter().map(figure).collect());
        Self {
            elapsed: median(|took| took.elapsed),
            caller: median(|took| took.caller),
            process: median(|took| took.process),
        }
    }

    /// Prints a row of a table: what, on the clock, the caller, all threads, the budget.
    pub fn print(&self, what: &str, budget: &str) {
        let Self { elapsed, caller, process } = self;
        println!("| {what} | {elapsed:.1} | {caller:.1} | {process:.1} | {budget} |");
    }
}

/// Prints the head of such a table.
pub fn print_head(title: &str) {
    println!("\n## {title}\n");
    println!("| what | ms, elapsed | caller's CPU | all threads' CPU | budget |");
    println!("|---|---:|---:|---:|---|");
}
