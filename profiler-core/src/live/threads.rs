//! Every thread that the profiler knows: what it does or waits for, and who holds that.

use crate::buffer::record::{Header, Source, Waiting};
use crate::buffer::thread::{self, Thread};
use crate::buffer::wait::Wait;
use crate::merge::{self, Key, Keys, Rows, Stack};
use crate::{clock, sys};

/// What stands for the stack of a thread that runs or is in a system call: its native stack is not
/// known from here.
const RUNNING: &str = "[running]";

/// One thread at the moment of reading.
#[derive(Debug)]
pub(crate) struct State {
    /// The number given at joining, from 1.
    pub(crate) number: u64,
    pub(crate) name: Option<String>,
    pub(crate) key: Key,
    pub(crate) wait: Option<WaitState>,
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

/// Returns the state of every living thread, in the order of joining.
pub(crate) fn states() -> Vec<State> {
    let mut keys = Keys::default();
    let mut states: Vec<_> = alive().map(|thread| state(thread, &mut keys)).collect();
    states.sort_by_key(|state| state.number);
    states
}

/// Returns the number of living threads.
pub(crate) fn count() -> usize {
    alive().count()
}

/// Returns the rows of the goroutine profile: one for each stack and labels.
pub(crate) fn rows() -> Rows {
    let mut rows = Rows::default();
    for state in states() {
        let key = Key { thread: state.name.map(Into::into), ..state.key };
        merge::add(&mut rows, key, [1, 0, 0, 0], None);
    }
    rows
}

fn alive() -> impl Iterator<Item = &'static Thread> {
    thread::all().filter(|thread| sys::is_thread_alive(thread.owner_id()))
}

fn state(thread: &'static Thread, keys: &mut Keys) -> State {
    let wait = thread.wait();
    let row = wait.and_then(|wait| wait.row);
    let key = match row {
        Some(row) => keys.of_row(&row.header(), row),
        None => {
            let node = Some(thread.node()).filter(|node| node.site().is_some());
            let labels = thread.labels();
            let header = Header { node, labels, ..Header::new(Source::Block) };
            keys.key(&header, Stack::Marker(RUNNING))
        }
    };
    let waiting = |wait: Wait| {
        let header = wait.row?.header();
        let length = clock::now().saturating_sub(wait.since);
        Some(WaitState { waiting: header.waiting, length, holder: holder(thread, header.waiting) })
    };
    let name = sys::thread_name(thread.owner_id());
    State { number: thread.number(), name, key, wait: wait.and_then(waiting) }
}

/// Says who holds the lock that a thread waits for.
fn holder(thread: &'static Thread, waiting: Waiting) -> Option<String> {
    if !matches!(waiting, Waiting::Mutex | Waiting::Read | Waiting::Write) {
        return None;
    }
    let holder = thread.holder()?;
    let who = holder.thread.map(|thread| {
        let name = sys::thread_name(thread.owner_id()).unwrap_or_default();
        format!("thread {} {name}", thread.number()).trim_end().to_owned()
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
