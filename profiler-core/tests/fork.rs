//! The child of a fork records for itself, and waiters that stayed in the parent wait for nobody.

#![cfg(profiler_native)]
#![allow(unsafe_code, reason = "forks")]

use std::sync::mpsc;

use profiler_core::{Config, Kind, Profile, Rates, profiled, snapshot, sync::Mutex, wait};

static LOCK: Mutex<()> = Mutex::named("lock", ());

#[profiled]
fn in_child() {}

fn read(kind: Kind) -> Profile {
    snapshot(kind).expect("available")
}

/// What must hold in the child; the number of the line that fails.
fn child(mutex_before: i64) -> u32 {
    in_child();
    wait("child", || ());
    if !read(Kind::Block).samples().any(|sample| sample.label("kind") == Some("child")) {
        return line!();
    }
    let of_child = |sample: profiler_core::Sample<'_>| {
        sample.frames().any(|frame| frame.function.is_some_and(|name| name.ends_with("in_child")))
    };
    if !read(Kind::Spans).samples().any(of_child) {
        return line!();
    }
    // The parent's waiter is still counted in the copy of the lock, but does not exist.
    drop(LOCK.lock());
    if read(Kind::Mutex).totals()[1] != mutex_before {
        return line!();
    }
    0
}

#[test]
fn the_child_of_a_fork_starts_from_nothing() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    wait("parent", || ());
    let held = LOCK.lock().expect("not poisoned");
    let (waits, waiting) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        waits.send(()).expect("the test listens");
        drop(LOCK.lock());
    });
    waiting.recv().expect("the waiter lives");
    // Until the waiter is seen to wait.
    loop {
        let threads = {
            let mut text = Vec::new();
            profiler_core::write_threads(&mut text).expect("memory takes all");
            String::from_utf8(text).expect("text")
        };
        if threads.contains("[sync.Mutex.Lock]") {
            break;
        }
        std::thread::yield_now();
    }
    let before = read(Kind::Mutex).totals()[1];
    // SAFETY: the child only reads and locks what no other thread of the parent holds.
    let process = unsafe { libc::fork() };
    if process == 0 {
        drop(held);
        let failed = child(before);
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(i32::from(failed != 0)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status}");
    drop(held);
    waiter.join().expect("no panic");
}
