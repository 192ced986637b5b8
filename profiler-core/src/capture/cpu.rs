//! CPU time: a timer on each thread's own clock, whose signal records where the thread is.
//!
//! **Problem.** A process-wide timer (`ITIMER_PROF`) signals whichever thread the kernel picks, keeps
//! one signal pending, and so loses most of a fast rate and shares time out wrongly.
//!
//! **Idea.** Each thread has a POSIX timer on its CPU clock that signals it alone. The kernel looks at
//! the timers at its own tick only, 250 times a second on most machines, so a sample weighs what the
//! thread's clock says has passed since the one before: nothing is lost at any rate. The first
//! period begins at random: the expected number of samples in any stretch of time is
//! then its length over the period, however short the stretch is.
//!
//! Where more threads want to run than there are processors, a thread may be between two turns at each tick, and use
//! a tenth of a second before it is struck: then the profiler's thread interrupts it. So it does
//! where the system refuses a timer (`RLIMIT_SIGPENDING`).
//!
//! The sums only grow while any capture runs; a capture is the difference between its end and its
//! beginning, so captures that overlap do not touch each other. Timers run at the fastest of the rates.
//!
//! Those of `profiler_core::thread` have their timer from their start. Others are found by looking through
//! `/proc/self/task` about every 10 ms, less often where there are so many threads that looking takes
//! more than a part in [`SHARE`] of a core.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::buffer::archive;
use crate::buffer::living::{Living, living};
use crate::buffer::names::Names;
use crate::buffer::thread;
use crate::capture;
use crate::per_process::{Numbers, PerProcess};
use crate::sys;
use crate::sys::sampling::{self, Sent};
use sampled::Sampled;

mod sampled;

/// The most expiries a second of CPU time.
pub(crate) const FASTEST: u32 = 10_000;
/// A part in so many of a core's time goes into looking for threads at the most.
const SHARE: u32 = 100;

/// Whether a capture runs: what `look_for_threads` reads before it takes the lock.
static RUNNING: AtomicBool = AtomicBool::new(false);
/// Threads that have started and could not see to their timers themselves; 0 for none. Where there is no room
/// for one, it is found like those of others.
static NEWBORN: [AtomicU32; 32] = [const { AtomicU32::new(0) }; 32];
static TIMERS: PerProcess<Timers> = PerProcess::new(Timers::default);
static CAPTURES: Numbers = Numbers::new();

#[derive(Default)]
struct Timers {
    /// Periods of the captures that run, in nanoseconds, by their numbers.
    captures: HashMap<u64, u64>,
    /// The shortest of them; 0 if no capture runs.
    period: u64,
    /// Whether the signal had our handler at the last look.
    is_heard: bool,
    /// Why threads may be missing that the system does not list.
    missing: Option<&'static str>,
    /// Whether the system has refused to interrupt a thread.
    refused_signals: bool,
    threads: HashMap<u32, Sampled>,
    /// CPU time of all threads while they had a timer and heard its signal, without the ends of those that are
    /// gone.
    sampled: u64,
    /// Threads that the system had refused a timer and that are gone.
    refused: u64,
    /// When to look for new threads again, and when to ask for time.
    next_look: Option<Instant>,
    next_asking: Option<Instant>,
    /// Names of threads, each kept until no record carries it: with the last capture they end.
    names: Names,
    random: u64,
}

/// A capture that runs; ends when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    number: u64,
    before: Truth,
}

/// What the clocks say, in nanoseconds of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truth {
    /// What the process used.
    pub(crate) process: u64,
    /// What threads used while they had a timer and heard its signal, without the ends of those that are gone.
    pub(crate) sampled: u64,
    /// How many threads the system refused a timer.
    pub(crate) refused: u64,
    /// How many threads block the signal now.
    pub(crate) deaf: u64,
    /// How often the signal's handler was not found in its place.
    pub(crate) lost_handler: u64,
    /// Why threads may be missing, if the system does not list them.
    pub(crate) missing: Option<&'static str>,
    /// Why threads without a timer are not sampled either, if so.
    pub(crate) refused_signals: bool,
}

/// Begins a capture with so many samples a second of CPU time. Threads must hear the signal.
pub(crate) fn begin(rate: u32) -> Running {
    with_timers(|timers| {
        let number = CAPTURES.next();
        timers.captures.insert(number, 1_000_000_000 / u64::from(rate.clamp(1, FASTEST)));
        timers.follow();
        // Relaxed: whoever reads it takes the lock next.
        RUNNING.store(true, Ordering::Relaxed);
        // Those that are refused one from the beginning are counted too.
        Running { number, before: Truth { refused: timers.refused, ..timers.truth() } }
    })
}

impl Running {
    /// Returns what the clocks say of the time since the beginning.
    pub(crate) fn truth(&self) -> Truth {
        let now = with_timers(|timers| {
            timers.look();
            timers.truth()
        });
        Truth {
            process: now.process.saturating_sub(self.before.process),
            sampled: now.sampled.saturating_sub(self.before.sampled),
            refused: now.refused.saturating_sub(self.before.refused),
            deaf: now.deaf,
            lost_handler: now.lost_handler - self.before.lost_handler,
            ..now
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        with_timers(|timers| {
            timers.captures.remove(&self.number);
            timers.follow();
        });
    }
}

/// Gives timers to threads that have come while a capture runs; called at every tick.
pub(crate) fn look_for_threads() {
    // Relaxed: see `begin`.
    if RUNNING.load(Ordering::Relaxed) {
        with_timers(|timers| {
            if !timers.are_heard() {
                return;
            }
            timers.ask_for_time();
            if timers.next_look.is_some_and(|next| Instant::now() >= next) {
                timers.look();
            }
        });
    }
}

/// Gives the calling thread a timer if a capture runs; called at its start. Waits for nobody: whoever holds
/// the lock looks for threads, perhaps a thousand.
pub(crate) fn thread_starts() {
    // Relaxed: see `begin`.
    if RUNNING.load(Ordering::Relaxed) {
        let thread = sys::thread_id();
        let see_to_it = || TIMERS.get().try_lock().map(|mut timers| timers.add(thread));
        // SeqCst: either whoever has the lock sees the number when he has given it back, or the lock is free.
        let put = |place: &AtomicU32| {
            place.compare_exchange(0, thread, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        if see_to_it().is_err() && NEWBORN.iter().any(put) {
            let _ = see_to_it();
        }
    }
}

/// Takes the lock, and sees afterwards to threads that started meanwhile.
fn with_timers<R>(body: impl FnOnce(&mut Timers) -> R) -> R {
    let mut timers = TIMERS.lock();
    let result = body(&mut timers);
    loop {
        drop(timers);
        // SeqCst: see `thread_starts`.
        if NEWBORN.iter().all(|thread| thread.load(Ordering::SeqCst) == 0) {
            return result;
        }
        let Ok(again) = TIMERS.get().try_lock() else { return result };
        timers = again;
        for thread in &NEWBORN {
            let thread = thread.swap(0, Ordering::SeqCst);
            if thread != 0 {
                timers.add(thread);
            }
        }
    }
}

impl Timers {
    fn truth(&self) -> Truth {
        let refused = self.threads.values().filter(|thread| thread.is_refused()).count() as u64;
        Truth {
            process: sampling::process_cpu(),
            sampled: self.sampled,
            refused: self.refused + refused,
            deaf: self.threads.values().filter(|thread| thread.is_deaf).count() as u64,
            lost_handler: sampling::lost_handler(),
            missing: self.missing,
            refused_signals: self.refused_signals,
        }
    }

    /// Starts, stops or changes the timers as the captures demand.
    fn follow(&mut self) {
        let period = self.captures.values().copied().min().unwrap_or(0);
        if period != self.period {
            self.read_clocks();
            self.threads.clear();
            self.period = period;
        }
        if period == 0 {
            self.next_look = None;
            // Relaxed: see `begin`.
            RUNNING.store(false, Ordering::Relaxed);
            archive::lock().end_cpu_time(&mut self.names);
        } else {
            self.look();
            // The first look of a capture costs several times what others do, and threads that come
            // right after must not wait for a tenth of a second because of it.
            self.next_look = Some(Instant::now());
        }
    }

    /// Returns whether the signal has our handler. As long as it has somebody else's, no thread has a timer: he would
    /// be struck by it.
    fn are_heard(&mut self) -> bool {
        let is_heard = sampling::keep_hearing().is_ok();
        if !is_heard {
            self.threads.clear();
        }
        self.is_heard = is_heard;
        is_heard
    }

    /// Reads the clocks of the threads that have timers, and gives timers to those that have none.
    fn look(&mut self) {
        if !self.are_heard() {
            return;
        }
        let cpu = sampling::own_cpu;
        let begin = cpu();
        let Living { numbers: threads, missing } = living();
        self.missing = missing;
        thread::prepare_for_signals(&threads, capture::depth());
        self.read_clocks();
        self.threads.retain(|thread, sampled| {
            // Numbers come round again, timers do not.
            let lives = sampled.is_living(*thread);
            if !lives && sampled.is_refused() {
                self.refused += 1;
            } else if !lives {
                self.sampled -= sampled.end();
            }
            lives
        });
        self.tell_names();
        for thread in threads {
            self.add(thread);
        }
        let cost = Duration::from_nanos(cpu().saturating_sub(begin));
        self.next_look = Some(Instant::now() + cost * SHARE);
    }

    /// Gives a thread a timer, unless it has one.
    fn add(&mut self, thread: u32) {
        let is_known = self.threads.contains_key(&thread);
        if self.period == 0 || !self.is_heard || is_known || sys::is_own_thread(thread) {
            return;
        }
        let Some(began) = sampling::thread_cpu(thread) else { return };
        let first = self.random() % self.period;
        let Some(sampled) = Sampled::begin(thread, began, first, self.period) else { return };
        self.threads.insert(thread, sampled);
    }

    /// Asks threads for their time that their timers do not, or too late.
    fn ask_for_time(&mut self) {
        if self.next_asking.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let begin = sampling::own_cpu();
        let late = self.period + sampling::tick() * 3 / 2;
        for (&thread, sampled) in &mut self.threads {
            let sent = sampled.ask(thread, self.period, late);
            self.refused_signals |= sent == Some(Sent::Refused);
        }
        let cost = Duration::from_nanos(sampling::own_cpu().saturating_sub(begin));
        self.next_asking = Some(Instant::now() + cost * SHARE);
    }

    /// Tells threads their names, for their records.
    fn tell_names(&mut self) {
        let unnamed: Vec<u32> = self
            .threads
            .iter()
            .filter_map(|(thread, sampled)| sampled.may_have_another_name().then_some(*thread))
            .collect();
        for thread in unnamed {
            let name = sys::thread_name(thread).map(|name| self.names.keep(&name));
            if let Some(sampled) = self.threads.get_mut(&thread) {
                sampled.set_name(name);
            }
        }
        for block in thread::all() {
            if let Some(sampled) = self.threads.get(&block.owner_id())
                && block.name() != sampled.name.copied()
            {
                block.set_name(sampled.name);
            }
        }
    }

    fn read_clocks(&mut self) {
        for (&thread, sampled) in &mut self.threads {
            if let Some(now) = sampling::thread_cpu(thread) {
                self.sampled = self.sampled.wrapping_add_signed(sampled.read_clock(thread, now));
            }
        }
    }

    /// Full-period generator of Knuth's; its upper half is random enough.
    fn random(&mut self) -> u64 {
        const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
        const INCREMENT: u64 = 1_442_695_040_888_963_407;
        if self.random == 0 {
            self.random = crate::clock::now();
        }
        self.random = self.random.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        self.random >> 16
    }
}
