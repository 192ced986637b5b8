//! Everything at once: captures at 1 kHz, every allocation sampled, readers of all kinds, while threads
//! are born and die, panics unwind, libraries come and go, and children are forked.
//!
//! `PROFILER_SOAK_SECONDS=600` has it run for ten minutes; the default is [`SECONDS`].
//!
//! The work is done in rounds, by steps that each have a thread. Nothing may crash, hang, lose a sample
//! that is not counted, or grow. Memory is read in moments when no round is under way: after the
//! warm-up, in the middle and at the end.

mod steps;

use std::alloc::System;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use profiler_core::{
    Capture, Config, Kind, ProfiledAllocator, Rates, Symbols, memory, release_memory, stats,
};
use profiler_tests::cpu::{finish_unnamed, soak_seconds};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// Of the two halves, after the warm-up, which takes half as long as one of them.
const SECONDS: f64 = 15.0;
/// A round that takes longer hangs: the longest, on a busy machine, take seconds.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two rounds of a step.
const PAUSE: Duration = Duration::from_millis(5);
/// So little that rows are moved and made coarser all the time.
const MEMORY: usize = 2 << 20;
/// To look names up takes minutes where nothing is optimised and every allocation sampled.
const SYMBOLS: Symbols = if cfg!(debug_assertions) { Symbols::None } else { Symbols::Dwarf };
/// By so much the second half may grow: a table that is enlarged at last, and a cache that is full then.
const SLACK: u64 = 4 << 20;
/// The same of what is resident: the C library keeps up to 40 MiB of stacks of threads that are gone, and
/// memory between blocks that live on.
const RESIDENT_SLACK: u64 = 32 << 20;

/// One kind of work.
struct Step {
    name: &'static str,
    round: fn(),
    rounds: AtomicU64,
    /// Milliseconds since the start when the round that is under way began; 0 if none is.
    began: AtomicU64,
}

static STEPS: [Step; steps::ALL.len()] = {
    let mut all = [const { Step::new("", || ()) }; steps::ALL.len()];
    let mut position = 0;
    while position < all.len() {
        (all[position].name, all[position].round) = steps::ALL[position];
        position += 1;
    }
    all
};

/// Held for reading during a round, for writing in a quiet moment.
static GATE: RwLock<()> = RwLock::new(());
static DONE: AtomicBool = AtomicBool::new(false);

fn milliseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).expect("not so long") + 1
}

impl Step {
    const fn new(name: &'static str, round: fn()) -> Self {
        Self { name, round, rounds: AtomicU64::new(0), began: AtomicU64::new(0) }
    }

    fn run(&self, start: Instant) {
        let _ended = EndsAllOnPanic;
        while !DONE.load(Ordering::Relaxed) {
            let gate = GATE.read().unwrap_or_else(PoisonError::into_inner);
            self.began.store(milliseconds(start), Ordering::Relaxed);
            (self.round)();
            self.began.store(0, Ordering::Relaxed);
            self.rounds.fetch_add(1, Ordering::Relaxed);
            drop(gate);
            // So that those are not starved that wait for something.
            thread::sleep(PAUSE);
        }
    }

    /// Waits until so many more rounds are over; whether they ever are is the watchdog's affair.
    fn goes_on(&self, more: u64) {
        let until = self.rounds.load(Ordering::Relaxed) + more;
        while self.rounds.load(Ordering::Relaxed) < until && !DONE.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// So that a failure is not told ten minutes later.
struct EndsAllOnPanic;

impl Drop for EndsAllOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            DONE.store(true, Ordering::Relaxed);
        }
    }
}

/// Ends the process if a round hangs, and says which.
fn watch(start: Instant) {
    while !DONE.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(200));
        for step in &STEPS {
            let began = step.began.load(Ordering::Relaxed);
            let now = milliseconds(start);
            if began > 0 && Duration::from_millis(now.saturating_sub(began)) > PATIENCE {
                // Not by `eprintln!`, which the harness keeps to itself.
                let mut error = std::io::stderr();
                let _ = writeln!(error, "soak: hangs since {PATIENCE:?}: {}", step.name);
                for step in &STEPS {
                    let rounds = step.rounds.load(Ordering::Relaxed);
                    let began = step.began.load(Ordering::Relaxed);
                    let (name, since) = (step.name, format!("in one since {began} of {now} ms"));
                    let _ = writeln!(error, "  {name}: {rounds} rounds, {since}");
                }
                process::abort();
            }
        }
    }
}

#[test]
fn all_of_it_at_once() {
    let config = Config::default().rates(Rates::ALL).memory(MEMORY);
    profiler_core::start(config.symbols(SYMBOLS)).expect("the first start");
    steps::endpoint();
    let start = Instant::now();
    let half = Duration::from_secs_f64(soak_seconds().unwrap_or(SECONDS) / 2.0);
    thread::scope(|scope| {
        for step in &STEPS {
            let builder = thread::Builder::new().name(step.name.chars().take(15).collect());
            builder.spawn_scoped(scope, move || step.run(start)).expect("the system has threads");
        }
        scope.spawn(move || watch(start));
        let _ended = EndsAllOnPanic;
        let warm = after(half / 2);
        let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
        let middle = after(half);
        let end = after(half);
        is_true(capture);
        // None has come to rest.
        STEPS.iter().for_each(|step| step.goes_on(1));
        DONE.store(true, Ordering::Relaxed);
        for step in &STEPS {
            println!("{}: {} rounds", step.name, step.rounds.load(Ordering::Relaxed));
        }
        is_steady([warm, middle, end]);
    });
}

/// What the process holds when no round is under way.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// Anonymous memory: files come and go with the debug information that is read.
    resident: u64,
    /// What Rust has allocated.
    live: u64,
    /// Tables of the profiler, which are not among it.
    tables: u64,
}

/// Lets all go on for so long, and each step at least once; then looks in a quiet moment.
fn after(time: Duration) -> Held {
    let end = Instant::now() + time;
    while Instant::now() < end && !DONE.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(10));
    }
    STEPS.iter().for_each(|step| step.goes_on(1));
    let _quiet = GATE.write().unwrap_or_else(PoisonError::into_inner);
    release_memory();
    let status = fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("since 4.5");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let allocations = memory().allocations.expect("the allocator is the profiler's");
    let stats = stats();
    let held = Held {
        resident: kibibytes << 10,
        live: allocations.live_bytes(),
        tables: stats.bytes as u64,
    };
    println!("{held:?} {stats:?}");
    held
}

/// Stacks that are new get rarer, so what grows with them grows less and less; a leak does not.
#[track_caller]
fn is_steady([warm, middle, end]: [Held; 3]) {
    for (what, slack, of) in [
        ("resident", RESIDENT_SLACK, (|held| held.resident) as fn(&Held) -> u64),
        ("live", SLACK, |held| held.live),
        ("tables", SLACK, |held| held.tables),
    ] {
        let first = of(&middle).saturating_sub(of(&warm));
        let second = of(&end).saturating_sub(of(&middle));
        println!("{what}: {} + {first} + {second} bytes", of(&warm));
        assert!(second <= first / 2 + slack, "{what} grows: {warm:?} {middle:?} {end:?}");
    }
}

/// What was captured is what threads with a timer used, and what was lost is among it, under its name.
#[track_caller]
fn is_true(capture: Capture) {
    let profile = finish_unnamed(capture);
    let comment = &profile.comments()[0];
    println!("{comment}");
    let number = |before: &str| -> f64 {
        let rest = comment.split_once(before).expect(comment).1;
        rest.split(' ').next().and_then(|word| word.parse().ok()).expect(comment)
    };
    let captured = number("captured ");
    let sampled = number("with a timer ");
    assert!(captured > 0.97 * sampled, "{comment}");
    assert!(comment.contains("; 0 threads without a timer"), "{comment}");
}
