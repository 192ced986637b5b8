//! What a thousand threads cost: to have timers, to be shown, to be watched.

#![allow(unsafe_code, reason = "signals are counted and handed on to the profiler's handler")]

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::fs;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use profiler_benches::down;
use profiler_benches::process::{Took, mib, print_head};
use profiler_benches::signals::{Handler, install, profilers};
use profiler_core::{Capture, Config, Kind, snapshot, write_threads};

/// Threads that wake up a hundred times a second while all others sleep.
const AWAKE: usize = 4;
const MANY: usize = 1_000;
const ROUNDS: usize = 11;

thread_local! {
    static IS_IDLE: Cell<bool> = const { Cell::new(false) };
}

static HANDLER: OnceLock<Handler> = OnceLock::new();
/// Signals of threads that are idle, and of others.
static SIGNALS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

extern "C" fn count(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    SIGNALS[usize::from(!IS_IDLE.get())].fetch_add(1, Ordering::Relaxed);
    if let Some(handler) = HANDLER.get() {
        handler(signal, info, context);
    }
}

fn main() {
    profiler_core::start(Config::default()).expect("the first start");
    HANDLER.get_or_init(profilers);
    // For good: who it is for next is what the profiler does.
    install(count);
    (0..AWAKE).for_each(|_| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(10));
                (0..20_000).for_each(|number| {
                    std::hint::black_box(number);
                });
            }
        });
    });
    println!(
        "\n## `wall` at 100 Hz, {AWAKE} threads wake up 100 times a second, all others sleep\n"
    );
    println!(
        "| threads | time | profiler's thread, of a core | signals of an idle thread | signals a second of others |"
    );
    println!("|---|---|---:|---:|---:|");
    sleepers(64 - AWAKE);
    wall(64 - AWAKE);
    sleepers(MANY - 64);
    wall(MANY - AWAKE);

    arm();
    dump();
}

/// Starts threads that sleep at eight stacks.
fn sleepers(count: usize) {
    let ready = std::sync::Arc::new(std::sync::Barrier::new(count + 1));
    for number in 0..count {
        let ready = std::sync::Arc::clone(&ready);
        std::thread::spawn(move || {
            IS_IDLE.set(true);
            down(20, number as u32 % 8, &mut || {
                ready.wait();
                loop {
                    std::thread::park();
                }
            });
        });
    }
    ready.wait();
    std::thread::sleep(Duration::from_millis(300));
}

/// Nanoseconds that the thread that ticks has run.
fn ticking() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let of = |file: &str, thread: &fs::DirEntry| fs::read_to_string(thread.path().join(file));
    let mut ticks = threads
        .filter(|thread| of("comm", thread).is_ok_and(|name| name.trim() == "profiler-wall"));
    let ran = ticks.next().and_then(|thread| of("schedstat", &thread).ok());
    ran.and_then(|ran| ran.split(' ').next()?.parse().ok()).unwrap_or(0.0)
}

fn wall(idle: usize) {
    // Before: threads are asked when a capture starts.
    SIGNALS.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    let capture = Capture::start(Kind::Wall).expect("Linux");
    let mut seconds = 0;
    for (what, until) in [("first 2 s", 2), ("next 5 s", 7)] {
        let before = ticking();
        if seconds > 0 {
            SIGNALS.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        }
        let length = until - seconds;
        std::thread::sleep(Duration::from_secs(length));
        seconds = until;
        let [sleeping, others] = [0, 1].map(|of| SIGNALS[of].load(Ordering::Relaxed) as f64);
        println!(
            "| {} | {what} | {:.2} % | {:.2} | {:.0} |",
            idle + AWAKE,
            (ticking() - before) / 1e7 / length as f64,
            sleeping / idle as f64,
            others / length as f64,
        );
    }
    drop(capture);
}

fn arm() {
    print_head(&format!("CPU time of {MANY} threads: `Capture::start`"));
    let before = mib("VmRSS");
    let (first, capture) = Took::of(|| Capture::start(Kind::Profile));
    first.print("first", "10 ms");
    println!("| resident memory for it, MiB | {:+.1} | | | |", mib("VmRSS") - before);
    let (end, ()) = Took::of(|| drop(capture));
    end.print("its end", "");
    let further: Vec<_> =
        (0..ROUNDS).map(|_| Took::of(|| Capture::start(Kind::Profile)).0).collect();
    Took::median(&further).print("further ones", "10 ms");
}

fn dump() {
    print_head(&format!("{MANY} threads, {} of them parked at eight stacks", MANY - AWAKE));
    let dump = || Took::of(|| write_threads(io::sink()).expect("a sink takes all")).0;
    dump().print("`write_threads`, first", "100 ms");
    Took::median(&(0..ROUNDS).map(|_| dump()).collect::<Vec<_>>()).print("further ones", "100 ms");
    let read = || Took::of(|| snapshot(Kind::Goroutine).expect("Linux")).0;
    read().print("`snapshot(Kind::Goroutine)`, which disturbs nobody, first", "");
    Took::median(&(0..ROUNDS).map(|_| read()).collect::<Vec<_>>()).print("further ones", "");
}
