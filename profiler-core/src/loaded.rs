//! What was closed, and what an address of a record means.

use std::ops::Range;
use std::sync::Arc;

/// A library as it was when it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Library {
    pub(crate) file: Box<str>,
    /// What was added to the addresses in the file.
    pub(crate) base: u64,
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

/// Returns the smallest number of closings with which these addresses mean the same as with that one.
///
/// `closed` is what is remembered, in order, and `forgotten` the last closing that is not. A number that is larger than
/// all of these is newer than they are, and stays.
pub(crate) fn earliest(
    closings: u64,
    frames: &[u64],
    (closed, forgotten): (&[Closed], u64),
) -> u64 {
    let newest = closed.last().map_or(0, |was| was.number).max(forgotten);
    if closings > newest {
        return closings;
    }
    let touches = |was: &&Closed| {
        let is_in = |address: &u64| was.ranges.iter().any(|range| range.contains(address));
        was.number <= closings && frames.iter().any(is_in)
    };
    let last = closed.iter().rfind(touches).map_or(0, |was| was.number);
    last.max(forgotten.min(closings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_the_same_meaning_are_one() {
        let closed = [(3, 0x1000..0x1010), (5, 0x2000..0x2010), (9, 0x1000..0x1010)]
            .map(|(number, range)| Closed { number, ranges: [range].into(), library: None });
        let check = |closings, frames: &[u64], forgotten, expected| {
            let got = earliest(closings, frames, (&closed, forgotten));
            assert_eq!(got, expected, "{closings} {frames:x?}");
        };
        check(0, &[0x1001], 0, 0);
        // Before the first that is remembered, and between two.
        check(2, &[0x1001], 0, 0);
        check(8, &[0x1001], 0, 3);
        check(8, &[0x1001, 0x2001], 0, 5);
        check(9, &[0x5000, 0x1001], 0, 9);
        // Elsewhere nothing was closed.
        check(9, &[0x5000], 0, 0);
        // What is not known stays as it is, and nothing that is known becomes so.
        check(2, &[0x1001], 4, 2);
        check(9, &[0x5000], 4, 4);
        // A closing that the list does not have yet.
        check(20, &[0x1001], 0, 20);
        check(20, &[0x5000], 12, 20);
        check(11, &[0x5000], 12, 11);
    }
}
