//! Threads are born and die in a storm of signals: no sample is lost, whoever the thread is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::{fs, hint, thread};

use profiler_core::{Config, with_labels};
use profiler_tests::bombardment::{strike, under_fire};
use profiler_tests::cpu::{MILLISECOND, cumulative, fastest, is_whole, use_up};
use profiler_tests::keep;
use profiler_tests::parked::ThreadId;

/// One test at a time, with the profiler started.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: LazyLock<()> =
        LazyLock::new(|| profiler_core::start(Config::default()).expect("the first start"));
    LazyLock::force(&START);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline(never)]
fn known_by_its_labels() {
    with_labels([("part", "storm")], || use_up(MILLISECOND));
    keep!();
}

#[inline(never)]
fn never_heard_of() {
    use_up(MILLISECOND);
    keep!();
}

/// Starts and joins so many threads of each sort.
fn storm(rounds: usize) {
    let std_thread = |body: fn()| move || thread::spawn(body);
    let ours = || profiler_core::thread::spawn(known_by_its_labels);
    thread::scope(|scope| {
        for spawn in [std_thread(known_by_its_labels), std_thread(never_heard_of)] {
            scope.spawn(move || (0..rounds).for_each(|_| join([spawn(), spawn(), spawn()])));
        }
        scope.spawn(|| (0..rounds).for_each(|_| join([ours(), ours(), ours()])));
    });
}

fn join(threads: [thread::JoinHandle<()>; 3]) {
    for thread in threads {
        thread.join().expect("no panic");
    }
}

#[test]
fn no_sample_of_threads_that_come_and_go_is_lost() {
    let _turn = turn();
    let capture = fastest();
    storm(150);
    let profile = capture.finish();
    is_whole(&profile);
    for function in ["known_by_its_labels", "never_heard_of"] {
        assert!(cumulative(&profile, function) > 0, "{function}");
    }
}

/// Threads are struck before anything could be set aside for them, so some samples are lost.
#[test]
fn threads_come_and_go_under_fire() {
    let _turn = turn();
    let capture = fastest();
    let (sent, ()) = under_fire(|| storm(100));
    let profile = capture.finish();
    println!("{sent} signals, {}", profile.comments()[0]);
    assert!(sent > 1000, "{sent}");
    assert!(cumulative(&profile, "known_by_its_labels") > 0);
}

/// Calls `act` with a thread that has a timer and is not known to the profiler, and ends it then. The
/// thread calls `body` when it is woken.
fn with_unknown(body: impl FnOnce() + Send, act: impl FnOnce(u32, &thread::Thread)) {
    let (say, said) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            say.send(ThreadId::current().get()).expect("the other side listens");
            thread::park();
            body();
        });
        let number = said.recv().expect("the thread is there");
        while !has_timer(number) {
            thread::yield_now();
        }
        act(number, waiter.thread());
    });
}

/// A thread is struck by nothing until it becomes known to the profiler, and then again and again.
#[test]
fn a_thread_that_is_struck_while_it_becomes_known_loses_nothing() {
    let _turn = turn();
    let capture = fastest();
    for _ in 0..100 {
        let (begun, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let become_known = || {
            begun.store(true, Ordering::Relaxed);
            with_labels([("part", "known")], || hint::black_box(()));
            done.store(true, Ordering::Relaxed);
        };
        with_unknown(become_known, |number, waiter| {
            waiter.unpark();
            while !begun.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
            while !done.load(Ordering::Relaxed) {
                let _ended_already = strike(number);
            }
        });
    }
    is_whole(&capture.finish());
}

#[test]
fn what_is_set_aside_for_a_thread_is_not_taken_by_others() {
    /// More than ever lived at once in these tests: they take all that threads left behind.
    const OTHERS: usize = 60;
    let _turn = turn();
    let capture = fastest();
    let known = Barrier::new(OTHERS + 1);
    with_unknown(
        || (),
        |number, waiter| {
            thread::scope(|scope| {
                for _ in 0..OTHERS {
                    scope.spawn(|| {
                        with_labels([("part", "other")], || hint::black_box(()));
                        known.wait();
                        known.wait();
                    });
                }
                known.wait();
                assert!(strike(number));
                // It was struck before it can end.
                waiter.unpark();
                known.wait();
            });
        },
    );
    is_whole(&capture.finish());
}

/// Whether a thread has a timer, by the kernel's own list.
fn has_timer(thread: u32) -> bool {
    let timers = fs::read_to_string("/proc/self/timers").expect("the kernel lists timers");
    timers.lines().any(|line| line.ends_with(&format!("/tid.{thread}")))
}
