//! A lock may be gone as soon as it is released: whoever gets it next may free it. Nothing of the
//! profiler may touch it after that.
//!
//! Only std's mutex allows this by itself (`parking_lot`'s clears a bit after the release), so it is
//! the one under test; the paths of the profiler are the same for both. A stray write lands in
//! memory that the next round has taken for its own lock, and then charges and waits no longer add
//! up; a sanitizer finds it at once.

#![allow(unsafe_code, reason = "a lock is freed by the one who got it last")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use profiler_core::sync::{Condvar, Mutex};
use profiler_core::{Config, Kind, Rates, snapshot};

const ROUNDS: usize = 20_000;

/// Threads that were about to take a lock, in all rounds.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);

/// A lock that the threads of one round share by its address.
#[derive(Clone, Copy)]
struct Shared(*mut Mutex<usize>);

// SAFETY: the threads follow the rules that `release_and_maybe_free` tells.
unsafe impl Send for Shared {}

impl Shared {
    fn new() -> Self {
        Self(Box::into_raw(Box::new(Mutex::new(0))))
    }

    /// Takes the lock, counts itself, and releases it; the last of `threads` frees it. The others
    /// may still be inside their release then, and nowhere else.
    fn release_and_maybe_free(self, threads: usize) {
        // SAFETY: not freed, since this thread has not counted itself yet.
        let mutex = unsafe { &*self.0 };
        let round = ARRIVED.fetch_add(1, Ordering::Relaxed) / threads;
        let mut counted = mutex.lock().expect("no panic");
        // The first to hold it keeps it until all have come.
        while ARRIVED.load(Ordering::Relaxed) / threads == round {
            thread::yield_now();
        }
        *counted += 1;
        let last = *counted == threads;
        drop(counted);
        if last {
            self.free();
        }
    }

    fn free(self) {
        // SAFETY: made by `new`, and nobody will use it again.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Runs each round on threads that live for all rounds.
fn rounds<const THREADS: usize>(make: impl Fn() -> Shared, body: impl Fn(usize, Shared) + Sync) {
    let body = &body;
    thread::scope(|scope| {
        let lanes: [_; THREADS] = std::array::from_fn(|thread| {
            let (give, take) = std::sync::mpsc::channel::<Shared>();
            scope.spawn(move || take.iter().for_each(|shared| body(thread, shared)));
            give
        });
        for _ in 0..ROUNDS {
            let shared = make();
            for lane in &lanes {
                lane.send(shared).expect("the thread is there");
            }
        }
    });
}

fn assert_charges_are_waits() {
    let block = snapshot(Kind::Block).expect("available");
    let waits = block.samples().filter(|sample| sample.label("kind") == Some("mutex"));
    let waited: i64 = waits.map(|sample| sample.values()[1]).sum();
    assert!(waited > 0, "nothing was contended");
    assert_eq!(snapshot(Kind::Mutex).expect("available").totals()[1], waited);
}

#[test]
fn nothing_touches_a_lock_after_its_release() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    rounds::<3>(Shared::new, |_, shared| shared.release_and_maybe_free(3));
    assert_charges_are_waits();

    // The one that is woken frees the mutex while the notifier may still be notifying.
    let condvar = &Condvar::new();
    let (waiting, freed) = (&AtomicUsize::new(0), &AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(move || {
            for round in 1..=ROUNDS {
                let shared = Shared::new();
                // SAFETY: freed below, by this thread.
                let guard = unsafe { &*shared.0 }.lock().expect("no panic");
                waiting.store(round, Ordering::Release);
                drop(condvar.wait_timeout(guard, Duration::from_millis(10)).expect("no panic"));
                shared.free();
                freed.store(round, Ordering::Release);
            }
        });
        for round in 1..=ROUNDS {
            while waiting.load(Ordering::Acquire) < round {
                thread::yield_now();
            }
            while freed.load(Ordering::Acquire) < round {
                condvar.notify_all();
            }
        }
    });
}
