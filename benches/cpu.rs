//! What CPU sampling costs the program: its memory, its signals, and what the handler does in them.

#![allow(unsafe_code, reason = "what a signal says is handed on to the profiler's handler")]

use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use profiler_benches::process::{forget_peak, mib, thread_cpu};
use profiler_benches::signals::{Handler, empty, install, profilers, send};
use profiler_benches::{Case, compare, compare_by_rounds, down};
use profiler_core::{Capture, Config, Kind, release_memory};

const BUSY_THREADS: usize = 8;

fn main() {
    profiler_core::start(Config::default()).expect("the first start");
    // First, while nothing was captured yet.
    memory();
    let handler = profilers();
    let cost = warm(handler);
    share(handler, cost);
    struck(handler);
    slow_down();
}

/// Resident memory before, during and after captures of threads that work at 64 stacks each.
fn memory() {
    static ENDED: AtomicBool = AtomicBool::new(false);
    let together = &Barrier::new(BUSY_THREADS + 1);
    std::thread::scope(|scope| {
        for _ in 0..BUSY_THREADS {
            scope.spawn(move || {
                together.wait();
                for way in (0..64).cycle() {
                    down(30, way, &mut || work(1_000_000.0));
                    if ENDED.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        together.wait();
        std::thread::sleep(Duration::from_millis(500));
        println!("\n## Resident memory, {BUSY_THREADS} busy threads, more than before, MiB\n");
        println!(
            "| capture | armed, after 3 s | peak while written | afterwards | of it not of files | budget |"
        );
        println!("|---|---:|---:|---:|---:|---|");
        let start = (mib("VmRSS"), mib("RssAnon"));
        for (what, rate) in [("first", 100), ("second", 100), ("third, 1000 Hz", 1000)] {
            forget_peak();
            let capture = Capture::start_with(Kind::Profile, rate).expect("Linux");
            std::thread::sleep(Duration::from_secs(3));
            let armed = mib("VmRSS") - start.0;
            let mut bytes = Vec::new();
            capture.finish().write_to(&mut bytes).expect("memory takes all");
            drop(black_box(bytes));
            let [peak, after, anonymous] =
                [mib("VmHWM") - start.0, mib("VmRSS") - start.0, mib("RssAnon") - start.1];
            release_memory();
            let released = mib("VmRSS") - start.0;
            println!(
                "| {what} | {armed:+.2} | {peak:+.2} | {after:+.2} | {anonymous:+.2} | {released:+.2} | +2, then +2 |"
            );
        }
        ENDED.store(true, Ordering::Relaxed);
    });
}

/// Uses so many nanoseconds of CPU time.
fn work(nanoseconds: f64) {
    let end = thread_cpu() + nanoseconds;
    while thread_cpu() < end {
        (0..1000).for_each(|number| {
            black_box(number);
        });
    }
}

/// One signal after another, with all it needs in the caches. Each records a period of CPU time, which the thread uses before.
/// Returns what one costs, in nanoseconds.
fn warm(handler: Handler) -> f64 {
    let case = |name: &str, handler: Handler, levels: u32| {
        Case::timed(name, move |times| {
            let mut nanoseconds = 0.0;
            install(handler);
            down(levels, 0, &mut || {
                for _ in 0..times {
                    work(1e9 / f64::from(Capture::MAX_RATE));
                    let start = thread_cpu();
                    send();
                    nanoseconds += thread_cpu() - start;
                }
            });
            nanoseconds
        })
    };
    // One for all: the first record of each makes a table.
    let capture = Capture::start_with(Kind::Profile, Capture::MAX_RATE).expect("Linux");
    let all = |whose: &str| {
        compare_by_rounds(
            &format!("One signal, that a thread queues for itself: {whose}"),
            &mut [
                case("an empty handler", empty, 30),
                case("ours, 10 frames", handler, 7),
                case("ours, 33 frames", handler, 30).budget("+500 ns"),
                case("ours, 103 frames", handler, 100),
            ],
        )
    };
    let medians = all("the thread that has started the profiler");
    std::thread::scope(|scope| {
        // Its stack is found in the handler.
        scope.spawn(|| all("one that has called nothing of the profiler"));
    });
    drop(capture);
    install(handler);
    medians[2]
}

static STRUCK: AtomicUsize = AtomicUsize::new(0);

/// How many signals a busy thread gets, and what that is of a core.
fn share(handler: Handler, cost: f64) {
    static HANDLER: OnceLock<Handler> = OnceLock::new();
    extern "C" fn count(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        STRUCK.fetch_add(1, Ordering::Relaxed);
        if let Some(handler) = HANDLER.get() {
            handler(signal, info, context);
        }
    }
    HANDLER.get_or_init(|| handler);
    println!("\n## Signals of a busy thread\n");
    println!("| rate | signals a second of its CPU time | × the cost of one, of a core | budget |");
    println!("|---|---:|---:|---|");
    for (rate, budget) in [(100, "0.05 %"), (1000, "")] {
        let capture = Capture::start_with(Kind::Profile, rate).expect("Linux");
        install(count);
        STRUCK.store(0, Ordering::Relaxed);
        down(30, 0, &mut || work(3e9));
        install(handler);
        drop(capture);
        let signals = STRUCK.load(Ordering::Relaxed) as f64 / 3.0;
        println!("| {rate} Hz | {signals:.0} | {:.4} % | {budget} |", signals * cost / 1e7);
    }
}

/// Nanoseconds of each signal in its handler.
static TIMES: [AtomicU32; 256] = [const { AtomicU32::new(0) }; 256];

/// The handler's own time when a real timer strikes: with what the program does in the caches.
fn struck(handler: Handler) {
    static HANDLERS: [OnceLock<Handler>; 2] = [const { OnceLock::new() }; 2];
    static WHICH: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn timed(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let Some(handler) = HANDLERS[WHICH.load(Ordering::Relaxed)].get() else { return };
        let start = Instant::now();
        handler(signal, info, context);
        let time = start.elapsed().as_nanos();
        let number = STRUCK.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = TIMES.get(number) {
            place.store(u32::try_from(time).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }
    let [nothing, ours] = &HANDLERS;
    nothing.get_or_init(|| empty);
    ours.get_or_init(|| handler);
    println!(
        "\n## In the handler, struck by timers at 1000 Hz, 33 frames: median ns (last tenth)\n"
    );
    println!("| the program | an empty handler | ours | difference |\n|---|---:|---:|---:|");
    let mut memory = vec![0_u64; 8 << 20];
    let mut walk = || {
        // A cache line each, at distances that no processor foresees.
        let mut at = 1_usize;
        for _ in 0..10_000 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let place = (at >> 20) % memory.len();
            memory[place] += 1;
        }
    };
    let mut count = || work(100_000.0);
    let programs: [(&str, &mut dyn FnMut()); 2] =
        [("counts", &mut count), ("writes all over 64 MiB", &mut walk)];
    for (name, body) in programs {
        let [nothing, ours] = [0, 1].map(|which| {
            WHICH.store(which, Ordering::Relaxed);
            let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux");
            install(timed);
            STRUCK.store(0, Ordering::Relaxed);
            down(30, 0, &mut || {
                while STRUCK.load(Ordering::Relaxed) < TIMES.len() {
                    body();
                }
            });
            install(handler);
            drop(capture);
            let mut times: Vec<_> =
                TIMES.iter().map(|time| f64::from(time.load(Ordering::Relaxed))).collect();
            times.sort_by(f64::total_cmp);
            [times[TIMES.len() / 2], times[TIMES.len() * 9 / 10]]
        });
        println!(
            "| {name} | {:.0} ({:.0}) | {:.0} ({:.0}) | {:+.0} ({:+.0}) |",
            nothing[0],
            nothing[1],
            ours[0],
            ours[1],
            ours[0] - nothing[0],
            ours[1] - nothing[1],
        );
    }
}

/// The same work with and without captures.
fn slow_down() {
    let case = |name: &str, rate: Option<u32>| {
        Case::timed(name, move |times| {
            let capture = rate.map(|rate| Capture::start_with(Kind::Profile, rate).expect("Linux"));
            let mut nanoseconds = 0.0;
            down(30, 0, &mut || {
                let start = thread_cpu();
                for _ in 0..times {
                    // Long, so that there are signals in each round.
                    (0..200_000_000_u64).for_each(|number| {
                        black_box(number.wrapping_mul(number));
                    });
                }
                nanoseconds = thread_cpu() - start;
            });
            drop(capture);
            nanoseconds
        })
    };
    compare(
        "A busy thread",
        &mut [case("no capture", None), case("100 Hz", Some(100)), case("1000 Hz", Some(1000))],
    );
}
