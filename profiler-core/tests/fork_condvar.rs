//! The child of a fork goes on with the condition variables of its parent, but not with its waiters.

#![cfg(profiler_native)]
#![allow(unsafe_code, reason = "fork, and what ends the child")]

use std::thread;
use std::time::Duration;

use profiler_core::sync::{Condvar, Mutex};
use profiler_core::{Config, Rates};

const WAITERS: usize = 8;

/// How many wait, and whether they may stop.
static STATE: Mutex<(usize, bool)> = Mutex::new((0, false));
static CHANGED: Condvar = Condvar::new();

fn wait_for_the_end() {
    let mut state = STATE.lock().expect("no panic");
    state.0 += 1;
    drop(CHANGED.wait_while(state, |state| !state.1));
}

/// Returns once so many wait: whoever has counted itself gives the lock up by waiting.
fn until_waiting(wanted: usize) {
    while STATE.lock().expect("no panic").0 != wanted {
        thread::yield_now();
    }
}

fn spawn_waiters() -> Vec<thread::JoinHandle<()>> {
    (0..WAITERS).map(|_| thread::spawn(wait_for_the_end)).collect()
}

/// Writes over a part of the stack, as any program does.
#[inline(never)]
fn scribble() {
    std::hint::black_box([0xa5_u8; 64 << 10]);
}

/// The child's life: the stacks of its parent's threads go to threads of its own.
fn child() {
    let scribblers: Vec<_> = (0..2 * WAITERS).map(|_| thread::spawn(scribble)).collect();
    scribblers.into_iter().for_each(|scribbler| scribbler.join().expect("no panic"));
    CHANGED.notify_all();
    STATE.lock().expect("no panic").0 = 0;
    let waiters = spawn_waiters();
    until_waiting(WAITERS);
    CHANGED.notify_one();
    STATE.lock().expect("no panic").1 = true;
    CHANGED.notify_all();
    waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
    let state = STATE.lock().expect("no panic");
    let timeout = Duration::from_millis(1);
    assert!(CHANGED.wait_timeout(state, timeout).expect("no panic").1.timed_out());
}

#[test]
fn the_child_of_a_fork_notifies_none_of_its_parents_waiters() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let waiters = spawn_waiters();
    until_waiting(WAITERS);
    // SAFETY: the child calls nothing that another thread of the parent can have locked.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // A child that hangs is a failure too. SAFETY: takes a number.
        unsafe { libc::alarm(60) };
        let code = i32::from(std::panic::catch_unwind(child).is_err());
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = -1;
    // SAFETY: the status is a live exclusive value.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "the child panicked or was killed");
    STATE.lock().expect("no panic").1 = true;
    CHANGED.notify_all();
    waiters.into_iter().for_each(|waiter| waiter.join().expect("no panic"));
}
