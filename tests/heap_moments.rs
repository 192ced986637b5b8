//! Allocations at hostile moments, each sampled: before `main`, as the first and as the last thing that
//! a thread does, after a fork.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "code before main, threads of C and forks are made by hand")]

use std::alloc::System;
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use libc::c_void;
use profiler_core::{
    Config, Kind, ProfiledAllocator, Rates, Symbols, View, memory, set_rates, snapshot_with,
    with_labels,
};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// What each moment allocates.
type Blocks = [Box<[u8; 100]>; 10];

fn blocks() -> Blocks {
    [(); 10].map(|()| Box::new([1; 100]))
}

/// The same under the label by which it is found.
fn blocks_at(moment: &'static str) -> Blocks {
    with_labels([("moment", moment)], blocks)
}

/// Returns the sums of what was allocated at a moment: objects and bytes, and of those in use.
fn sums(moment: &str) -> [i64; 4] {
    // Reading is not sampled: it allocates much.
    set_rates(Rates::ALL.heap_bytes(0));
    let view = View::default().symbols(Symbols::None);
    let profile = snapshot_with(Kind::Heap, view).expect("available");
    set_rates(Rates::ALL);
    let of_moment = profile.samples().filter(|sample| sample.label("moment") == Some(moment));
    of_moment.fold([0; 4], |sums, sample| std::array::from_fn(|i| sums[i] + sample.values()[i]))
}

/// Returns the sums for so many times [`Blocks`], of which some are in use.
fn times(allocated: i64, in_use: i64) -> [i64; 4] {
    [10 * allocated, 1000 * allocated, 10 * in_use, 1000 * in_use]
}

/// One test at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is allocated before `main`, before and after the profiler is started, and by how much
/// `memory()` has grown by the former.
static EARLY: Mutex<Option<(Blocks, Blocks, u64)>> = Mutex::new(None);

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    let bytes = || memory().allocations.map_or(0, |exact| exact.live_bytes());
    let before = bytes();
    let unsampled = blocks();
    let grown = bytes() - before;
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let sampled = blocks_at("before main");
    *EARLY.lock().expect("no panic") = Some((unsampled, sampled, grown));
}

#[test]
fn what_is_allocated_before_main_is_sampled_and_counted() {
    let _turn = turn();
    let (unsampled, sampled, grown) =
        EARLY.lock().expect("no panic").take().expect("it ran before main");
    // The rest is what reading it takes.
    assert!((1000..3000).contains(&grown), "{grown}");
    assert_eq!(sums("before main"), times(1, 1));
    assert!(unsampled.iter().chain(&sampled).all(|block| block.iter().all(|byte| *byte == 1)));
    // On another thread: the first was the main one.
    drop((unsampled, sampled));
    assert_eq!(sums("before main"), times(1, 0));
}

struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        drop(blocks_at("destructor"));
    }
}

thread_local! {
    static LATE: Cell<Option<Late>> = const { Cell::new(None) };
}

/// What threads have allocated first, in the hands of others.
static KEPT: Mutex<Vec<Blocks>> = Mutex::new(Vec::new());
/// Of C's thread-locals, whose destructors run after those of Rust's.
static KEY: AtomicU64 = AtomicU64::new(0);

extern "C" fn after_all(_: *mut c_void) {
    drop(blocks_at("after"));
}

/// What a thread does; it allocates first if there is an argument, and else only when it ends.
extern "C" fn live_and_die(allocates: *mut c_void) -> *mut c_void {
    if !allocates.is_null() {
        let kept = blocks_at("birth");
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
    }
    LATE.set(Some(Late));
    let key = KEY.load(Ordering::SeqCst) as libc::pthread_key_t;
    // SAFETY: the key was made before the thread.
    let set = unsafe { libc::pthread_setspecific(key, ptr::without_provenance(1)) };
    assert_eq!(set, 0);
    ptr::null_mut()
}

/// Threads of C, so that nothing allocates but what is here.
#[test]
fn the_first_and_the_last_thing_that_threads_do() {
    const THREADS: usize = 50;

    let _turn = turn();
    let mut key = 0;
    // SAFETY: the destructor may run on any thread.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(after_all)) }, 0);
    KEY.store(key.into(), Ordering::SeqCst);
    for round in 1..=4_i64 {
        let threads = (0..THREADS).map(|number| {
            let mut thread = std::mem::MaybeUninit::uninit();
            let allocates = ptr::without_provenance_mut(number % 2);
            // SAFETY: the function is of the type that is asked for and reads no argument.
            let made = unsafe {
                libc::pthread_create(thread.as_mut_ptr(), ptr::null(), live_and_die, allocates)
            };
            assert_eq!(made, 0);
            // SAFETY: written above.
            unsafe { thread.assume_init() }
        });
        for thread in threads.collect::<Vec<_>>() {
            // SAFETY: joined once.
            assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
        }
        let (all, half) = (round * THREADS as i64, THREADS as i64 / 2);
        assert_eq!(sums("birth"), times(round * half, half));
        assert_eq!(sums("destructor"), times(all, 0));
        assert_eq!(sums("after"), times(all, 0));
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).clear();
        assert_eq!(sums("birth"), times(round * half, 0));
    }
}

/// What must hold in the child of a fork; the number of the step that fails, or 0.
fn child(of_parent: &mut Option<Blocks>) -> i32 {
    let own = blocks_at("child");
    if sums("child") != times(1, 1) || sums("parent") != times(1, 1) {
        return 1;
    }
    *of_parent = None;
    if sums("parent") != times(1, 0) {
        return 2;
    }
    thread::scope(|scope| {
        scope.spawn(move || drop(own));
        // Many, which take over what the parent's threads have left.
        for _ in 0..30 {
            scope.spawn(|| (0..20).for_each(|_| drop(blocks_at("thread of child"))));
        }
        (0..200).for_each(|_| drop(blocks_at("child")));
    });
    if sums("child") != times(201, 0) || sums("thread of child") != times(600, 0) {
        return 3;
    }
    0
}

/// Tells the threads to stop, also if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While other threads are anywhere in the allocator.
#[test]
fn the_child_of_a_fork_samples_its_own_and_frees_what_it_got() {
    let _turn = turn();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&is_done);
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    drop(blocks());
                }
            });
        }
        let mut of_parent = Some(blocks_at("parent"));
        for round in 0..10 {
            // SAFETY: the child calls what the profiler allows after a fork, and ends by `_exit`.
            let process = unsafe { libc::fork() };
            if process == 0 {
                let failed = child(&mut of_parent);
                // SAFETY: ends the child.
                unsafe { libc::_exit(failed) };
            }
            let mut status = 0;
            // SAFETY: waits for the child that was just made.
            assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
            let (step, signal) = (libc::WEXITSTATUS(status), libc::WTERMSIG(status));
            assert_eq!(status, 0, "round {round}: step {step} of the child, or signal {signal}");
        }
        assert_eq!(sums("parent"), times(1, 1), "the child's free is the child's");
        assert_eq!(sums("child"), [0; 4]);
        drop(of_parent);
        assert_eq!(sums("parent"), times(1, 0));
    });
}
