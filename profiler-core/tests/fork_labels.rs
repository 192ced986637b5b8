//! The child of a fork puts labels in force whatever the threads of its parent were doing.

#![cfg(profiler_native)]
#![allow(unsafe_code, reason = "forks")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use profiler_core::{Config, with_labels};

const FORKS: usize = 50;

fn label() {
    with_labels([("key", "value")], || ());
}

/// Forks once and returns how the child ended.
fn fork() -> libc::c_int {
    // SAFETY: the child puts labels in force and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: takes a number. A child that hangs ends by it.
        unsafe { libc::alarm(20) };
        label();
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(0) };
    }
    let mut status = -1;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

#[test]
fn labels_are_put_in_force_in_the_child_of_a_fork() {
    profiler_core::start(Config::default()).expect("the first start");
    let end = AtomicBool::new(false);
    let well = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    label();
                }
            });
        }
        // A child that hangs is enough.
        let well = (0..FORKS).all(|_| fork() == 0);
        end.store(true, Ordering::Relaxed);
        well
    });
    assert!(well, "a child was killed");
}
