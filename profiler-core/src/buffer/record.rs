//! The key of a record, as people mean it and as the words that a tally compares.

#![allow(unsafe_code, reason = "words that came from references are turned back into them")]

use std::panic::Location;
use std::ptr;

use super::row::{HEADER, Row};
use super::tree::Node;
use crate::labels::Set;

/// Which profile a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Source {
    Block,
    Mutex,
    Threadcreate,
    /// Values: things entered; and, as the last one, things left.
    Custom,
    /// Values: expiries of CPU timers, nanoseconds of CPU time.
    Cpu,
    /// Values: objects and bytes allocated, bytes and objects freed; objects in parts of [`OBJECT`].
    /// Since sums are written in their order and read in the reverse one, frees before allocations,
    /// no reader finds less freed than allocated, nor bytes alive without an object.
    Alloc,
}

/// So many parts an object has in the sums of [`Source::Alloc`]: the weight of a sample is no whole
/// number, and this loses no more than a part in 8,000 of it.
pub(crate) const OBJECT: i64 = 4096;

impl Source {
    pub(crate) const ALL: [Self; 6] =
        [Self::Block, Self::Mutex, Self::Threadcreate, Self::Custom, Self::Cpu, Self::Alloc];
}

/// What a thread waits for; the label `kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Waiting {
    /// Not a wait.
    No,
    Mutex,
    /// A shared hold of an RwLock.
    Read,
    /// An exclusive or upgradable hold of an RwLock.
    Write,
    Condvar,
    /// Something that the application named; the name stands where the lock's would.
    Named,
}

impl Waiting {
    const ALL: [Self; 6] =
        [Self::No, Self::Mutex, Self::Read, Self::Write, Self::Condvar, Self::Named];

    /// Returns the value of the label `kind`.
    pub(crate) const fn label(self) -> Option<&'static str> {
        match self {
            Self::No | Self::Named => None,
            Self::Mutex => Some("mutex"),
            Self::Read | Self::Write => Some("rwlock"),
            Self::Condvar => Some("condvar"),
        }
    }
}

/// What stands in place of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Marker {
    /// Nothing: the record has a stack.
    No,
    /// Time between a release and the moment that the next holder ran.
    Handoff,
    /// Records whose stack found no room.
    Overflow,
    /// Records of a thread that has no tally, or that came while it was being written.
    Lost,
}

impl Marker {
    const ALL: [Self; 4] = [Self::No, Self::Handoff, Self::Overflow, Self::Lost];

    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Handoff => Some("[handoff]"),
            Self::Overflow => Some("[overflow]"),
            Self::Lost => Some("[lost]"),
        }
    }
}

/// Everything in a record's key besides the stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) source: Source,
    pub(crate) waiting: Waiting,
    pub(crate) marker: Marker,
    /// The span path.
    pub(crate) node: Option<&'static Node>,
    pub(crate) labels: Option<&'static Set>,
    /// The name of the lock, of the wait, of the custom profile, or, of CPU time, of the thread.
    pub(crate) name: Option<&'static str>,
    /// The size class of what was allocated, in bytes; 0 with a name.
    pub(crate) size: u64,
    pub(crate) acquired_at: Option<&'static Location<'static>>,
    /// The number of the last closing of a library that has touched one of the addresses; see `stack::closings_under`.
    pub(crate) closings: u64,
}

/// Where the number of closings begins in the first word.
const CLOSINGS_AT: u32 = 24;

impl Header {
    pub(crate) const fn new(source: Source) -> Self {
        Self {
            source,
            waiting: Waiting::No,
            marker: Marker::No,
            node: None,
            labels: None,
            name: None,
            size: 0,
            acquired_at: None,
            closings: 0,
        }
    }

    pub(crate) fn words(&self) -> [u64; HEADER] {
        fn word<T>(reference: Option<&'static T>) -> u64 {
            reference.map_or(0, |r| ptr::from_ref(r).expose_provenance() as u64)
        }
        [
            u64::from(self.source as u8)
                | u64::from(self.waiting as u8) << 8
                | u64::from(self.marker as u8) << 16
                // The rest of the word: a thousand closings a second for thirty years.
                | self.closings << CLOSINGS_AT,
            word(self.node),
            word(self.labels),
            self.name.map_or(0, |name| name.as_ptr().expose_provenance() as u64),
            self.name.map_or(self.size, |name| name.len() as u64),
            word(self.acquired_at),
        ]
    }

    /// Reads back what [`Header::words`] wrote.
    ///
    /// # Safety
    ///
    /// The words came from `words`.
    pub(crate) unsafe fn from_words(words: [u64; HEADER]) -> Self {
        /// # Safety
        ///
        /// The word came from a reference of that type, or is 0.
        unsafe fn reference<T>(word: u64) -> Option<&'static T> {
            // SAFETY: given by the caller.
            unsafe { ptr::with_exposed_provenance::<T>(word as usize).as_ref() }
        }
        let byte = |index: u32| (words[0] >> (8 * index)) as u8 as usize;
        let name = (words[3] != 0).then(|| {
            let start = ptr::with_exposed_provenance::<u8>(words[3] as usize);
            // SAFETY: address and length of a `&'static str`.
            let bytes = unsafe { std::slice::from_raw_parts(start, words[4] as usize) };
            // SAFETY: the bytes of a `str`.
            unsafe { std::str::from_utf8_unchecked(bytes) }
        });
        Self {
            source: Source::ALL[byte(0)],
            waiting: Waiting::ALL[byte(1)],
            marker: Marker::ALL[byte(2)],
            // SAFETY: written from this type.
            node: unsafe { reference(words[1]) },
            // SAFETY: written from this type.
            labels: unsafe { reference(words[2]) },
            name,
            size: if name.is_none() { words[4] } else { 0 },
            // SAFETY: written from this type.
            acquired_at: unsafe { reference(words[5]) },
            closings: words[0] >> CLOSINGS_AT,
        }
    }
}

impl Row {
    /// Returns the row's key besides its stack.
    pub(crate) fn header(&self) -> Header {
        // SAFETY: rows are made by `capture` alone, from `Header::words`.
        unsafe { Header::from_words(self.key().header) }
    }

    /// Returns how many things a row of a custom profile counts: those entered that are not left.
    pub(crate) fn custom_count(&self) -> i64 {
        let [entered, _, _, left] = self.values();
        entered.wrapping_sub(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_back() {
        let header = Header {
            waiting: Waiting::Write,
            marker: Marker::Handoff,
            name: Some("stock"),
            acquired_at: Some(Location::caller()),
            closings: 1 << 39,
            ..Header::new(Source::Mutex)
        };
        // SAFETY: from `words`.
        let back = unsafe { Header::from_words(header.words()) };
        assert_eq!(format!("{back:?}"), format!("{header:?}"));
    }

    #[test]
    fn an_empty_name_is_a_name() {
        let header = Header { name: Some(""), ..Header::new(Source::Block) };
        // SAFETY: from `words`.
        assert_eq!(unsafe { Header::from_words(header.words()) }.name, Some(""));
    }
}
