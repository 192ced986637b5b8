//! Starting and reading: the only file that knows both capture and profiles.

use std::io::{self, Write};
use std::panic::Location;
use std::time::{Duration, Instant, SystemTime};

use crate::buffer::answer::QUESTIONS;
use crate::buffer::archive;
use crate::buffer::living::living;
use crate::buffer::origin;
use crate::buffer::record::Source;
use crate::capture::{self, alloc, cpu, custom, rates, scope, signal};
use crate::config::{Config, Rates};
use crate::encode::dump;
use crate::error::{StartError, Unavailable};
use crate::first::First;
use crate::kind::Kind;
use crate::live::threads::{self, States};
use crate::memory::memory;
use crate::merge::{self, At, Key, Rows};
use crate::own_thread;
use crate::per_process::PerProcess;
use crate::profile::{self, Mappings, Profile, Reading, Resolver};
use crate::sys::OwnThread;
use crate::view::{LabelView, StackView, ThreadView, View};
use crate::{budget, buffer, clock, stack, sys};

/// Milliseconds between two ticks of the clock of span times at the least; three times as many at
/// the most, ten in the mean.
const TICK: u64 = 5;
/// Ticks after which the profiler's own thread looks for libraries that were loaded or unloaded:
/// about a second.
const REFRESH: u64 = 100;

/// The first start: from where, and with what.
static STARTED: First<Started> = First::new();
static RESOLVER: PerProcess<Resolver> = PerProcess::new(|| Resolver::new(config().symbol_cache));

struct Started {
    caller: &'static Location<'static>,
    config: Config,
}

/// What the profiler says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Whether it was started.
    pub started: bool,
    /// Threads of the process.
    pub threads: usize,
    /// Waits, charges and allocations recorded since the start, as their weights count them: a sampled
    /// one stands for many.
    pub records: u64,
    /// Those of them whose stack is not kept, or not any more: they stand under `[overflow]` and `[lost]`.
    pub lost: u64,
    /// Stacks that ended early because every reader of unwind tables was busy just then.
    pub cut_stacks: u64,
    /// Bytes held by stacks, span paths and label sets, by some 10 KiB for each thread, and by the set of
    /// live samples.
    pub bytes: usize,
    /// What stacks, span paths and label sets may take of them; see [`Config::memory`].
    pub budget: usize,
}

/// Starts the profiler: from now on it records.
///
/// `profiler_http::serve` and `service` do this by themselves, with [`Config::from_env`].
///
/// # Errors
///
/// It was started before; the error names the place of the first start.
///
/// ```
/// use profiler_core::{Config, Rates};
///
/// profiler_core::start(Config::default().rates(Rates::ALL))?;
/// let error = profiler_core::start(Config::default()).expect_err("it runs");
/// assert!(error.to_string().contains("already started at"));
/// # Ok::<(), profiler_core::StartError>(())
/// ```
#[track_caller]
pub fn start(config: Config) -> Result<(), StartError> {
    // Held until all is done, and not to the child of a fork that comes meanwhile: that starts anew.
    static TURN: PerProcess<()> = PerProcess::new(|| ());
    let caller = Location::caller();
    sys::on_fork_child(&FORKED);
    let turn = TURN.lock();
    if let Some(first) = STARTED.get() {
        return Err(StartError::AlreadyStarted { first: first.caller });
    }
    rates::set(config.rates);
    stack::prepare();
    budget::set(config.memory);
    scope::tick();
    capture::switch_on(config.stack_depth);
    alloc::follow_rate();
    // Most often the main thread, whose stack cannot be found in a signal handler.
    capture::thread();
    if config.dump_on_sigquit {
        sys::on_quit();
    }
    STARTED.get_or_make(|| Started { caller, config });
    drop(turn);
    see_to_tending();
    Ok(())
}

/// What the forking thread sees to in the child, where it is alone.
static FORKED: fn() = || {
    buffer::thread::forked();
    QUESTIONS.forked();
    sys::sampling::forked();
};

/// Starts the profiler's own thread, unless this process has it: the child of a fork has not, and gets it when
/// a profile is read there for the first time.
pub fn see_to_tending() {
    static TENDED: PerProcess<bool> = PerProcess::new(|| false);
    if is_started() && !std::mem::replace(&mut *TENDED.lock(), true) {
        // Without this thread times are read from the system's clock and libraries loaded later are
        // found when a profile is read: dearer, not wrong.
        if own_thread::spawn(c"profiler", stack::REFRESH_STACK, tend).is_ok() {
            sys::quit_here();
        }
    }
}

/// The profiler's own thread: about a hundred short wake-ups a second, a part in 2,000 of a core.
fn tend() {
    clock::calibrate();
    let mut random = 1_u64;
    let mut next_emptying = Instant::now();
    for ticks in 0_u64.. {
        // Irregular, so that no periodic program runs in step with it. Full-period generator of
        // Knuth's; its upper half is random enough.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros(TICK * 1000 + (random >> 32) % (TICK * 2000)));
        scope::tick();
        cpu::look_for_threads();
        archive::tick(&mut next_emptying);
        if sys::is_quitting() {
            dump_and_quit();
        }
        if ticks % REFRESH == 0 || stack::is_time_to_look() {
            stack::refresh();
        }
    }
}

/// Writes every thread, and lets SIGQUIT take effect.
fn dump_and_quit() {
    // On a thread of its own: looking up names takes more stack than the profiler's has.
    let dump = || -> io::Result<()> {
        let mut writer = io::BufWriter::new(sys::StandardError);
        // As Go says it, and who.
        writeln!(writer, "SIGQUIT: quit\nprocess {}\n", std::process::id())?;
        write_threads_but(Some(sys::thread_id()), writer)
    };
    // Without memory for a thread there is no dump, but an end; what cannot be written is lost.
    let thread = own_thread::spawn(c"profiler-dump", DUMP_STACK, move || drop(dump()));
    let _ = thread.map(OwnThread::join);
    sys::quit();
}

/// The stack of a thread that looks up names: demangling and debug information may nest deeply, and only what is touched is
/// ever in memory.
const DUMP_STACK: usize = 2 << 20;

fn config() -> Config {
    STARTED.get().map(|started| started.config.clone()).unwrap_or_default()
}

/// Changes what is recorded from now on; what was recorded stays as it is.
pub fn set_rates(rates: Rates) {
    rates::set(rates);
    alloc::follow_rate();
}

/// Returns what is recorded now.
#[must_use]
pub fn rates() -> Rates {
    rates::get()
}

/// Returns the view that the configuration asks for.
#[must_use]
pub fn default_view() -> View {
    config().view
}

/// Returns what the profiler says about itself.
#[must_use]
pub fn stats() -> Stats {
    let held = merge::held();
    Stats {
        started: is_started(),
        threads: threads::count(),
        records: held.records.cast_unsigned(),
        lost: held.lost.cast_unsigned(),
        cut_stacks: stack::cut_walks(),
        bytes: held.bytes + alloc::bytes(),
        budget: budget::get(),
    }
}

/// Returns every profile there is, sorted by name: the built-in ones and the application's own.
///
/// One of the application's own that has the name of a built-in one is not listed.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    let own = custom::names().into_iter().filter(|name| Kind::from_name(name).is_none());
    let mut kinds: Vec<_> = Kind::ALL.iter().copied().chain(own.map(Kind::Custom)).collect();
    kinds.sort_by_key(|kind| kind.name());
    kinds
}

/// Returns how many rows a profile has now; for `goroutine` and `threadcreate` how many threads.
#[must_use]
pub fn count(kind: Kind) -> usize {
    match kind {
        Kind::Goroutine => threads::count(),
        Kind::Threadcreate => {
            let threads = origin::from_known() + origin::from_unknown();
            usize::try_from(threads).unwrap_or(usize::MAX)
        }
        Kind::Custom(_) => {
            let count: i64 = rows(kind).0.values().map(|sums| sums.values[0]).sum();
            usize::try_from(count).unwrap_or(0)
        }
        Kind::Profile | Kind::Wall => 0,
        Kind::Allocs | Kind::Block | Kind::Heap | Kind::Mutex | Kind::Spans => rows(kind).0.len(),
    }
}

/// Reads a profile in the configured view.
///
/// # Errors
///
/// This platform or build cannot give it.
pub fn snapshot(kind: Kind) -> Result<Profile, Unavailable> {
    snapshot_with(kind, default_view())
}

/// Reads a profile.
///
/// A profile before the start is empty. The stack of `spans` is always the path.
///
/// # Errors
///
/// This platform or build cannot give it.
pub fn snapshot_with(kind: Kind, view: View) -> Result<Profile, Unavailable> {
    available(kind)?;
    see_to_tending();
    let period = match kind {
        Kind::Allocs | Kind::Heap => i64::try_from(rates().heap_bytes).unwrap_or(i64::MAX),
        _ => 1,
    };
    // First, so that what the reading allocates is not in it.
    let memory = matches!(kind, Kind::Allocs | Kind::Heap).then(memory);
    let (rows, at, remarks) = match kind {
        Kind::Goroutine => {
            let (asked, refused) = asked(view.threads);
            let (rows, remarks) = threads::rows(asked);
            (rows, At::NEVER, refused.into_iter().chain(remarks).collect())
        }
        Kind::Threadcreate => {
            let missing = living().missing.map(threads::missing_threads);
            let (rows, at) = rows(kind);
            (rows, at, missing.into_iter().collect())
        }
        _ => {
            let (rows, at) = rows(kind);
            (rows, at, Vec::new())
        }
    };
    let profile = build(kind, view, period, SystemTime::now(), &rows);
    Ok(profile.remarked(remarks).with_memory(memory).with_moment(at, view))
}

/// Makes a profile of rows that were read.
pub(crate) fn build(kind: Kind, view: View, period: i64, time: SystemTime, rows: &Rows) -> Profile {
    stack::refresh();
    let view = match sys::supported() {
        Ok(()) if kind != Kind::Spans => view,
        _ => view.stack(StackView::Logical),
    };
    let reading = Reading { kind, view, depth: stack_depth(), period, time };
    let mappings = profile::mappings(RESOLVER.get());
    let profile = profile::build_among(&mappings, reading, rows, RESOLVER.get());
    profile.remarked(no_names(&mappings).into_iter().collect())
}

/// Says why functions have no names, if that is so.
fn no_names(mappings: &Mappings) -> Option<String> {
    let are_refused = sys::supported().is_ok() && mappings.list().is_empty();
    are_refused.then(|| "functions have no names: /proc/self/maps cannot be read".to_owned())
}

/// Returns whether [`start`] was called.
pub(crate) fn is_started() -> bool {
    STARTED.get().is_some()
}

/// Threads are known only where the system tells of them; all else works everywhere, by spans.
fn available(kind: Kind) -> Result<(), Unavailable> {
    match kind {
        Kind::Goroutine | Kind::Threadcreate => {
            sys::supported().map_err(|reason| Unavailable { kind, reason })
        }
        Kind::Allocs | Kind::Heap if !alloc::is_installed() => {
            Err(Unavailable { kind, reason: NO_ALLOCATOR })
        }
        Kind::Profile | Kind::Wall => {
            Err(Unavailable { kind, reason: "it takes time: use profiler_core::Capture" })
        }
        _ => Ok(()),
    }
}

const NO_ALLOCATOR: &str = "\
the program's global allocator is no ProfiledAllocator. Add these lines to the program, with the \
allocator that it has now, if it names one, in the place of std::alloc::System:

#[global_allocator]
static ALLOCATOR: profiler_core::ProfiledAllocator<std::alloc::System> =
    profiler_core::ProfiledAllocator::new(std::alloc::System);";

/// Returns the source of a kind whose rows are kept in tallies, and the name of a custom profile.
const fn source(kind: Kind) -> Option<(Source, Option<&'static str>)> {
    match kind {
        Kind::Allocs | Kind::Heap => Some((Source::Alloc, None)),
        Kind::Block => Some((Source::Block, None)),
        Kind::Mutex => Some((Source::Mutex, None)),
        Kind::Custom(name) => Some((Source::Custom, Some(name))),
        Kind::Threadcreate => Some((Source::Threadcreate, None)),
        Kind::Goroutine | Kind::Profile | Kind::Spans | Kind::Wall => None,
    }
}

fn rows(kind: Kind) -> (Rows, At) {
    match (source(kind), kind) {
        (Some((Source::Alloc, _)), _) => merge::heap(),
        (Some((Source::Threadcreate, _)), _) => merge::threads(),
        (Some((source, custom)), _) => merge::tallies(source, custom),
        (None, Kind::Spans) => (merge::spans(), At::NEVER),
        (None, Kind::Goroutine) => (threads::rows(None).0, At::NEVER),
        (None, _) => (Rows::default(), At::NEVER),
    }
}

impl Profile {
    /// Returns what has come since `earlier`: the difference, sample by sample.
    ///
    /// Both must come from this process: stacks are told by their addresses. Samples with no
    /// difference are left out; negative values stay: of `heap`, what was in use then and is not now.
    ///
    /// # Panics
    ///
    /// If the two are of different kinds.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let moved = match (self.moment(), earlier.moment(), source(self.kind())) {
            (Some((later, view)), Some((earlier, _)), Some((source, custom))) => {
                let rows = earlier.moved_until(later, source, custom);
                (!rows.is_empty())
                    .then(|| build(self.kind(), *view, self.period(), self.time(), &rows))
            }
            _ => None,
        };
        self.difference(earlier, moved.as_ref())
    }
}

/// Returns the mangled name of the function at an address of this process, or nothing.
#[must_use]
pub fn symbol(address: u64) -> Option<String> {
    RESOLVER.lock().symbol_at(address)
}

/// Returns how many frames of a stack are kept.
pub(crate) fn stack_depth() -> usize {
    config().stack_depth
}

/// Returns of how many frames threads are asked for their stacks, nothing to leave them alone; and why they are left
/// alone, if they should be asked.
fn asked(threads: ThreadView) -> (Option<usize>, Option<String>) {
    if threads != ThreadView::All {
        return (None, None);
    }
    match signal::hear() {
        Ok(()) => (Some(stack_depth()), None),
        Err(reason) => (None, Some(format!("no thread was asked for its stack: {reason}"))),
    }
}

/// Threads named in one go: label sets of one profile are bounded.
const DUMP_CHUNK: usize = 100;

/// Writes every thread of the process by itself: what it does or waits for, since when, who holds what it
/// waits for, and its stack now. The form is that of `goroutine?debug=2` in Go, with the kernel's
/// numbers of threads; the calling thread comes first.
///
/// Each thread is interrupted, as with [`ThreadView::All`]. One that has not said where it is has no stack, and the label
/// `no_stack` says why: it blocks the signal, sleeps where none reaches it, or is stopped. Others are waited for, on a busy machine
/// for up to a minute. Lines at the end that begin with `#` say what the system refuses.
///
/// # Errors
///
/// What the writer returns.
pub fn write_threads(writer: impl Write) -> io::Result<()> {
    write_threads_but(None, writer)
}

/// Does what [`write_threads`] does, but leaves a thread out.
fn write_threads_but(but: Option<u32>, mut writer: impl Write) -> io::Result<()> {
    see_to_tending();
    stack::refresh();
    let caller = sys::thread_id();
    let (asked, refused) = asked(ThreadView::All);
    let States { list: mut states, mut remarks } = threads::states(asked);
    remarks.splice(..0, refused);
    states.retain(|state| Some(state.thread) != but);
    states.sort_by_key(|state| (state.thread != caller, state.thread));
    let labels = LabelView { wait: false, ..LabelView::ALL };
    let view = default_view().labels(labels);
    let mappings = profile::mappings(RESOLVER.get());
    for (position, states) in states.chunks(DUMP_CHUNK).enumerate() {
        let mut rows = Rows::default();
        for state in states {
            let thread = Some(state.thread.to_string().into());
            merge::add(&mut rows, Key { thread, ..state.key.clone() }, [1, 0, 0, 0], None);
        }
        let time = SystemTime::now();
        let reading =
            Reading { kind: Kind::Goroutine, view, depth: stack_depth(), period: 1, time };
        let profile = profile::build_among(&mappings, reading, &rows, RESOLVER.get());
        dump::write(&mut writer, states, &profile, position == 0)?;
    }
    remarks.extend(no_names(&mappings));
    dump::write_remarks(&mut writer, &remarks)?;
    writer.flush()
}
