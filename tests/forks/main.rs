//! The child of a fork waits for nobody who is not there, and shares nothing between two of its threads: by `fork`, by
//! `_Fork` and by the system call, which call no handler.
//!
//! Each test's program runs alone. A child that hangs is ended by an alarm, and so fails its parent.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "processes are forked by hand, and an allocator halts threads")]

mod halts;

use std::ffi::c_long;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{env, ptr, thread};

use profiler_core::{
    Config, CustomProfile, Kind, Profile, ProfiledAllocator, Rates, Symbols, View, profiled,
    snapshot_with, sync, with_labels,
};
use profiler_tests::program;

use crate::halts::Halting;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<Halting> = ProfiledAllocator::new(Halting);

profiler_tests::programs! {
    "fork" => by_fork,
    "_Fork" => by_bare_fork,
    "clone" => by_clone,
    "a block of its own, fork" => own_block_by_fork,
    "a block of its own, _Fork" => own_block_by_bare_fork,
    "a block of its own, clone" => own_block_by_clone,
    "a block of its own, no wiped pages" => own_block_without_wiped_pages,
    "waiters, _Fork" => waiters_by_bare_fork,
    "waiters, fork" => waiters_by_fork,
    "halted start" => halts::in_start,
    "halted names" => halts::in_names,
    "halted records" => halts::in_records,
    "halted readers" => halts::in_readers,
    "halted captures" => halts::in_captures,
}

/// Ways to fork: each returns 0 in the child, and there is no child if it is negative.
type Fork = fn() -> libc::pid_t;

fn fork() -> libc::pid_t {
    // SAFETY: the child calls what the profiler allows after a fork, and ends by `_exit`.
    unsafe { libc::fork() }
}

/// What POSIX has since 2024: calls no handler. Looked for, since older C libraries are without it.
fn bare_fork() -> libc::pid_t {
    // SAFETY: a text ended by zero.
    let function = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_Fork".as_ptr()) };
    assert!(!function.is_null(), "the C library has `_Fork`");
    // SAFETY: a function of this type.
    let function: extern "C" fn() -> libc::pid_t = unsafe { std::mem::transmute(function) };
    function()
}

fn clone() -> libc::pid_t {
    let [none, signal] = [0, c_long::from(libc::SIGCHLD)];
    // SAFETY: without a stack of its own the child is one of a fork.
    let child = unsafe { libc::syscall(libc::SYS_clone, signal, none, none, none, none) };
    libc::pid_t::try_from(child).expect("a number of a process")
}

/// Has a child do that, and waits until it has ended; it does so well if it says true.
#[track_caller]
fn in_child(fork: Fork, body: impl FnOnce() -> bool) {
    let child = fork();
    if child == 0 {
        program::end_if_it_hangs();
        let status = i32::from(!body());
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    ended_well(child);
}

#[track_caller]
fn ended_well(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the status is a live exclusive value.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child was killed by {}", libc::WTERMSIG(status));
}

fn start() {
    let config = Config::default().rates(Rates::ALL).symbols(Symbols::None);
    profiler_core::start(config).expect("the first start");
}

fn read(kind: Kind) -> Profile {
    snapshot_with(kind, View::default().symbols(Symbols::None)).expect("Linux has it")
}

static DONE: AtomicBool = AtomicBool::new(false);

/// A mutex and a condition variable that threads of the parent never leave alone.
static BUSY: sync::Mutex<u64> = sync::Mutex::new(0);
static CHANGED: sync::Condvar = sync::Condvar::new();

fn waits() {
    while !DONE.load(Ordering::Relaxed) {
        let busy = BUSY.lock().expect("no panic");
        drop(CHANGED.wait_timeout(busy, Duration::from_millis(1)).expect("no panic"));
    }
}

fn notifies() {
    let mut number = 0_u64;
    while !DONE.load(Ordering::Relaxed) {
        *BUSY.lock().expect("no panic") += 1;
        number += 1;
        if number.is_multiple_of(8) {
            CHANGED.notify_all()
        } else {
            CHANGED.notify_one()
        };
    }
}

/// Notifies whom the parent's threads notify, waits as they do, and is notified.
fn uses_condition_variables() -> bool {
    static MUTEX: sync::Mutex<bool> = sync::Mutex::new(false);
    for _ in 0..10 {
        CHANGED.notify_one();
        CHANGED.notify_all();
    }
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut told = MUTEX.lock().expect("no panic");
            while !*told {
                told = CHANGED.wait(told).expect("no panic");
            }
        });
        *MUTEX.lock().expect("no panic") = true;
        // Before it waits, perhaps, and then it does not.
        CHANGED.notify_all();
    });
    true
}

/// Forks again and again while threads wait and notify.
fn among_busy_threads(fork: Fork, body: fn() -> bool) {
    start();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(waits);
            scope.spawn(notifies);
        }
        for _ in 0..100 {
            in_child(fork, body);
        }
        DONE.store(true, Ordering::Relaxed);
    });
}

fn by_fork() {
    among_busy_threads(fork, uses_condition_variables);
}

/// Without threads, which need memory: that of C's allocator may be locked.
fn notifies_alone() -> bool {
    (0..10).for_each(|_| CHANGED.notify_one());
    CHANGED.notify_all();
    true
}

fn by_bare_fork() {
    among_busy_threads(bare_fork, notifies_alone);
}

fn by_clone() {
    among_busy_threads(clone, notifies_alone);
}

#[test]
fn condition_variables_go_on_in_the_child_of_a_fork() {
    program::run("fork");
}

#[test]
fn condition_variables_go_on_in_the_child_of_a_fork_without_handlers() {
    program::run("_Fork");
}

#[test]
fn condition_variables_go_on_in_the_child_of_a_system_call() {
    program::run("clone");
}

static THINGS: CustomProfile = CustomProfile::new("things");

/// How many things are there whose label `by` says so.
fn things_by(name: &str) -> i64 {
    let profile = read(Kind::Custom("things"));
    let by = profile.samples().filter(|sample| sample.label("by") == Some(name));
    by.map(|sample| sample.values()[0]).sum()
}

#[profiled]
#[inline(never)]
fn is_forked(fork: Fork) {
    with_labels([("by", "the parent")], || drop(THINGS.enter()));
    in_child(fork, || {
        with_labels([("by", "the first")], || {
            const THREADS: i64 = 8;
            let (all, entered) = (Barrier::new(9), Barrier::new(9));
            let sums = thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        with_labels([("by", "another")], || {
                            let _entries = [(); 100].map(|()| THINGS.enter());
                            all.wait();
                            entered.wait();
                        });
                    });
                }
                all.wait();
                let _entries = [(); 100].map(|()| THINGS.enter());
                let sums = ["the first", "another"].map(things_by);
                entered.wait();
                sums
            });
            sums == [100, THREADS * 100]
        })
    });
}

/// The thread that forked has labels in force, and its number is another in the child: none of the threads that come
/// takes its block over.
fn own_block(fork: Fork) {
    start();
    for _ in 0..10 {
        is_forked(fork);
    }
    // A child's child.
    in_child(fork, || {
        is_forked(fork);
        true
    });
    is_forked(fork);
}

fn own_block_by_fork() {
    own_block(fork);
}

fn own_block_by_bare_fork() {
    own_block(bare_fork);
}

fn own_block_by_clone() {
    own_block(clone);
}

/// As kernels before 4.14 do, and some sandboxes.
fn refuse_wiped_pages() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const INVALID: u32 = libc::SECCOMP_RET_ERRNO | libc::EINVAL.cast_unsigned();
    let call = u32::try_from(libc::SYS_madvise).expect("a number");
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // The number of the call stands at 0, its arguments from 16 on, 8 bytes each.
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(IS, 0, 3, call),
        step(LOAD, 0, 0, 32),
        step(IS, 0, 1, libc::MADV_WIPEONFORK.cast_unsigned()),
        step(RETURN, 0, 0, INVALID),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let length = u16::try_from(filter.len()).expect("few");
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: a live filter of that length.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }, 0);
}

fn own_block_without_wiped_pages() {
    const REFUSED: &str = "REFUSED";
    if env::var_os(REFUSED).is_none() {
        // From the program's beginning: it asks for such a page at its first allocation.
        refuse_wiped_pages();
        let program = env::current_exe().expect("the path of the test binary");
        panic!("{}", Command::new(program).env(REFUSED, "").exec());
    }
    // SAFETY: a call of no effect, but that it is refused.
    let refused = unsafe { libc::madvise(ptr::null_mut(), 0, libc::MADV_WIPEONFORK) };
    assert_eq!(refused, -1);
    own_block(clone);
}

#[test]
fn the_thread_that_forked_keeps_its_block() {
    program::run("a block of its own, fork");
}

#[test]
fn the_thread_that_forked_keeps_its_block_without_handlers() {
    program::run("a block of its own, _Fork");
    program::run("a block of its own, clone");
}

#[test]
fn the_thread_that_forked_keeps_its_block_where_the_kernel_wipes_no_pages() {
    program::run("a block of its own, no wiped pages");
}

/// Who waits for a lock in the parent is not there in the child, and nobody there is charged for it.
fn waiters(fork: Fork) {
    static LOCK: sync::Mutex<()> = sync::Mutex::named("lock", ());
    static WAITING: AtomicU64 = AtomicU64::new(0);
    start();
    thread::scope(|scope| {
        let held = LOCK.lock().expect("no panic");
        scope.spawn(|| {
            // SAFETY: takes nothing.
            WAITING.store(unsafe { libc::gettid() }.cast_unsigned().into(), Ordering::Relaxed);
            drop(LOCK.lock());
        });
        let waits = || {
            let thread = WAITING.load(Ordering::Relaxed);
            let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"));
            call.is_ok_and(|call| call.starts_with(&format!("{} ", libc::SYS_futex)))
        };
        while !waits() {
            thread::yield_now();
        }
        let child = fork();
        // In both.
        drop(held);
        if child == 0 {
            program::end_if_it_hangs();
            let is_right = read(Kind::Mutex).totals() == [0, 0];
            // Its own it is charged for.
            let held = LOCK.lock().expect("no panic");
            let waiter = thread::spawn(|| drop(LOCK.lock()));
            let shown = || read(Kind::Goroutine).samples().any(|it| it.label("lock").is_some());
            while !shown() {
                thread::yield_now();
            }
            drop(held);
            waiter.join().expect("no panic");
            let [_, charged] = read(Kind::Mutex).totals()[..] else { unreachable!("two") };
            // SAFETY: ends the child.
            unsafe { libc::_exit(i32::from(!is_right || charged <= 0)) };
        }
        ended_well(child);
    });
}

fn waiters_by_fork() {
    waiters(fork);
}

fn waiters_by_bare_fork() {
    waiters(bare_fork);
}

#[test]
fn nobody_is_charged_for_who_waits_in_the_parent() {
    program::run("waiters, fork");
    program::run("waiters, _Fork");
}

#[test]
fn a_fork_in_the_midst_of_the_start_leaves_a_child_that_starts() {
    program::run("halted start");
}

#[test]
fn a_fork_while_something_is_named_leaves_a_child_that_names_it() {
    program::run("halted names");
}

#[test]
fn a_fork_while_something_is_recorded_for_the_first_time_leaves_a_child_that_records_it() {
    program::run("halted records");
}

#[test]
fn a_fork_while_a_profile_is_read_leaves_a_child_that_reads_it() {
    program::run("halted readers");
}

#[test]
fn a_fork_while_a_capture_runs_leaves_a_child_that_captures() {
    program::run("halted captures");
}
