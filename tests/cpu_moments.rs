//! CPU samples where earlier profilers crashed, hung or lost them: every allocation sampled too,
//! threads without any state, small signal stacks, panics, libraries that come and go.

#![allow(unsafe_code, reason = "threads of C and libraries are made by calls of C")]

use std::alloc::System;
use std::hint::black_box;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
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
    let threads = [(); 3].map(|()| profiler_core::thread::spawn(allocate));
    while threads.iter().any(|thread| !thread.is_finished()) {
        let view = View::default().symbols(Symbols::None);
        black_box(snapshot_with(Kind::Heap, view).expect("it is available"));
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
    let profile = capture.finish();
    is_whole(&profile);
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
    profiler_core::thread::spawn(unwind).join().expect("no panic");
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
        // It is found when the profiler's thread looks for threads, and gets a processor for that.
        let missing = cumulative(&profile, "[unsampled]");
        let said = format!("{sampled}, {missing} of 300 ms, alternate stack: {stack:?}");
        assert!(sampled > 0 && sampled + missing > 250_000_000, "{said}");
    }
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
