//! Addresses that had another meaning before a library was closed.
//!
//! Servers tell stacks by their addresses, so two meanings need two addresses. What was there first keeps its
//! own, so that its sums go on as they were when it is closed. What comes later in its place is *moved*, mapping
//! and all, far above all addresses that a process can have: by the number of the closing before it, so that its
//! addresses are the same in every profile.

use std::ops::Range;

use super::mapping::{Mapping, PSEUDO};
use crate::loaded::{Closed, Library, overlap};
use crate::stack;

/// Stands behind the name of a file that is loaded no more.
pub(crate) const GONE: &str = " [gone]";

/// No process has addresses from here on: they have 47 bits, or 56 for those who ask for them.
const ABOVE: u32 = 48;

/// What was closed, and what of the rest is moved.
#[derive(Debug, Default, Clone)]
pub(crate) struct Moved {
    /// In the order of the closings.
    closed: Vec<Was>,
    /// Executable parts of what is loaded, by their own addresses, and how far each is moved.
    live: Vec<(Range<u64>, u64)>,
    /// The last closing that is not remembered.
    forgotten: u64,
}

#[derive(Debug, Clone)]
struct Was {
    closed: Closed,
    moved_by: u64,
}

impl Moved {
    /// Finds out what is moved, of these mappings of what is loaded and of what was closed, in its order.
    pub(crate) fn new(live: &[Mapping], closed: Vec<Closed>, forgotten: u64) -> Self {
        let mut moved = Self { closed: Vec::new(), live: Vec::new(), forgotten };
        for closed in closed {
            let moved_by = match &closed.library {
                Some(library) => moved.before(&closed.ranges, |other| other == library.as_ref()),
                None => distance(2 * closed.number + 1),
            };
            moved.closed.push(Was { closed, moved_by });
        }
        let live = live.iter().map(|mapping| {
            let range = mapping.start..mapping.end;
            let is_it = |library: &Library| {
                library.file == mapping.file
                    && library.build_id == mapping.build_id
                    && overlap(&[library.code()], std::slice::from_ref(&range))
            };
            let moved_by = moved.before(std::slice::from_ref(&range), is_it);
            (range, moved_by)
        });
        moved.live = live.collect();
        moved
    }

    /// Returns how far something is moved: by the last closing of something else in its place.
    fn before(&self, ranges: &[Range<u64>], is_it: impl Fn(&Library) -> bool) -> u64 {
        let is_other = |was: &&Was| {
            let library = was.closed.library.as_deref();
            overlap(&was.closed.ranges, ranges) && !library.is_some_and(&is_it)
        };
        let last = self.closed.iter().rfind(is_other);
        last.map_or(0, |was| distance(2 * was.closed.number))
    }

    /// See [`super::Mappings::place`].
    pub(crate) fn place(&self, address: u64, closings: u64) -> u64 {
        if self.closed.is_empty() && self.forgotten == 0 {
            return address;
        }
        // Before what is remembered something else may have been there.
        if closings < self.forgotten && stack::was_touched(address) {
            return address | distance(1);
        }
        let is_next = |was: &&Was| was.closed.number > closings && was.holds(address);
        let next = self.closed.iter().find(is_next).map(|was| was.moved_by);
        address | next.unwrap_or_else(|| self.now(address))
    }

    /// Returns how far what is there now is moved.
    fn now(&self, address: u64) -> u64 {
        let live = self.live.iter().find(|(range, _)| range.contains(&address));
        let one = address..address.saturating_add(1);
        live.map_or_else(|| self.before(&[one], |_| false), |(_, moved_by)| *moved_by)
    }

    /// Returns whether an address has had more than one meaning.
    pub(crate) fn is_ambiguous(&self, address: u64) -> bool {
        (self.forgotten != 0 && stack::was_touched(address)) || self.now(address) != 0
    }

    /// Moves mappings of what is loaded, and adds those of what was closed.
    pub(crate) fn mappings(&self, live: Vec<Mapping>) -> Vec<Mapping> {
        let moved = live.into_iter().zip(&self.live).map(|(mut mapping, (_, moved_by))| {
            mapping.start |= moved_by;
            mapping.end |= moved_by;
            mapping
        });
        let mut mappings: Vec<Mapping> = moved.collect();
        for mapping in self.closed.iter().flat_map(Was::mappings) {
            // What was there several times, or is there again, has one.
            if !mappings.iter().any(|known| known.start == mapping.start) {
                mappings.push(mapping);
            }
        }
        mappings
    }
}

impl Was {
    fn holds(&self, address: u64) -> bool {
        self.closed.ranges.iter().any(|range| range.contains(&address))
    }

    fn mappings(&self) -> Vec<Mapping> {
        let mapping = |range: &Range<u64>| Mapping {
            start: range.start | self.moved_by,
            end: range.end | self.moved_by,
            file: GONE.trim_start().into(),
            gone: true,
            ..Mapping::default()
        };
        let Some(library) = &self.closed.library else {
            return self.closed.ranges.iter().map(mapping).collect();
        };
        let parts = library.parts.iter();
        parts
            .map(|(range, offset)| Mapping {
                offset: *offset,
                file: format!("{}{GONE}", library.file).into(),
                build_id: library.build_id.clone(),
                ..mapping(range)
            })
            .collect()
    }
}

/// Returns how far a place with this number is moved: not at all for 0. Numbers of 15 bits, so that addresses stay
/// positive; they come round after 16,000 closings. One is taken: there are the places that are no code.
const fn distance(number: u64) -> u64 {
    const TAKEN: u64 = PSEUDO.start >> ABOVE;
    if number == 0 {
        return 0;
    }
    let number = (number - 1) % 0x7ffe + 1;
    (if number < TAKEN { number } else { number + 1 }) << ABOVE
}

const _: () =
    assert!(PSEUDO.end - PSEUDO.start == 1 << ABOVE && PSEUDO.start.is_multiple_of(1 << ABOVE));

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn range(start: u64) -> Range<u64> {
        start..start + 0x1000
    }

    fn closed(number: u64, file: Option<&str>) -> Closed {
        let library = file.map(|file| {
            let parts = [(range(0x1000), 0x3000)].into();
            Arc::new(Library { file: file.into(), base: 0, build_id: "ab".into(), parts })
        });
        Closed { number, ranges: [range(0x1000)].into(), library }
    }

    fn live(file: &str) -> Mapping {
        let (start, end) = (0x1000, 0x2000);
        Mapping { start, end, file: file.into(), build_id: "ab".into(), ..Mapping::default() }
    }

    /// The files of mappings that hold what an address of a record means.
    fn meanings(closings: Vec<Closed>, now: &[Mapping], numbers: &[u64]) -> Vec<String> {
        let moved = Moved::new(now, closings, 0);
        let mappings = moved.mappings(now.to_vec());
        let meaning = |number: &u64| {
            let address = moved.place(0x1234, *number);
            let holds = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&address);
            let mut holding = mappings.iter().filter(holds);
            let found = holding.next().map_or("-", |mapping| &*mapping.file).to_owned();
            assert!(holding.next().is_none(), "two mappings hold {address:#x}");
            found
        };
        numbers.iter().map(meaning).collect()
    }

    #[test]
    fn nothing_is_moved_to_where_our_own_names_are() {
        let all: Vec<u64> = (0..0x7fff).map(distance).collect();
        let distinct: std::collections::HashSet<&u64> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(
            all.iter().all(|distance| !PSEUDO.contains(distance) && distance.cast_signed() >= 0)
        );
    }

    #[test]
    fn an_address_means_what_was_closed_next_or_what_is_there() {
        let closings = || vec![closed(1, Some("/a")), closed(4, Some("/b"))];
        let expected = ["/a [gone]", "/b [gone]", "/b [gone]", "/c"];
        assert_eq!(meanings(closings(), &[live("/c")], &[0, 1, 3, 4]), expected);
        assert_eq!(meanings(closings(), &[], &[0, 1, 4]), ["/a [gone]", "/b [gone]", "-"]);
    }

    #[test]
    fn what_is_not_known_is_a_meaning_of_its_own() {
        let closings = vec![closed(1, None), closed(2, Some("/a"))];
        let expected = ["[gone]", "/a [gone]", "/b"];
        assert_eq!(meanings(closings, &[live("/b")], &[0, 1, 2]), expected);
    }

    #[test]
    fn a_library_that_is_there_again_is_the_same() {
        assert_eq!(meanings(vec![closed(3, Some("/a"))], &[live("/a")], &[0, 3]), ["/a", "/a"]);
        let other = vec![closed(3, Some("/a")), closed(5, Some("/b"))];
        let expected = ["/a [gone]", "/b [gone]", "/a"];
        assert_eq!(meanings(other, &[live("/a")], &[0, 3, 5]), expected);
    }

    #[test]
    fn what_was_first_keeps_its_addresses_and_others_have_the_same_for_ever() {
        let first = Moved::new(&[live("/b")], vec![closed(1, Some("/a"))], 0);
        let (a, b) = (first.place(0x1234, 0), first.place(0x1234, 1));
        assert_eq!(a, 0x1234);
        assert_eq!(b & 0xffff_ffff, 0x1234);
        assert!(b.cast_signed() > 1 << ABOVE);
        let closings = vec![closed(1, Some("/a")), closed(2, Some("/b"))];
        let later = Moved::new(&[live("/c")], closings, 0);
        assert_eq!([0, 1].map(|number| later.place(0x1234, number)), [a, b]);
        assert!(![a, b].contains(&later.place(0x1234, 2)));
        // Elsewhere nothing has changed, and who asks for a name here has none.
        assert_eq!(later.place(0x9234, 0), 0x9234);
        assert!(later.is_ambiguous(0x1234) && !later.is_ambiguous(0x9234));
    }
}
