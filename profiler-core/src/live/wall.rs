//! Wall-clock time: where every thread is, whether it runs or waits.
//!
//! **Problem.** To ask each thread at each tick would interrupt what waits, for nothing: a thread
//! that has not run since it was asked is where it was.
//!
//! **Idea.** At each tick the clocks of all threads are read. One whose clock stands still keeps its last
//! stack, without being disturbed; of those that have run, a few are asked. What the tick is worth is the
//! time since the last one, whatever the rate should be, so a late tick loses nothing. Whether a thread
//! runs, or would if a processor were free, says the kernel at the same moment.
//!
//! To go on after an answer costs a thread some microseconds of its clock, which is taken for standing still.
//!
//! Captures share the ticks, at the fastest of their rates, and each has sums of its own. A look at all
//! threads takes a part in [`SHARE`] of a core at the most: with thousands of them ticks come
//! later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::stacks::Place;
use crate::buffer::answer::{Answer, QUESTIONS};
use crate::buffer::archive;
use crate::buffer::living::{Living, living};
use crate::buffer::question::Question;
use crate::buffer::record::{Header, Source};
use crate::merge::{self, Key, Keys, Rows, Stack};
use crate::own_thread;
use crate::per_process::{Numbers, PerProcess};
use crate::sys::sampling::{self, Purpose, Sent};
use crate::sys::{self, Activity, Hearing};

/// So much of a thread's time since its answer is taken for going on where it was: the way back from a
/// signal, a call begun again, and the way to it, some microseconds each.
const STILL: u64 = 20_000;
/// How many threads are asked in a second, and at one tick at the least: where there are so many that ticks
/// come late, all are known soon nevertheless.
const QUESTIONS_A_SECOND: u128 = 800;
const QUESTIONS_A_TICK: usize = 8;
/// Ticks after which a thread that does not answer is looked at: it may not be able to.
const PATIENCE: u32 = 4;
/// A part in so many of a core's time goes into looking at threads.
pub(crate) const SHARE: u32 = 50;
/// Distinct stacks that are kept while captures run; further ones are one, `[overflow]`.
const MAX_STACKS: usize = 16_384;

static WALL: PerProcess<Wall> = PerProcess::new(Wall::default);
static CAPTURES: Numbers = Numbers::new();

#[derive(Default)]
struct Wall {
    captures: FxHashMap<u64, Capturing>,
    /// Whether the thread is there that ticks.
    ticking: bool,
    last_tick: Option<Instant>,
    /// CPU time of the looks that the ticking thread has taken.
    used: Duration,
    threads: FxHashMap<u32, Watched>,
    /// Where questions go on at the next tick.
    next_asked: u32,
    stacks: Stacks,
    /// Why threads may be missing that the system does not list.
    missing: Option<&'static str>,
    /// Whether the system has refused to interrupt a thread.
    is_refused: bool,
}

struct Capturing {
    period: Duration,
    depth: usize,
    looks: u64,
    /// [`Wall::used`] at the beginning.
    used_before: Duration,
    /// By the numbers of stacks.
    sums: Vec<Sums>,
}

/// Ticks and nanoseconds, running and waiting.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    running: [i64; 2],
    waiting: [i64; 2],
}

/// Stacks with their labels, by numbers.
#[derive(Default)]
struct Stacks {
    keys: Vec<Key>,
    numbers: FxHashMap<Key, usize>,
}

struct Watched {
    name: Arc<str>,
    /// The number of the stack where it was seen last; of one made for it, until it is seen first.
    stack: usize,
    is_seen: bool,
    /// Whether it ran at the last tick, or could have.
    runs: bool,
    /// The thread's clock at the last tick, and when it was seen last.
    clock: u64,
    seen_at: u64,
    /// Whether its number has gone to another thread, whose clock says less.
    is_another: bool,
    asked: Option<Question<Answer>>,
    /// Ticks since it was asked.
    ticks: u32,
}

/// A capture that runs; ends when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    number: u64,
    /// What was counted before.
    lost_handler: u64,
}

/// Begins a capture with so many ticks a second, and so many frames a stack. Threads must hear
/// questions.
pub(crate) fn begin(rate: u32, depth: usize) -> Running {
    let mut wall = WALL.lock();
    wall.tick();
    let number = CAPTURES.next();
    let period = Duration::from_secs(1) / rate;
    let capturing = Capturing { period, depth, looks: 0, used_before: wall.used, sums: Vec::new() };
    wall.captures.insert(number, capturing);
    if !wall.ticking {
        // Without the thread all time goes to where threads are at the end: poor, not wrong.
        wall.ticking = own_thread::spawn(c"profiler-wall", STACK, run).is_ok();
    }
    // Only from now on: what was before is none of this capture's.
    wall.last_tick = Some(Instant::now());
    let lost_handler = sampling::lost_handler();
    wall.look(Duration::ZERO);
    Running { number, lost_handler }
}

impl Running {
    /// Returns what was seen since the beginning, ticks and nanoseconds.
    pub(crate) fn seen(&self) -> Seen {
        let mut wall = WALL.lock();
        wall.tick();
        let mut rows = Rows::default();
        let mut used = Duration::ZERO;
        let looks = wall.captures.get(&self.number).map_or(0, |capturing| {
            used = wall.used - capturing.used_before;
            for (key, sums) in wall.stacks.keys.iter().zip(&capturing.sums) {
                for (on_cpu, [ticks, nanoseconds]) in [(true, sums.running), (false, sums.waiting)]
                {
                    let key = Key { on_cpu: Some(on_cpu), ..key.clone() };
                    merge::add(&mut rows, key, [ticks, nanoseconds, 0, 0], None);
                }
            }
            capturing.looks
        });
        Seen {
            rows,
            looks,
            used,
            lost_handler: sampling::lost_handler() - self.lost_handler,
            missing: wall.missing,
            is_refused: wall.is_refused,
        }
    }
}

/// What a capture has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) rows: Rows,
    /// How often all threads were looked at.
    pub(crate) looks: u64,
    /// CPU time of these looks.
    pub(crate) used: Duration,
    /// How often the handler of questions was not found in its place.
    pub(crate) lost_handler: u64,
    /// Why threads may be missing, if the system does not list them.
    pub(crate) missing: Option<&'static str>,
    /// Whether the system has refused to interrupt a thread.
    pub(crate) is_refused: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut wall = WALL.lock();
        wall.captures.remove(&self.number);
        if wall.captures.is_empty() {
            wall.threads = FxHashMap::default();
            wall.stacks = Stacks::default();
            wall.last_tick = None;
        }
    }
}

/// The stack of the thread that ticks, as std gives it.
const STACK: usize = 2 << 20;

/// The thread that ticks, while captures run. It looks at none of ours.
fn run() {
    WALL.lock().leave_out(sys::thread_id());
    // What the last tick took: on the clock, and of this thread's CPU time. Where others run meanwhile
    // the one says nothing of the other.
    let (mut late, mut cost) = (Duration::ZERO, Duration::ZERO);
    loop {
        let period = {
            let mut wall = WALL.lock();
            let period = wall.captures.values().map(|capturing| capturing.period).min();
            wall.ticking = period.is_some();
            period
        };
        let Some(period) = period else { return };
        std::thread::sleep(period.saturating_sub(late).max(cost * SHARE));
        let (begin, used) = (Instant::now(), sampling::own_cpu());
        WALL.lock().tick();
        late = begin.elapsed();
        cost = Duration::from_nanos(sampling::own_cpu().saturating_sub(used));
        WALL.lock().used += cost;
    }
}

impl Wall {
    /// Forgets what was seen of the ticking thread before it had a turn.
    fn leave_out(&mut self, ticker: u32) {
        if let Some(watched) = self.threads.remove(&ticker) {
            for capturing in self.captures.values_mut() {
                if let Some(sums) = capturing.sums.get_mut(watched.stack) {
                    *sums = Sums::default();
                }
            }
        }
    }

    /// Gives the time since the last tick to where threads are, and looks at them anew.
    fn tick(&mut self) {
        let Some(last) = self.last_tick else { return };
        let now = Instant::now();
        self.last_tick = Some(now);
        let time = u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX);
        self.captures.values_mut().for_each(|capturing| capturing.looks += 1);
        for (&thread, watched) in &mut self.threads {
            // Gone since the last look, perhaps: then it has used no more.
            let clock = sampling::thread_cpu(thread).unwrap_or(watched.clock);
            watched.is_another = clock < watched.clock;
            let used = clock.saturating_sub(watched.clock);
            watched.clock = clock;
            watched.ticks += 1;
            watched.take_answer(&mut self.stacks);
            for capturing in self.captures.values_mut() {
                if capturing.sums.len() <= watched.stack {
                    capturing.sums.resize(watched.stack + 1, Sums::default());
                }
                let sums = &mut capturing.sums[watched.stack];
                let sum = if watched.runs { &mut sums.running } else { &mut sums.waiting };
                sum[0] += 1;
                sum[1] += time.cast_signed();
            }
            if watched.runs || used >= STILL {
                let activity = sys::thread_activity(thread);
                watched.runs = activity.is_some_and(|(_, activity)| activity == Activity::Running);
            }
        }
        self.look(now - last);
    }

    /// Looks for threads that have come or gone, and asks some that have run, as many as may be in the
    /// time since the last look.
    fn look(&mut self, time: Duration) {
        let most = usize::try_from(time.as_millis() * QUESTIONS_A_SECOND / 1000);
        let most = most.unwrap_or(usize::MAX).max(QUESTIONS_A_TICK);
        let Living { numbers: threads, missing } = living();
        self.missing = missing;
        self.threads.retain(|thread, watched| {
            let lives = threads.binary_search(thread).is_ok() || sys::is_thread_alive(*thread);
            // One of ours that was seen before it had a turn.
            lives && !watched.is_another && !sys::is_own_thread(*thread)
        });
        for &thread in &threads {
            if !sys::is_own_thread(thread)
                && !self.threads.contains_key(&thread)
                && let Some(watched) = Watched::new(thread, &mut self.stacks)
            {
                self.threads.insert(thread, watched);
            }
        }
        // A question would strike somebody else's handler.
        if sampling::keep_hearing().is_err() {
            return;
        }
        let depth = self.captures.values().map(|capturing| capturing.depth).max().unwrap_or(1);
        // From where the last tick stopped, so that everybody's turn comes.
        let from = threads.partition_point(|&thread| thread < self.next_asked);
        let mut asked = 0;
        for &thread in threads[from..].iter().chain(&threads[..from]) {
            let Some(watched) = self.threads.get_mut(&thread) else { continue };
            let sent = watched.ask(thread, depth, &mut self.stacks);
            self.is_refused |= sent == Some(Sent::Refused);
            if sent == Some(Sent::Yes) {
                asked += 1;
                self.next_asked = thread + 1;
            }
            if asked == most {
                break;
            }
        }
    }
}

impl Watched {
    fn new(thread: u32, stacks: &mut Stacks) -> Option<Self> {
        let (name, activity) = sys::thread_activity(thread)?;
        let name: Arc<str> = name.into();
        let key = marked(activity.marker(), &name);
        let clock = sampling::thread_cpu(thread)?;
        // A number of its own, which the stack gets that is seen first; in a storm of threads none.
        let is_seen = stacks.keys.len() >= 2 * MAX_STACKS;
        let stack = if is_seen { stacks.number(key) } else { stacks.push(key) };
        let runs = activity == Activity::Running;
        Some(Self {
            name,
            stack,
            is_seen,
            runs,
            clock,
            seen_at: 0,
            is_another: false,
            asked: None,
            ticks: 0,
        })
    }

    /// Takes the answer, if it is there.
    fn take_answer(&mut self, stacks: &mut Stacks) {
        let Some(question) = self.asked.take_if(|question| question.is_answered()) else { return };
        let Some(place) = question.read(Place::of).flatten() else { return };
        self.seen_at = place.clock;
        let archive = archive::lock();
        let place = place.still_there(&archive);
        let key = Key { thread: Some(Arc::clone(&self.name)), ..place.key(&mut Keys::default()) };
        if self.is_seen {
            self.stack = stacks.number(key);
        } else {
            // What it has spent until now it has spent there.
            stacks.keys[self.stack] = key;
            self.is_seen = true;
        }
    }

    /// Asks the thread where it is, if it may be elsewhere than when it was seen last.
    fn ask(&mut self, thread: u32, depth: usize, stacks: &mut Stacks) -> Option<Sent> {
        if self.asked.is_some() {
            if self.ticks.is_multiple_of(PATIENCE) {
                // Again, since a signal is dropped that comes while another one is pending.
                let may_hear = matches!(sys::hearing(thread), Hearing::Hears | Hearing::Untold);
                let hears = may_hear && sampling::interrupt(thread, Purpose::Question) == Sent::Yes;
                if !hears && let Some((_, activity)) = sys::thread_activity(thread) {
                    self.stack = stacks.number(marked(activity.marker(), &self.name));
                    self.is_seen = true;
                }
            }
            return None;
        }
        if self.is_seen && self.clock.saturating_sub(self.seen_at) < STILL {
            return None;
        }
        self.ticks = 0;
        self.asked = Some(QUESTIONS.ask(thread, |answer| answer.prepare(depth)));
        Some(sampling::interrupt(thread, Purpose::Question))
    }
}

fn marked(marker: &'static str, name: &Arc<str>) -> Key {
    let key = Keys::default().key(&Header::new(Source::Block), Stack::Marker(marker));
    Key { thread: Some(Arc::clone(name)), ..key }
}

impl Stacks {
    fn number(&mut self, key: Key) -> usize {
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let key = if self.numbers.len() < MAX_STACKS { key } else { Key::of_marker("[overflow]") };
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = self.push(key.clone());
        self.numbers.insert(key, number);
        number
    }

    fn push(&mut self, key: Key) -> usize {
        self.keys.push(key);
        self.keys.len() - 1
    }
}
