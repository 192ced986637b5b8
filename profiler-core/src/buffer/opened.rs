//! The tracing spans that a thread has entered and not yet left.
//!
//! A poll of a profiled future puts the thread back where it was; what was entered before the poll
//! and left within it stays in its place, marked, until then.

use std::cell::Cell;

use super::tree::Node;
use crate::callsite::CallSite;

/// Spans kept; deeper ones are not put on the span stack.
const CAPACITY: usize = 32;
/// The number of no layer: marks a span that was left in a poll that began after it was entered.
const LEFT: u32 = 0;

/// One entered span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    /// The layer that told of it, from 1: numbers of spans are unique within one registry only.
    pub(crate) layer: u32,
    /// The span's number in its registry.
    pub(crate) id: u64,
    /// The node that entering it moved to; nothing if there was no need to move, or no room.
    pub(crate) node: Option<&'static Node>,
}

impl Open {
    const NONE: Self = Self { layer: LEFT, id: 0, node: None };

    #[inline]
    const fn is(self, layer: u32, id: u64) -> bool {
        self.id == id && self.layer == layer
    }
}

/// A span that was created and not entered so far.
#[derive(Debug, Clone, Copy)]
struct Created {
    layer: u32,
    id: u64,
    site: &'static CallSite,
}

/// The entered spans of one thread, in the order of entering. The owner's alone.
#[derive(Debug)]
pub(crate) struct Opened {
    length: Cell<usize>,
    /// How many were entered before the poll that is going on.
    floor: Cell<usize>,
    /// How many are marked.
    left: Cell<usize>,
    /// Counts until closed spans are looked for.
    entries_seen: Cell<u8>,
    /// The span that the thread created last: most are entered at once.
    created: Cell<Option<Created>>,
    entries: [Cell<Open>; CAPACITY],
}

/// What a poll found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    length: usize,
    floor: usize,
}

impl Opened {
    pub(crate) const fn new() -> Self {
        Self {
            length: Cell::new(0),
            floor: Cell::new(0),
            left: Cell::new(0),
            entries_seen: Cell::new(0),
            created: Cell::new(None),
            entries: [const { Cell::new(Open::NONE) }; CAPACITY],
        }
    }

    pub(crate) fn clear(&self) {
        self.length.set(0);
        self.floor.set(0);
        self.left.set(0);
        self.created.set(None);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length.get() == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.length.get() == CAPACITY
    }

    /// Returns whether it is time to look for spans that another thread has closed: when the room is
    /// used up, and from time to time.
    #[inline]
    pub(crate) fn wants_purge(&self) -> bool {
        let seen = self.entries_seen.get().wrapping_add(1);
        self.entries_seen.set(seen);
        seen == 0 || self.is_full()
    }

    /// Notes the span that was created last.
    #[inline]
    pub(crate) fn created(&self, layer: u32, id: u64, site: &'static CallSite) {
        self.created.set(Some(Created { layer, id, site }));
    }

    /// Forgets the span that was created last.
    #[inline]
    pub(crate) fn forget_created(&self) {
        self.created.set(None);
    }

    /// Returns the call site of a span if it was created last and has not been entered.
    #[inline]
    pub(crate) fn take_created(&self, layer: u32, id: u64) -> Option<&'static CallSite> {
        let created = self.created.get().filter(|it| it.id == id && it.layer == layer)?;
        self.created.set(None);
        Some(created.site)
    }

    /// Adds an entry, unless there is no room.
    #[inline]
    pub(crate) fn push(&self, open: Open) {
        let length = self.length.get();
        if let Some(entry) = self.entries.get(length) {
            entry.set(open);
            self.length.set(length + 1);
        }
    }

    /// Returns the innermost entry of that span.
    pub(crate) fn find(&self, layer: u32, id: u64) -> Option<Open> {
        self.iter().map(|(_, open)| open).find(|open| open.is(layer, id))
    }

    /// Removes the innermost entry of that span.
    #[inline]
    pub(crate) fn remove(&self, layer: u32, id: u64) -> Option<Open> {
        let last = self.length.get().checked_sub(1)?;
        match self.entries.get(last).map(Cell::get) {
            Some(open) if open.is(layer, id) && last >= self.floor.get() => {
                self.length.set(last);
                Some(open)
            }
            _ => self.remove_first(|open| open.is(layer, id)),
        }
    }

    /// Removes the innermost entry of which the condition holds.
    #[cold]
    pub(crate) fn remove_first(&self, condition: impl Fn(Open) -> bool) -> Option<Open> {
        let (position, open) = self.iter().find(|&(_, open)| condition(open))?;
        self.remove_at(position, open);
        Some(open)
    }

    fn remove_at(&self, position: usize, open: Open) {
        if position < self.floor.get() {
            self.entries[position].set(Open { layer: LEFT, ..open });
            self.left.set(self.left.get() + 1);
            return;
        }
        for index in position + 1..self.length.get() {
            self.entries[index - 1].set(self.entries[index].get());
        }
        self.length.set(self.length.get() - 1);
    }

    /// Begins a poll: what is entered now keeps its place until `rewind`.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        let mark = Mark { length: self.length.get(), floor: self.floor.get() };
        self.floor.set(mark.length);
        mark
    }

    /// Ends a poll: forgets what was entered in it, and calls `left` with what was left in it
    /// though entered before.
    #[inline]
    pub(crate) fn rewind(&self, mark: Mark, left: impl FnMut(Open)) {
        self.length.set(mark.length);
        self.floor.set(mark.floor);
        if self.left.get() > 0 {
            self.forget_left(left);
        }
    }

    #[cold]
    fn forget_left(&self, mut left: impl FnMut(Open)) {
        // What an outer poll found as well stays until that one ends.
        let (mut kept, mut marked) = (0, 0);
        for index in 0..self.length.get() {
            let entry = self.entries[index].get();
            if entry.layer == LEFT {
                left(entry);
                if index >= self.floor.get() {
                    continue;
                }
                marked += 1;
            }
            self.entries[kept].set(entry);
            kept += 1;
        }
        self.length.set(kept);
        self.left.set(marked);
    }

    /// Returns positions and entries, the innermost first, without those that are marked.
    #[inline]
    fn iter(&self) -> impl Iterator<Item = (usize, Open)> {
        let entries = self.entries.iter().take(self.length.get()).enumerate().rev();
        entries.map(|(index, entry)| (index, entry.get())).filter(|(_, open)| open.layer != LEFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enters the spans by their numbers.
    fn with(ids: impl IntoIterator<Item = u64>) -> Opened {
        let opened = Opened::new();
        for id in ids {
            opened.push(Open { layer: 1, id, node: None });
        }
        opened
    }

    fn ids(opened: &Opened) -> Vec<u64> {
        let mut ids: Vec<_> = opened.iter().map(|(_, open)| open.id).collect();
        ids.reverse();
        ids
    }

    #[test]
    fn any_entry_can_be_removed() {
        for (removed, expected) in [(1, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
            let opened = with([1, 2, 3]);
            assert!(opened.remove(1, removed).is_some());
            assert!(opened.remove(1, removed).is_none());
            assert_eq!(ids(&opened), expected);
        }
    }

    #[test]
    fn spans_of_another_registry_have_numbers_of_their_own() {
        let opened = with([1]);
        assert!(opened.remove(2, 1).is_none());
        assert!(opened.find(1, 1).is_some());
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let opened = with(0..CAPACITY as u64 + 2);
        assert!(opened.is_full() && opened.wants_purge());
        assert!(opened.remove(1, CAPACITY as u64).is_none());
        assert!(opened.remove(1, 0).is_some());
        assert_eq!(ids(&opened).len(), CAPACITY - 1);
    }

    #[test]
    fn a_poll_forgets_what_was_entered_in_it() {
        let opened = with([1]);
        let mark = opened.mark();
        opened.push(Open { layer: 1, id: 2, node: None });
        opened.rewind(mark, |open| panic!("{open:?} was not left"));
        assert_eq!(ids(&opened), [1]);
    }

    #[test]
    fn a_poll_tells_what_was_left_in_it() {
        let opened = with([1, 2]);
        let outer = opened.mark();
        opened.push(Open { layer: 1, id: 3, node: None });
        let inner = opened.mark();
        for id in [1, 3] {
            assert!(opened.remove(1, id).is_some());
            assert!(opened.remove(1, id).is_none());
        }
        opened.push(Open { layer: 1, id: 4, node: None });
        let check = |mark, expected: &[u64], remaining: &[u64]| {
            let mut left = Vec::new();
            opened.rewind(mark, |open| left.push(open.id));
            assert_eq!((&left[..], &ids(&opened)[..]), (expected, remaining));
        };
        check(inner, &[1, 3], &[2]);
        check(outer, &[1], &[2]);
        assert_eq!(opened.left.get(), 0);
    }
}
