//! CPU samples and what a process does as a whole: it forks, executes, handles signals of its own,
//! and has limits.

#![allow(unsafe_code, reason = "forks, signals and limits are system calls")]

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};
use std::{ptr, thread};

use profiler_core::{
    Capture, Config, Kind, Symbols, ThreadView, View, profiled, snapshot, snapshot_with,
};
use profiler_tests::cpu::{
    MILLISECOND, cumulative, fastest, finish_unnamed, for_cpu_time, is_whole, use_up,
};
use profiler_tests::keep;
use profiler_tests::own_process::in_own_process;

fn start() {
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
}

/// One test at a time, with the profiler started.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    start();
    turn
}

fn errno() -> &'static mut libc::c_int {
    // SAFETY: libc returns the address of the calling thread's own, valid while it runs.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: see above; nobody else refers to it here.
    unsafe { &mut *location }
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
            for_cpu_time(60 * MILLISECOND, || {
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

/// Forks; the child does that, says whether all was well, and ends. One that hangs is killed.
#[track_caller]
fn in_child(body: impl FnOnce() -> bool) {
    // SAFETY: the child calls what the profiler allows after a fork, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the signal has no handler, and so ends the child in a minute.
        unsafe { libc::alarm(60) };
        let status = if body() { 0 } else { 3 };
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "killed by {}", libc::WTERMSIG(status));
}

#[profiled]
#[inline(never)]
fn spanned() {
    use_up(300 * MILLISECOND);
    keep!();
}

/// The profiler's own thread, which ticks and gives timers to threads that come later, is not copied by a fork.
#[test]
fn a_child_has_what_the_profilers_own_thread_does() {
    let _turn = turn();
    in_own_process("a_child_has_what_the_profilers_own_thread_does", || {
        start();
        in_child(|| {
            let capture = fastest();
            // Twice: times are known from a thread's first tick on.
            thread::spawn(|| [spanned(), spanned()]).join().expect("no panic");
            let profile = finish_unnamed(capture);
            let sampled = profile.totals()[1] - cumulative(&profile, "[unsampled]");
            let busy = snapshot(Kind::Spans).expect("everywhere").totals()[1];
            sampled > 0 && busy > 0
        });
    });
}

/// Whoever is about to install the handler is not there in the child, and nobody waits for him.
#[test]
fn a_child_that_is_forked_during_the_first_capture_profiles_itself() {
    let _turn = turn();
    let captures = || Capture::start(Kind::Profile).is_ok();
    in_own_process("a_child_that_is_forked_during_the_first_capture_profiles_itself", || {
        start();
        for round in 0..50 {
            in_child(|| {
                let together = &Barrier::new(2);
                thread::scope(|scope| {
                    let first = scope.spawn(|| {
                        together.wait();
                        captures()
                    });
                    together.wait();
                    // A little later each time.
                    let begin = Instant::now();
                    while begin.elapsed() < Duration::from_micros(10 * round) {}
                    in_child(captures);
                    first.join().is_ok_and(|captures| captures)
                })
            });
        }
    });
}

/// The loader's lock is never free again in a child that is forked while a library is loaded.
#[test]
fn a_child_that_is_forked_while_libraries_come_and_go_profiles_itself() {
    let _turn = turn();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // SAFETY: this part of the C library runs nothing when it is loaded.
                let library = unsafe { libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW) };
                if !library.is_null() {
                    // SAFETY: loaded above, and nothing of it is in use.
                    unsafe { libc::dlclose(library) };
                }
            }
        });
        let ended = Ended(&done);
        for _ in 0..200 {
            in_child(|| {
                let view = View::default().symbols(Symbols::None).threads(ThreadView::All);
                snapshot_with(Kind::Goroutine, view).is_ok_and(|threads| threads.totals()[0] > 0)
            });
        }
        drop(ended);
    });
}

/// Ends a loop, after a panic too.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_child_that_ends_its_parents_captures_keeps_its_own() {
    let _turn = turn();
    in_own_process("a_child_that_ends_its_parents_captures_keeps_its_own", || {
        start();
        let of_parent = [Kind::Profile, Kind::Wall].map(|kind| Capture::start(kind).unwrap());
        in_child(|| {
            let own = [fastest(), Capture::start(Kind::Wall).unwrap()];
            drop(of_parent);
            use_up(100 * MILLISECOND);
            let mut own = own.map(|capture| finish_unnamed(capture).totals()[1]).into_iter();
            own.all(|nanoseconds| nanoseconds > 50 * MILLISECOND.cast_signed())
        });
    });
}

/// Go's `TestCPUProfileWithFork`: a fork that takes long is not begun again and again because of
/// signals.
#[test]
fn a_process_with_much_memory_forks_and_executes() {
    const SIZE: usize = 1 << 30;
    const PAGE: usize = 4096;
    let _turn = turn();
    // SAFETY: a fresh mapping of private memory.
    let memory = unsafe {
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(ptr::null_mut(), SIZE, writable, private, -1, 0)
    };
    assert_ne!(memory, libc::MAP_FAILED);
    let bytes = memory.cast::<u8>();
    // Small pages, as many as there are, so that a fork has much to copy. Pages that are only read take no
    // memory; one that is written to has the kernel copy the others' entries too.
    // SAFETY: the mapping is this function's.
    assert_eq!(unsafe { libc::madvise(memory, SIZE, libc::MADV_NOHUGEPAGE) }, 0);
    // SAFETY: the mapping is this function's and zeroed.
    unsafe { bytes.write_volatile(1) };
    for page in (PAGE..SIZE).step_by(PAGE) {
        // SAFETY: within the mapping.
        let byte = unsafe { bytes.add(page) };
        // SAFETY: within the mapping, and zeroed.
        assert_eq!(unsafe { byte.read_volatile() }, 0);
    }
    let capture = fastest();
    for round in 0..5 {
        // By fork, since std's way does not copy memory.
        // SAFETY: the child only executes another program, or ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let arguments = [c"true".as_ptr(), ptr::null()];
            // SAFETY: texts ended by zero, in a list ended by null.
            unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
            // SAFETY: ends the child.
            unsafe { libc::_exit(3) };
        }
        use_up(20 * MILLISECOND);
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "round {round}: killed by {}", libc::WTERMSIG(status));
    }
    is_whole(&finish_unnamed(capture));
    // SAFETY: mapped above, and nothing refers to it.
    assert_eq!(unsafe { libc::munmap(memory, SIZE) }, 0);
}

#[test]
fn a_program_that_is_executed_does_not_die_of_the_signal() {
    let _turn = turn();
    let _capture = fastest();
    for _ in 0..20 {
        let status = Command::new("true").status().expect("it runs");
        assert!(status.success(), "{status}");
    }
}

/// The new program has no handler, and the timers of the old one are gone.
#[test]
fn a_process_that_becomes_another_program_while_it_is_sampled_lives() {
    let test = "a_process_that_becomes_another_program_while_it_is_sampled_lives";
    in_own_process(test, || {
        start();
        let _captures = [fastest(), Capture::start_with(Kind::Wall, 1000).unwrap()];
        println!("running 1 test");
        use_up(50 * MILLISECOND);
        let arguments = [c"true".as_ptr(), ptr::null()];
        // SAFETY: texts ended by zero, in a list ended by null.
        unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
        panic!("there is no `true`");
    });
}

#[test]
fn signals_of_others_go_where_they_went_and_errno_stays() {
    static STRUCK: AtomicU64 = AtomicU64::new(0);
    extern "C" fn theirs(_: libc::c_int) {
        STRUCK.fetch_add(1, Ordering::Relaxed);
        *errno() = 99;
    }
    // The handler has to be there before ours.
    in_own_process("signals_of_others_go_where_they_went_and_errno_stays", || {
        // SAFETY: the handler does what handlers may.
        unsafe { libc::signal(libc::SIGPROF, theirs as extern "C" fn(_) as libc::sighandler_t) };
        start();
        let capture = fastest();
        *errno() = 7;
        // SAFETY: sends a signal that has a handler.
        unsafe { libc::raise(libc::SIGPROF) };
        assert_eq!(*errno(), 7);
        use_up(20 * MILLISECOND);
        assert_eq!(STRUCK.load(Ordering::Relaxed), 1);
        is_whole(&finish_unnamed(capture));
    });
}

/// Blocks or unblocks the signal of timers on the calling thread.
fn block_timers(how: libc::c_int) {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: makes an empty set.
    unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    // SAFETY: initialised above.
    unsafe { libc::sigaddset(signals.as_mut_ptr(), libc::SIGPROF) };
    // SAFETY: initialised above.
    let done = unsafe { libc::pthread_sigmask(how, signals.as_ptr(), ptr::null_mut()) };
    assert_eq!(done, 0);
}

#[test]
fn a_signal_that_waits_until_the_capture_has_ended_kills_nobody() {
    in_own_process("a_signal_that_waits_until_the_capture_has_ended_kills_nobody", || {
        start();
        let capture = fastest();
        block_timers(libc::SIG_BLOCK);
        use_up(50 * MILLISECOND);
        // SAFETY: sends a signal that has a handler, and waits.
        unsafe { libc::raise(libc::SIGPROF) };
        drop(capture);
        block_timers(libc::SIG_UNBLOCK);
    });
}

#[test]
fn time_of_threads_that_block_the_signal_is_unsampled() {
    let _turn = turn();
    let capture = fastest();
    thread::scope(|scope| {
        scope.spawn(|| {
            block_timers(libc::SIG_BLOCK);
            use_up(500 * MILLISECOND);
            let profile = capture.finish();
            let unsampled = cumulative(&profile, "[unsampled]") / MILLISECOND.cast_signed();
            let comment = &profile.comments()[0];
            // It is asked once in 100 ms of its time.
            assert!((390..=600).contains(&unsampled), "{unsampled} of 500 ms; {comment}");
            assert!(comment.ends_with("; 1 threads block the signal"), "{comment}");
        });
    });
}

/// Other profilers do so when they stop.
#[test]
fn a_handler_that_is_taken_away_is_noticed() {
    let set = |handler: libc::sighandler_t| {
        // SAFETY: the handler, if it is one, does what handlers may.
        unsafe { libc::signal(libc::SIGPROF, handler) }
    };
    in_own_process("a_handler_that_is_taken_away_is_noticed", || {
        start();
        drop(fastest());
        for nobody in [libc::SIG_DFL, libc::SIG_IGN] {
            set(nobody);
            let capture = fastest();
            use_up(50 * MILLISECOND);
            is_whole(&finish_unnamed(capture));
        }
        extern "C" fn theirs(_: libc::c_int) {}
        let ours = set(theirs as extern "C" fn(_) as libc::sighandler_t);
        for kind in [Kind::Profile, Kind::Wall] {
            let error = Capture::start(kind).expect_err("it would see nothing").to_string();
            assert!(error.ends_with("replaced the profiler's handler of SIGPROF"), "{error}");
        }
        let all = View::default().threads(ThreadView::All);
        assert!(snapshot_with(Kind::Goroutine, all).is_ok(), "by what is published");
        set(ours);
        drop(fastest());
    });
}

/// Other profilers do so when they start or stop, in the midst of ours.
#[test]
fn a_handler_that_is_taken_away_during_a_capture_is_told_of() {
    extern "C" fn theirs(_: libc::c_int) {
        STRUCK.fetch_add(1, Ordering::Relaxed);
    }
    static STRUCK: AtomicU64 = AtomicU64::new(0);
    let set = |handler: libc::sighandler_t| {
        // SAFETY: the handler, if it is one, does what handlers may.
        unsafe { libc::signal(libc::SIGPROF, handler) }
    };
    let theirs = theirs as extern "C" fn(_) as libc::sighandler_t;
    const TEST: &str = "a_handler_that_is_taken_away_during_a_capture_is_told_of";
    in_own_process(TEST, || {
        start();
        for handler in [libc::SIG_IGN, theirs] {
            let (capture, wall) = (fastest(), Capture::start_with(Kind::Wall, 1000).unwrap());
            use_up(100 * MILLISECOND);
            set(handler);
            use_up(300 * MILLISECOND);
            // Their handler is theirs alone: our timers go, at a tick of the profiler's thread.
            let strikes_on = || {
                let before = STRUCK.load(Ordering::Relaxed);
                use_up(20 * MILLISECOND);
                STRUCK.load(Ordering::Relaxed) != before
            };
            while strikes_on() {}
            let (profile, wall) = (finish_unnamed(capture), finish_unnamed(wall));
            let comment = &profile.comments()[0];
            for comment in [comment, &wall.comments()[0]] {
                assert!(comment.contains("handler of SIGPROF was found replaced"), "{comment}");
            }
            // What the clocks say, to a period.
            let (_, process) = comment.split_once("the process used ").expect(comment);
            let seconds: f64 = process.split(' ').next().unwrap().parse().expect(comment);
            let missed = profile.totals()[1] - (seconds * 1e9) as i64;
            assert!(missed.abs() < MILLISECOND.cast_signed(), "{comment}");
            let unsampled = cumulative(&profile, "[unsampled]");
            assert!(unsampled < profile.totals()[1], "{comment}");
            // One who ignores the signal lost it at the next tick.
            let least = if handler == theirs { 299 * MILLISECOND } else { 0 };
            assert!(unsampled >= least.cast_signed(), "{unsampled}; {comment}");
        }
    });
}

/// A timer of the second must not expire before the first has installed the handler.
#[test]
fn the_first_captures_may_start_at_once() {
    const THREADS: usize = 8;
    in_own_process("the_first_captures_may_start_at_once", || {
        start();
        let together = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    together.wait();
                    let capture = fastest();
                    use_up(20 * MILLISECOND);
                    drop(capture);
                });
            }
        });
    });
}

#[test]
fn threads_that_are_refused_a_timer_are_counted_and_asked_instead() {
    in_own_process("threads_that_are_refused_a_timer_are_counted_and_asked_instead", || {
        start();
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the limits are a live value.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_SIGPENDING, &raw const none) }, 0);
        let capture = Capture::start_with(Kind::Profile, 100).expect("the handler is installed");
        use_up(500 * MILLISECOND);
        let profile = capture.finish();
        // At every tick of the profiler's thread, some 10 ms apart when a processor is free for it.
        let asked = cumulative(&profile, "cpu::use_up") / MILLISECOND.cast_signed();
        assert!((300..=520).contains(&asked), "{asked} of 500 ms");
        let comment = &profile.comments()[0];
        let (before, _) = comment.split_once(" threads without a timer").expect(comment);
        let count = before.rsplit(' ').next().expect("a number").parse::<u64>().expect(comment);
        // The test's, the harness's, the profiler's.
        assert!(count >= 2, "{comment}");
    });
}
