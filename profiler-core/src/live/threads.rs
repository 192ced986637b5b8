//! Every thread of the process: what it does or waits for, and who holds that.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::patience::Silence;
use super::stacks;
use crate::buffer::archive;
use crate::buffer::living::living;
use crate::buffer::record::{Header, Source, Waiting};
use crate::buffer::row::Row;
use crate::buffer::thread::{self, Thread};
use crate::buffer::wait::Wait;
use crate::clock;
use crate::merge::{self, Key, Keys, Rows, Stack};
use crate::sys::{self, Activity};

/// One thread at the moment of reading.
#[derive(Debug)]
pub(crate) struct State {
    /// The kernel's number.
    pub(crate) thread: u32,
    pub(crate) name: String,
    pub(crate) activity: Activity,
    pub(crate) key: Key,
    pub(crate) wait: Option<WaitState>,
    /// Why it has not said where it is, if it was asked.
    pub(crate) silence: Option<Silence>,
}

/// All threads, as far as they are known.
#[derive(Debug)]
pub(crate) struct States {
    pub(crate) list: Vec<State>,
    /// What there is to say about what they lack, a sentence each.
    pub(crate) remarks: Vec<String>,
}

/// What a thread waits for.
#[derive(Debug)]
pub(crate) struct WaitState {
    pub(crate) waiting: Waiting,
    /// Nanoseconds until now.
    pub(crate) length: u64,
    /// Who holds it; nothing where nobody can be named.
    pub(crate) holder: Option<String>,
}

impl Activity {
    /// Returns what stands for the stack of a thread whose stack is not known; within the brackets it is
    /// Go's word, where Go has one.
    pub(crate) const fn marker(self) -> &'static str {
        match self {
            Self::Running => "[running]",
            Self::Futex => "[semacquire]",
            Self::Sleep => "[sleep]",
            Self::Io => "[IO wait]",
            Self::SystemCall => "[syscall]",
            Self::Uninterruptible => "[uninterruptible]",
            Self::Stopped => "[stopped]",
            Self::Unknown => "[unknown]",
        }
    }
}

/// Returns the state of every thread of the process but the profiler's. Each is asked for so many frames of its stack, unless
/// that is nothing: then the stacks are those that threads have published, and nobody is disturbed.
pub(crate) fn states(asked: Option<usize>) -> States {
    // First: who is asked runs for a moment.
    // Twice: what one list lacks because a thread ended meanwhile stands in the other.
    let lists = [living(), living()];
    let missing = lists.iter().find_map(|living| living.missing);
    let numbers: BTreeSet<_> = lists.into_iter().flat_map(|living| living.numbers).collect();
    let threads: Vec<_> = numbers
        .into_iter()
        .filter(|thread| !sys::is_own_thread(*thread))
        .filter_map(|thread| Some((thread, sys::thread_activity(thread)?)))
        .collect();
    let all = threads.iter().map(|(thread, _)| *thread);
    let mut places = asked.map(|depth| stacks::ask(all, depth)).unwrap_or_default();
    let archive = archive::lock();
    // A number may come round again while the block of a thread that is gone still has it.
    let mut blocks: FxHashMap<u32, &Thread> = FxHashMap::default();
    for block in thread::all() {
        let known = blocks.entry(block.owner_id()).or_insert(block);
        if block.number() > known.number() {
            *known = block;
        }
    }
    let mut keys = Keys::default();
    let state = |(thread, (mut name, activity)): (u32, (String, Activity))| {
        let block = blocks.get(&thread).copied();
        if name.is_empty() {
            // The kernel's files are not to be seen.
            name.push_str(block.and_then(Thread::name).unwrap_or_default());
        }
        let said = places.remove(&thread).transpose();
        let silence = said.as_ref().err().copied();
        let place = said.ok().flatten().map(|place| place.still_there(&archive));
        let (key, wait) = match place {
            Some(place) => {
                let wait = place.wait;
                let lock = wait.and_then(|wait| wait.row).filter(is_of_lock);
                let key = match lock {
                    Some(row) => keys.of_row(&row.header(), row),
                    None => place.key(&mut keys),
                };
                (key, wait)
            }
            None => published(block, activity, &mut keys),
        };
        let wait = wait.and_then(|wait| WaitState::new(block?, wait));
        State { thread, name, activity, key, wait, silence }
    };
    let list: Vec<_> = threads.into_iter().map(state).collect();
    let remarks = remarks(&list, missing);
    States { list, remarks }
}

/// Says which threads may be missing, and of which there is no stack.
fn remarks(list: &[State], missing: Option<&'static str>) -> Vec<String> {
    let mut silences: BTreeMap<Silence, usize> = BTreeMap::new();
    for silence in list.iter().filter_map(|state| state.silence) {
        *silences.entry(silence).or_default() += 1;
    }
    let silences = silences.into_iter().map(|(silence, threads)| {
        format!("{threads} threads have no stack: each {}", silence.reason())
    });
    missing.map(missing_threads).into_iter().chain(silences).collect()
}

/// Whether a wait is for a lock: then its own stack says where, and what the lock calls to wait does not
/// stand before it.
fn is_of_lock(row: &Row) -> bool {
    !matches!(row.header().waiting, Waiting::Named | Waiting::No)
}

/// Returns the number of living threads.
pub(crate) fn count() -> usize {
    living().numbers.len()
}

/// Returns the rows of the goroutine profile, one for each stack and labels, and what there is to say about them.
pub(crate) fn rows(asked: Option<usize>) -> (Rows, Vec<String>) {
    let mut rows = Rows::default();
    let States { list, remarks } = states(asked);
    for state in list {
        let key = Key { thread: Some(state.name.into()), ..state.key };
        merge::add(&mut rows, key, [1, 0, 0, 0], None);
    }
    (rows, remarks)
}

/// Says what it means that the system does not list threads, for that reason.
pub(crate) fn missing_threads(reason: &'static str) -> String {
    format!(
        "{reason}: only those are known that profiler_core::thread has started or that have recorded something"
    )
}

/// Returns what a thread shows of itself.
fn published(
    block: Option<&'static Thread>,
    activity: Activity,
    keys: &mut Keys,
) -> (Key, Option<Wait>) {
    let wait = block.and_then(Thread::wait);
    let key = match wait.and_then(|wait| wait.row) {
        Some(row) => keys.of_row(&row.header(), row),
        None => {
            let node = block.and_then(Thread::shown_node);
            let labels = block.and_then(Thread::labels);
            let header = Header { node, labels, ..Header::new(Source::Block) };
            keys.key(&header, Stack::Marker(activity.marker()))
        }
    };
    (key, wait)
}

impl WaitState {
    fn new(thread: &'static Thread, wait: Wait) -> Option<Self> {
        let waiting = wait.row?.header().waiting;
        let length = clock::now().saturating_sub(wait.since);
        Some(Self { waiting, length, holder: holder(thread, waiting) })
    }
}

/// Says who holds the lock that a thread waits for.
fn holder(thread: &'static Thread, waiting: Waiting) -> Option<String> {
    if !matches!(waiting, Waiting::Mutex | Waiting::Read | Waiting::Write) {
        return None;
    }
    let holder = thread.holder()?;
    let who = holder.thread.map(|thread| {
        let name = sys::thread_name(thread.owner_id()).unwrap_or_default();
        format!("thread {} {name}", thread.owner_id()).trim_end().to_owned()
    });
    match (who, holder.site) {
        (Some(who), Some(site)) => Some(format!("{who}, acquired at {site}")),
        (None, Some(site)) => {
            Some(format!("a thread that the profiler does not know, acquired at {site}"))
        }
        (_, None) if waiting == Waiting::Write => Some("readers".to_owned()),
        (_, None) => None,
    }
}
