//! Whatever is sampled, asked or dumped meanwhile, a program ends as it does without the profiler: in every
//! order in which std, the C library and threads take themselves apart.
//!
//! Each way to end is a program of its own: this file's binary, told by a variable to play it. The harness
//! would run it on another thread than the main one.

#![allow(unsafe_code, reason = "what runs at the end is registered with the C library")]

use std::env;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use profiler_core::{Capture, Config, Kind, Symbols, ThreadView, View, snapshot_with};
use profiler_tests::cpu::soak_seconds;

const PLAY: &str = "ENDINGS_PLAY";
/// Each ends so often: what is lost once in a while is looked for with `PROFILER_SOAK_SECONDS`.
const ROUNDS: usize = 20;
/// How long the last handler takes that the C library calls: some ticks of any kernel.
const SLOW: Duration = Duration::from_millis(50);

/// Every way to end: its name, what it does, and whether it ends so.
const WAYS: &[(&str, fn(), Expected)] = &[
    ("another thread exits", another_thread_exits, is_success),
    ("another thread exits during a capture of wall-clock time", exits_in_wall, is_success),
    ("another thread exits while threads are dumped", exits_in_dumps, is_success),
    ("another thread exits, and SIGQUIT comes", exits_in_sigquit, is_success),
    ("main returns while threads compute", main_returns, is_success),
    ("main returns while threads are dumped", main_returns_in_dumps, is_success),
    ("main ends before the others, one of which exits", main_ends_first, is_success),
    ("another thread ends the process at once", ends_at_once, is_success),
    ("the process aborts", aborts, is_abort),
    ("short threads come and go until the end", short_threads, is_success),
    ("the main thread's stack overflows, as std says", overflows, is_abort),
];
type Expected = fn(ExitStatus) -> bool;

fn is_success(status: ExitStatus) -> bool {
    status.success()
}

fn is_abort(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGABRT)
}

fn main() {
    if let Ok(name) = env::var(PLAY) {
        let way = WAYS.iter().find(|(known, ..)| *known == name);
        return way.expect("a way to end").1();
    }
    let program = env::current_exe().expect("the path of this binary");
    let mut harmed = Vec::new();
    for (name, _, is_expected) in WAYS {
        let begin = Instant::now();
        let goes_on = |round| match soak_seconds() {
            Some(seconds) => begin.elapsed().as_secs_f64() < seconds,
            None => round < ROUNDS,
        };
        let ends = || {
            let mut child = Command::new(&program);
            child.env(PLAY, name).stdout(Stdio::null()).stderr(Stdio::piped());
            child.output().expect("it runs")
        };
        let (mut rounds, mut failed) = (0, Vec::new());
        while goes_on(rounds) {
            rounds += 1;
            let output = ends();
            if !is_expected(output.status) {
                failed.push((output.status, String::from_utf8_lossy(&output.stderr).into_owned()));
            }
        }
        println!("{name}: {rounds} rounds");
        if let Some(first) = failed.first() {
            harmed.push(format!("{name}: {} of {rounds}, first {first:?}", failed.len()));
        }
    }
    assert!(harmed.is_empty(), "{harmed:#?}");
}

/// The profiler, and a handler at the end that takes its time.
fn start() {
    extern "C" fn slow() {
        thread::sleep(SLOW);
    }
    // SAFETY: the handler is a function of this program.
    assert_eq!(unsafe { libc::atexit(slow) }, 0);
    profiler_core::start(Config::default().dump_on_sigquit(true)).expect("the first start");
}

/// A capture that nobody ends.
fn capture(kind: Kind) {
    let capture = Capture::start_with(kind, Capture::MAX_RATE).expect("Linux has timers");
    std::mem::forget(capture);
}

fn compute() -> ! {
    loop {
        black_box(0);
    }
}

fn computes_for(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        black_box(0);
    }
}

/// Starts a thread that ends the process soon, by that.
fn soon(end: impl FnOnce() + Send + 'static) {
    thread::spawn(|| {
        thread::sleep(Duration::from_millis(5));
        end();
    });
}

fn another_thread_exits() {
    start();
    capture(Kind::Profile);
    soon(|| process::exit(0));
    compute();
}

fn exits_in_wall() {
    start();
    capture(Kind::Wall);
    soon(|| process::exit(0));
    compute();
}

/// Starts a thread that asks all others where they are, again and again.
fn dump() {
    thread::spawn(|| {
        loop {
            // Without names, whose look-up takes longer than the end.
            let view = View::default().symbols(Symbols::None).threads(ThreadView::All);
            snapshot_with(Kind::Goroutine, view).expect("Linux has threads");
        }
    });
}

fn exits_in_dumps() {
    start();
    dump();
    soon(|| process::exit(0));
    compute();
}

fn exits_in_sigquit() {
    static ENDS: AtomicBool = AtomicBool::new(false);
    extern "C" fn own(_: libc::c_int) {}
    extern "C" fn ends() {
        ENDS.store(true, Ordering::Relaxed);
    }
    // With a handler of its own the program lives on.
    // SAFETY: the handler does nothing.
    unsafe { libc::signal(libc::SIGQUIT, own as extern "C" fn(_) as libc::sighandler_t) };
    start();
    // SAFETY: the handler is a function of this program.
    assert_eq!(unsafe { libc::atexit(ends) }, 0);
    thread::spawn(|| {
        while !ENDS.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        for _ in 0..5 {
            let own = process::id().cast_signed();
            // SAFETY: a signal that has a handler.
            unsafe { libc::kill(own, libc::SIGQUIT) };
            thread::sleep(SLOW / 10);
        }
    });
    soon(|| process::exit(0));
    compute();
}

fn main_returns() {
    start();
    capture(Kind::Profile);
    for _ in 0..2 {
        thread::spawn(|| compute());
    }
    computes_for(Duration::from_millis(5));
}

fn main_returns_in_dumps() {
    start();
    dump();
    for _ in 0..2 {
        thread::spawn(|| compute());
    }
    computes_for(Duration::from_millis(5));
}

fn main_ends_first() {
    start();
    capture(Kind::Profile);
    capture(Kind::Wall);
    dump();
    soon(|| process::exit(0));
    // As a thread that the C library has no part in: its own way would unwind through std's frames.
    // SAFETY: ends this thread alone, and nothing of this frame is used by others.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

fn ends_at_once() {
    start();
    capture(Kind::Profile);
    // SAFETY: ends the process.
    soon(|| unsafe { libc::_exit(0) });
    compute();
}

fn aborts() {
    start();
    capture(Kind::Profile);
    soon(|| process::abort());
    compute();
}

fn short_threads() {
    start();
    capture(Kind::Profile);
    capture(Kind::Wall);
    soon(|| process::exit(0));
    loop {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| computes_for(Duration::from_micros(100)));
            }
        });
    }
}

fn overflows() {
    fn deeper(depth: u64) -> u64 {
        let space = black_box([depth; 100]);
        if depth == u64::MAX { 0 } else { deeper(depth + 1) + space[0] }
    }
    start();
    capture(Kind::Profile);
    black_box(deeper(0));
}
