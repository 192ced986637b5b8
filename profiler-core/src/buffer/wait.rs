//! What a thread shows of the wait that it is in.

#![allow(unsafe_code, reason = "words that came from references are turned back into them")]

use std::panic::Location;
use std::ptr;

use super::row::Row;
use super::thread::{Thread, all};
use crate::sys;

/// A wait that is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// When it began, in the profiler's clock.
    pub(crate) since: u64,
    /// The row that it will be recorded in: stack, span path, labels and lock.
    pub(crate) row: Option<Row>,
    /// The address of the lock's monitor, or 0. Its first two words are a pointer to the holder's
    /// `Thread` and one to the `Location` where the lock was acquired.
    pub(crate) monitor: usize,
}

/// Who holds a lock exclusively.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    /// Nothing for readers, and for threads that the profiler does not know.
    pub(crate) thread: Option<&'static Thread>,
    /// Where the lock was acquired; nothing for readers.
    pub(crate) site: Option<&'static Location<'static>>,
}

impl Wait {
    fn words(self) -> [u64; 3] {
        let row = self.row.map_or(ptr::null_mut(), Row::into_raw);
        [self.since, row.expose_provenance() as u64, self.monitor as u64]
    }

    /// Reads back what [`Wait::words`] wrote.
    ///
    /// # Safety
    ///
    /// The words came from `words`.
    unsafe fn from_words([since, row, monitor]: [u64; 3]) -> Self {
        let row = ptr::with_exposed_provenance_mut(row as usize);
        // SAFETY: null or a row's own pointer.
        let row = unsafe { Row::from_raw(row) };
        Self { since, row, monitor: monitor as usize }
    }
}

impl Thread {
    /// Returns the wait that is going on, if any; any thread may call this.
    pub(crate) fn wait(&self) -> Option<Wait> {
        // SAFETY: written from `Wait::words`.
        self.wait.read().map(|(words, _)| unsafe { Wait::from_words(words) })
    }

    /// Shows a wait, or that there is none, and returns what was shown before. Owner only.
    pub(crate) fn show(&self, wait: Option<Wait>) -> Option<Wait> {
        let outer = self.wait();
        self.wait.store(wait.map(Wait::words));
        outer
    }

    /// Returns who holds the lock that is waited for, and where it was acquired; nothing when the
    /// wait is for no lock or has ended.
    ///
    /// The lock may be gone as soon as the wait has ended, so its memory is read by the kernel, and
    /// what was read counts only if the wait was still going on after.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let (words, sequence) = self.wait.read()?;
        let monitor = words[2] as usize;
        let [mut memory, mut again] = [[0; 2 * size_of::<usize>()]; 2];
        let read = monitor != 0
            && sys::read_memory(monitor, &mut memory)
            && sys::read_memory(monitor, &mut again);
        // Twice, since the kernel copies bytes, and a word may have changed meanwhile.
        if !read || memory != again || !self.wait.is_still(sequence) {
            return None;
        }
        let (thread, site) = memory.split_at(size_of::<usize>());
        let address = |word: &[u8]| word.try_into().map_or(0, usize::from_ne_bytes);
        let thread = address(thread);
        let site = ptr::with_exposed_provenance::<Location<'static>>(address(site));
        Some(Holder {
            thread: all().find(|block| ptr::from_ref(*block).addr() == thread),
            // SAFETY: a lock's word, read while the lock was there: null, or stored from a
            // reference that lives for ever.
            site: unsafe { site.as_ref() },
        })
    }
}
