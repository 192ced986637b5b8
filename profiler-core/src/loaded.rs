//! What was closed, and what an address of a record means.

use std::ops::Range;
use std::sync::Arc;

/// A library as it was when it was loaded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Library {
    pub(crate) file: Box<str>,
    /// Lower-case hexadecimal, or empty.
    pub(crate) build_id: Box<str>,
    /// Parts of code, each with its place in the file.
    pub(crate) parts: Box<[(Range<u64>, u64)]>,
}

impl Library {
    /// Returns the addresses from its first part to its last.
    pub(crate) fn code(&self) -> Range<u64> {
        let starts = self.parts.iter().map(|(range, _)| range.start);
        let ends = self.parts.iter().map(|(range, _)| range.end);
        starts.min().unwrap_or(0)..ends.max().unwrap_or(0)
    }
}

/// What was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Closings are numbered from 1.
    pub(crate) number: u64,
    pub(crate) ranges: Box<[Range<u64>]>,
    /// Nothing if it is not known what was there until then.
    pub(crate) library: Option<Arc<Library>>,
}

/// Returns whether two lists of ranges have an address in common.
pub(crate) fn overlap(some: &[Range<u64>], others: &[Range<u64>]) -> bool {
    some.iter().any(|a| others.iter().any(|b| a.start < b.end && b.start < a.end))
}
