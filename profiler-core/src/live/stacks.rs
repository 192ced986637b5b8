//! The machine stacks of threads, as they are now: each is interrupted and says where it is.
//!
//! This disturbs: some blocking calls return `EINTR` when a signal is handled, whatever flags its
//! handler has. So it is done where a person asks for it, never for a scraper.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::buffer::answer::{Answer, QUESTIONS};
use crate::buffer::question::Question;
use crate::buffer::record::{Header, Source};
use crate::buffer::tree::Node;
use crate::buffer::wait::Wait;
use crate::labels::Set;
use crate::merge::{Key, Keys, Stack};
use crate::sys::{self, sampling};

/// How long a thread may take that could answer, which it does as soon as it gets a processor.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest pause between two looks at what was answered.
const PAUSE: Duration = Duration::from_millis(5);

/// Where a thread is.
#[derive(Debug)]
pub(crate) struct Place {
    /// Leaf first.
    pub(crate) frames: Vec<u64>,
    /// The span path and the labels in force.
    pub(crate) node: Option<&'static Node>,
    pub(crate) labels: Option<&'static Set>,
    /// What it waits for, if that is a lock of ours or another wait that it shows.
    pub(crate) wait: Option<Wait>,
    /// The thread's CPU time since it is there, in nanoseconds.
    pub(super) clock: u64,
}

/// Asks all threads at once. Those are missing that are gone, block the signal, are stopped, or sleep
/// where no signal reaches them.
pub(crate) fn ask(threads: impl Iterator<Item = u32>, depth: usize) -> FxHashMap<u32, Place> {
    let mut open: Vec<_> = threads
        .filter(|thread| !sys::is_own_thread(*thread))
        .map(|thread| QUESTIONS.ask(thread, |answer| answer.prepare(depth)))
        .filter(|question| sampling::interrupt(question.thread()))
        .collect();
    let mut places = FxHashMap::default();
    let begin = Instant::now();
    let mut pause = PAUSE / 100;
    loop {
        let (answered, unanswered): (Vec<_>, Vec<_>) =
            open.into_iter().partition(Question::is_answered);
        open = unanswered;
        for question in answered {
            let thread = question.thread();
            places.extend(question.read(Place::of).flatten().map(|place| (thread, place)));
        }
        if open.is_empty() || begin.elapsed() > PATIENCE {
            return places;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
        if pause == PAUSE {
            // Once more: a signal that comes while another one is pending is dropped.
            open.retain(|question| {
                let thread = question.thread();
                !sys::is_deaf(thread) && sampling::interrupt(thread)
            });
        }
    }
}

impl Place {
    /// Returns what a thread has answered; nothing if it had no room to look.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let Answer { node, labels, wait, clock, .. } = *answer;
        let frames = answer.frames().to_vec();
        (!frames.is_empty()).then_some(Self { frames, node, labels, wait, clock })
    }

    /// Returns the key of a record of it: with the lock, if it waits for one.
    pub(super) fn key(self, keys: &mut Keys) -> Key {
        let row = self.wait.and_then(|wait| wait.row);
        let header = row.map_or(Header::new(Source::Block), |row| row.header());
        let header = Header { node: self.node, labels: self.labels, ..header };
        keys.key(&header, Stack::Native(self.frames.into()))
    }
}
