//! CPU samples where earlier profilers crashed, hung or lost them: every allocation sampled too,
//! threads without any state, small signal stacks, fork, panics, libraries that come and go.

#![allow(unsafe_code, reason = "threads of C, forks and signals are made by system calls")]

use std::alloc::System;
use std::hint::black_box;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::{ptr, thread};

use profiler_core::{Config, Kind, ProfiledAllocator, Rates, Symbols, View, snapshot_with};
use profiler_tests::cpu::{
    MILLISECOND, cumulative, fastest, finish_unnamed, for_cpu_time, is_whole, use_up,
};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// One test at a time, with the profiler started.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    START.call_once(|| {
        profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    });
    turn
}

#[inline(never)]
fn allocate() {
    for_cpu_time(500 * MILLISECOND, || {
        let mut texts: Vec<String> = Vec::new();
        for number in 0..20 {
            texts.push(format!("{number}").repeat(number));
        }
        black_box(texts);
    });
}

#[test]
fn samples_and_every_allocation_at_once() {
    let _turn = turn();
    let capture = fastest();
    let threads = [(); 3].map(|()| thread::spawn(allocate));
    while threads.iter().any(|thread| !thread.is_finished()) {
        let view = View::default().symbols(Symbols::None);
        black_box(snapshot_with(Kind::Heap, view).expect("it is available"));
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
    let profile = capture.finish();
    is_whole(&profile);
    // Threads of std get their timer within some 10 ms each.
    let sampled = cumulative(&profile, "cpu_moments::allocate");
    assert!(sampled > 1_200_000_000, "{sampled}");
}

#[inline(never)]
fn unwind() {
    for_cpu_time(300 * MILLISECOND, || {
        let caught = catch_unwind(|| {
            let _dropped = String::from("on the way");
            std::panic::resume_unwind(Box::new(black_box(1)));
        });
        assert!(caught.is_err());
    });
}

#[test]
fn panics_unwind_under_fire() {
    let _turn = turn();
    let capture = fastest();
    thread::spawn(unwind).join().expect("no panic");
    let profile = capture.finish();
    is_whole(&profile);
    assert!(cumulative(&profile, "cpu_moments::unwind") > 200_000_000);
}

#[inline(never)]
extern "C" fn of_c(stack: *mut libc::c_void) -> *mut libc::c_void {
    if !stack.is_null() {
        let alternate = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: SMALL };
        // SAFETY: the memory lives until the thread is joined.
        assert_eq!(unsafe { libc::sigaltstack(&raw const alternate, ptr::null_mut()) }, 0);
    }
    // No allocation, no lock, no span: nothing tells the profiler of this thread.
    use_up(300 * MILLISECOND);
    ptr::null_mut()
}

/// The smallest stack that a handler may be put on, on processors with the widest registers.
const SMALL: usize = 8 << 10;

fn run_in_c(alternate: *mut libc::c_void) {
    let mut thread = std::mem::MaybeUninit::uninit();
    // SAFETY: the function is of the type that is asked for, and its argument outlives the thread.
    let made = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), of_c, alternate) };
    assert_eq!(made, 0);
    // SAFETY: written above.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: joined once.
    assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
}

#[test]
fn threads_that_nobody_told_of_are_sampled_on_small_stacks_too() {
    let _turn = turn();
    let mut alternate = vec![0_u128; SMALL / size_of::<u128>()];
    for stack in [ptr::null_mut(), alternate.as_mut_ptr().cast()] {
        let capture = fastest();
        run_in_c(stack);
        let profile = capture.finish();
        is_whole(&profile);
        let sampled = cumulative(&profile, "cpu_moments::of_c");
        assert!(sampled > 200_000_000, "{sampled} of 300 ms, alternate stack: {stack:?}");
    }
}

#[test]
fn a_child_lives_and_profiles_itself() {
    let _turn = turn();
    let capture = fastest();
    for round in 0..20 {
        // SAFETY: the child calls what the profiler allows after a fork, and ends by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let own = fastest();
            for_cpu_time(20 * MILLISECOND, || {
                black_box(vec![0_u8; 100]);
            });
            let sampled = finish_unnamed(own).totals()[1];
            // SAFETY: ends the child.
            unsafe { libc::_exit(if sampled > 0 { 0 } else { 3 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "round {round}: killed by {}", libc::WTERMSIG(status));
    }
    is_whole(&finish_unnamed(capture));
}

#[test]
fn a_program_that_is_executed_does_not_die_of_the_signal() {
    let _turn = turn();
    let _capture = fastest();
    for _ in 0..20 {
        let status = std::process::Command::new("true").status().expect("it runs");
        assert!(status.success(), "{status}");
    }
}

#[test]
fn signals_of_others_go_where_they_went() {
    static STRUCK: AtomicU64 = AtomicU64::new(0);
    extern "C" fn theirs(_: libc::c_int) {
        STRUCK.fetch_add(1, Ordering::Relaxed);
    }
    // A process of its own, since the handler has to be there before ours.
    if std::env::var_os("CPU_MOMENTS_CHILD").is_none() {
        let test = std::env::current_exe().expect("the path of the test binary");
        let status = std::process::Command::new(test)
            .args(["--exact", "signals_of_others_go_where_they_went"])
            .env("CPU_MOMENTS_CHILD", "1")
            .status()
            .expect("it runs");
        assert!(status.success(), "{status}");
        return;
    }
    // SAFETY: the handler does what handlers may.
    unsafe { libc::signal(libc::SIGPROF, theirs as extern "C" fn(_) as libc::sighandler_t) };
    let _turn = turn();
    let capture = fastest();
    // SAFETY: sends a signal that has a handler.
    unsafe { libc::raise(libc::SIGPROF) };
    for_cpu_time(20 * MILLISECOND, || ());
    assert_eq!(STRUCK.load(Ordering::Relaxed), 1);
    is_whole(&finish_unnamed(capture));
}

#[test]
fn libraries_come_and_go_under_fire() {
    let _turn = turn();
    let capture = fastest();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                black_box("a".repeat(black_box(100)));
            }
        });
        for_cpu_time(100 * MILLISECOND, || {
            // SAFETY: the C library's mathematical part runs nothing when it is loaded.
            let library = unsafe { libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW) };
            if !library.is_null() {
                // SAFETY: loaded above, and nothing of it is in use.
                unsafe { libc::dlclose(library) };
            }
        });
        done.store(true, Ordering::Relaxed);
    });
    is_whole(&finish_unnamed(capture));
}
