//! The machine stacks of threads, as they are now: each is interrupted and says where it is.
//!
//! This disturbs: some blocking calls return `EINTR` when a signal is handled, whatever flags its
//! handler has. So it is done where a person asks for it, never for a scraper.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::patience::{Patience, Silence};
use crate::buffer::answer::{Answer, QUESTIONS};
use crate::buffer::archive::{self, Archive};
use crate::buffer::question::Question;
use crate::buffer::record::{Header, Source};
use crate::buffer::tree::Node;
use crate::buffer::wait::Wait;
use crate::labels::Set;
use crate::merge::{Key, Keys, Stack};
use crate::sys::sampling::{self, Purpose, Sent};
use crate::sys::{self, Hearing};

/// The longest pause between two looks at what was answered.
const PAUSE: Duration = Duration::from_millis(20);
/// From here on those are looked at that have not answered: most do at once.
const LOOK: Duration = Duration::from_millis(2);

/// Where a thread is.
#[derive(Debug)]
pub(crate) struct Place {
    /// Leaf first.
    pub(crate) frames: Vec<u64>,
    /// The number of the last closing of a library under it.
    closings: u64,
    /// What the following point at is there if nothing has ended since.
    endings: u64,
    /// The span path and the labels in force.
    pub(crate) node: Option<&'static Node>,
    pub(crate) labels: Option<&'static Set>,
    /// What it waits for, if that is a lock of ours or another wait that it shows.
    pub(crate) wait: Option<Wait>,
    /// The thread's CPU time since it is there, in nanoseconds.
    pub(super) clock: u64,
}

/// A thread that was asked.
struct Asked {
    question: Question<Answer>,
    patience: Patience,
}

/// Asks all threads at once, and returns of each where it is, or why it has not said so. Those that are gone are
/// missing.
pub(crate) fn ask(
    threads: impl Iterator<Item = u32>,
    depth: usize,
) -> FxHashMap<u32, Result<Place, Silence>> {
    let mut said = FxHashMap::default();
    let clock = |thread| sampling::thread_cpu(thread).unwrap_or(0);
    let mut open: Vec<_> = threads
        .filter(|thread| !sys::is_own_thread(*thread))
        .map(|thread| Asked {
            patience: Patience::new(clock(thread)),
            question: QUESTIONS.ask(thread, |answer| answer.prepare(depth)),
        })
        .collect();
    open.retain(|asked| is_told(asked, &mut said));
    let begin = Instant::now();
    let mut pause = LOOK / 40;
    loop {
        let (answered, unanswered): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|asked| asked.question.is_answered());
        open = unanswered;
        for Asked { question, .. } in answered {
            let thread = question.thread();
            let place = question.read(Place::of);
            said.extend(place.map(|place| (thread, place.ok_or(Silence::NoRoom))));
        }
        if open.is_empty() {
            return said;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE);
        if pause < LOOK {
            continue;
        }
        let is_replaced = sampling::keep_hearing().is_err();
        open.retain_mut(|asked| {
            let thread = asked.question.thread();
            let hearing = sys::hearing(thread);
            let silence = match asked.patience.look(begin.elapsed(), hearing, clock(thread)) {
                _ if hearing == Hearing::Gone || asked.question.is_answered() => None,
                _ if is_replaced => Some(Silence::Replaced),
                silence => silence,
            };
            said.extend(silence.map(|silence| (thread, Err(silence))));
            // Once more: a signal that comes while another one is pending is dropped.
            hearing != Hearing::Gone && silence.is_none() && is_told(asked, &mut said)
        });
    }
}

/// Interrupts a thread, so that it finds its question; false if it will not.
fn is_told(asked: &Asked, said: &mut FxHashMap<u32, Result<Place, Silence>>) -> bool {
    let thread = asked.question.thread();
    let sent = sampling::interrupt(thread, Purpose::Question);
    if sent == Sent::Refused {
        said.insert(thread, Err(Silence::Refused));
    }
    sent == Sent::Yes
}

impl Place {
    /// Returns what a thread has answered; nothing if it had no room to look.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        let Answer { endings, node, labels, wait, clock, closings, .. } = *answer;
        let frames = answer.frames().to_vec();
        (!frames.is_empty()).then_some(Self {
            frames,
            closings,
            endings,
            node,
            labels,
            wait,
            clock,
        })
    }

    /// Forgets what may have ended since the thread was there. Whoever calls this has the archive until he
    /// has read the rest.
    pub(super) fn still_there(self, _nothing_ends: &Archive) -> Self {
        if self.endings == archive::endings() {
            return self;
        }
        Self { node: None, labels: None, wait: None, ..self }
    }

    /// Returns the key of a record of it: with the lock, if it waits for one. As for
    /// [`Place::still_there`].
    pub(super) fn key(self, keys: &mut Keys) -> Key {
        let row = self.wait.and_then(|wait| wait.row);
        let header = row.map_or(Header::new(Source::Block), |row| row.header());
        let header =
            Header { node: self.node, labels: self.labels, closings: self.closings, ..header };
        keys.key(&header, Stack::Native(self.frames.into()))
    }
}
