//! What a thread says when it is interrupted and asked where it is.

use std::ptr;

use super::archive;
use super::primitive::AtomicPtr;
use super::question::Questions;
use super::thread::{Thread, current};
use super::tree::Node;
use super::wait::Wait;
use crate::labels::Set;
use crate::stack;
use crate::sys::{Registers, sampling};

/// All questions that there are at a moment.
pub(crate) static QUESTIONS: Questions<Answer> = Questions::new(AtomicPtr::new(ptr::null_mut()));

/// A question and its answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// What `node`, `labels` and `wait` point at is there if this is still so.
    pub(crate) endings: u64,
    /// The span path and the labels in force.
    pub(crate) node: Option<&'static Node>,
    pub(crate) labels: Option<&'static Set>,
    /// The wait that the thread shows.
    pub(crate) wait: Option<Wait>,
    /// The thread's CPU time once it has answered, in nanoseconds.
    pub(crate) clock: u64,
    /// The number of the last closing of a library under the stack.
    pub(crate) closings: u64,
    depth: usize,
    frames: Box<[u64]>,
}

impl Answer {
    /// Makes room for so many frames. Allocates.
    pub(crate) fn prepare(&mut self, depth: usize) {
        if self.frames.len() != depth {
            self.frames = vec![0; depth].into();
        }
    }

    /// Says where the calling thread was struck: an empty stack if there is no room to look.
    ///
    /// # Signal safety
    ///
    /// Allocates nothing, waits for nothing.
    pub(crate) fn fill(&mut self, at: Option<Registers>) {
        let thread = current();
        self.endings = archive::endings();
        self.node = thread.and_then(Thread::shown_node);
        self.labels = thread.and_then(|thread| thread.labels());
        self.wait = thread.and_then(|thread| thread.wait());
        self.depth = at.map_or(0, |at| {
            let bounds = thread.and_then(|thread| thread.bounds_in_signal(at));
            stack::capture_interrupted(at, bounds, &mut self.frames)
        });
        self.closings = stack::closings_under(self.frames());
        self.clock = sampling::own_cpu();
    }

    /// Returns the stack, leaf first.
    pub(crate) fn frames(&self) -> &[u64] {
        &self.frames[..self.depth]
    }
}
