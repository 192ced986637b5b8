//! The tracing spans that a thread has entered and not yet left.
//!
//! A poll of a profiled future puts the thread back where it was; what was entered before the poll
//! and left within it stays in its place, marked, until then.

#![allow(unsafe_code, reason = "words that came from references are turned back into them")]

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use super::strays;
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
    /// When it was entered; see [`strays::now`].
    pub(crate) entered: u64,
}

impl Open {
    #[inline]
    const fn is(self, layer: u32, id: u64) -> bool {
        self.id == id && self.layer == layer
    }

    /// Returns whether the span is over, though this thread was not told.
    pub(crate) fn is_over(self) -> bool {
        self.layer != LEFT && strays::is_over(self.layer, self.id, self.entered)
    }
}

/// An [`Open`] that the owner writes and others may read.
#[derive(Debug)]
struct Entry {
    layer: AtomicU32,
    id: AtomicU64,
    node: AtomicPtr<Node>,
    entered: AtomicU64,
}

impl Entry {
    const fn empty() -> Self {
        Self {
            layer: AtomicU32::new(LEFT),
            id: AtomicU64::new(0),
            node: AtomicPtr::new(ptr::null_mut()),
            entered: AtomicU64::new(0),
        }
    }

    #[inline]
    fn get(&self) -> Open {
        // Relaxed, all: the owner's own stores; others look whether the list has changed meanwhile.
        let node = self.node.load(Ordering::Relaxed);
        Open {
            layer: self.layer.load(Ordering::Relaxed),
            id: self.id.load(Ordering::Relaxed),
            // SAFETY: null, or set from a reference that lives for ever; what the node holds was
            // published by the Release of whoever set it, see `set`.
            node: unsafe { node.as_ref() },
            entered: self.entered.load(Ordering::Relaxed),
        }
    }

    #[inline]
    fn set(&self, open: Open) {
        let node = open.node.map_or(ptr::null_mut(), |node| ptr::from_ref(node).cast_mut());
        // Relaxed: as in `get`.
        self.layer.store(open.layer, Ordering::Relaxed);
        self.id.store(open.id, Ordering::Relaxed);
        self.entered.store(open.entered, Ordering::Relaxed);
        // Release: pairs with the fence in `seen_by_others`; the node is initialised.
        self.node.store(node, Ordering::Release);
    }
}

/// A span that was created and not entered so far.
#[derive(Debug, Clone, Copy)]
struct Created {
    layer: u32,
    id: u64,
    site: &'static CallSite,
    /// Whether nobody else gives its number anew.
    is_own: bool,
}

/// The entered spans of one thread, in the order of entering. Its owner writes it; others may look
/// which of them are over.
#[derive(Debug)]
pub(crate) struct Opened {
    length: AtomicUsize,
    /// Odd while entries are written; even and another one after.
    version: AtomicUsize,
    /// How many were entered before the poll that is going on.
    floor: Cell<usize>,
    /// How many are marked.
    left: Cell<usize>,
    /// Whether it is time to look for closed spans in the registry.
    is_due: Cell<bool>,
    /// The span that the thread created last: most are entered at once.
    created: Cell<Option<Created>>,
    entries: [Entry; CAPACITY],
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
            length: AtomicUsize::new(0),
            version: AtomicUsize::new(0),
            floor: Cell::new(0),
            left: Cell::new(0),
            is_due: Cell::new(false),
            created: Cell::new(None),
            entries: [const { Entry::empty() }; CAPACITY],
        }
    }

    pub(crate) fn clear(&self) {
        self.set_length(0);
        self.floor.set(0);
        self.left.set(0);
        self.created.set(None);
    }

    #[inline]
    fn length(&self) -> usize {
        // Acquire: pairs with the Release in `set_length`, for others than the owner.
        self.length.load(Ordering::Acquire)
    }

    #[inline]
    fn set_length(&self, length: usize) {
        // Release: pairs with the Acquire in `length`; the entries are written.
        self.length.store(length, Ordering::Release);
    }

    /// Changes entries that others may be looking at.
    #[inline]
    fn change(&self, change: impl FnOnce()) {
        // Relaxed: the owner's own store.
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        // Release: pairs with the fence in `seen_by_others`: who sees a change sees the odd number.
        fence(Ordering::Release);
        change();
        // Release: pairs with the Acquire in `seen_by_others`: who sees this number sees the change.
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length() == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.length() == CAPACITY
    }

    /// Says that it is time to look for spans that another thread has closed.
    pub(crate) fn make_due(&self) {
        self.is_due.set(true);
    }

    /// Returns whether it is time to look for spans that another thread has closed: when the room is
    /// used up, and from time to time.
    #[inline]
    pub(crate) fn wants_purge(&self) -> bool {
        self.is_due.get() | self.is_full() && {
            self.is_due.set(false);
            true
        }
    }

    /// Returns the nodes of spans that are over, the innermost first; none if the owner is changing
    /// something just now. Any thread may call this, and signal handlers.
    pub(crate) fn over(&self) -> impl Iterator<Item = &'static Node> {
        let seen = self.seen_by_others(|length| {
            let mut nodes = [None; CAPACITY];
            for (node, entry) in nodes.iter_mut().zip(&self.entries[..length]) {
                *node = Some(entry.get()).filter(|open| open.is_over()).and_then(|open| open.node);
            }
            nodes
        });
        seen.into_iter().flat_map(|nodes| nodes.into_iter().rev()).flatten()
    }

    /// Returns what was read; nothing if the owner was changing it meanwhile.
    fn seen_by_others<T>(&self, read: impl FnOnce(usize) -> T) -> Option<T> {
        // Acquire: pairs with the Release in `change`.
        let version = self.version.load(Ordering::Acquire);
        let value = read(self.length().min(CAPACITY));
        // Acquire: pairs with the Release in `change` and in `Entry::set`.
        fence(Ordering::Acquire);
        // Relaxed: after the fence.
        let is_same = version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        is_same.then_some(value)
    }

    /// Notes the span that was created last.
    #[inline]
    pub(crate) fn created(&self, layer: u32, id: u64, site: &'static CallSite, is_own: bool) {
        self.created.set(Some(Created { layer, id, site, is_own }));
    }

    /// Returns whether another layer has just noted that span: they are in one registry.
    #[inline]
    pub(crate) fn is_created_elsewhere(&self, layer: u32, id: u64, site: &CallSite) -> bool {
        let is_same = |it: Created| it.id == id && it.layer != layer && ptr::eq(it.site, site);
        self.created.get().is_some_and(is_same)
    }

    /// Forgets the span that was created last.
    #[inline]
    pub(crate) fn forget_created(&self) {
        self.created.set(None);
    }

    /// Forgets the span that was created last, and returns its call site if it is that one and the
    /// thread's own.
    #[inline]
    pub(crate) fn take_created(&self, layer: u32, id: u64) -> Option<&'static CallSite> {
        let created = self.created.take()?;
        (created.id == id && created.layer == layer && created.is_own).then_some(created.site)
    }

    /// Adds an entry, unless there is no room.
    #[inline]
    pub(crate) fn push(&self, open: Open) {
        let length = self.length();
        if let Some(entry) = self.entries.get(length) {
            self.change(|| entry.set(open));
            self.set_length(length + 1);
        }
    }

    /// Returns the innermost entry.
    pub(crate) fn last(&self) -> Option<Open> {
        self.iter().next().map(|(_, open)| open)
    }

    /// Returns the innermost entry of that span.
    pub(crate) fn find(&self, layer: u32, id: u64) -> Option<Open> {
        self.iter().map(|(_, open)| open).find(|open| open.is(layer, id))
    }

    /// Removes the innermost entry of that span.
    #[inline]
    pub(crate) fn remove(&self, layer: u32, id: u64) -> Option<Open> {
        let last = self.length().checked_sub(1)?;
        match self.entries.get(last).map(Entry::get) {
            Some(open) if open.is(layer, id) && last >= self.floor.get() => {
                self.set_length(last);
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
            self.change(|| self.entries[position].set(Open { layer: LEFT, ..open }));
            self.left.set(self.left.get() + 1);
            return;
        }
        let length = self.length();
        self.change(|| {
            for index in position + 1..length {
                self.entries[index - 1].set(self.entries[index].get());
            }
        });
        self.set_length(length - 1);
    }

    /// Begins a poll: what is entered now keeps its place until `rewind`.
    #[inline]
    pub(crate) fn mark(&self) -> Mark {
        let mark = Mark { length: self.length(), floor: self.floor.get() };
        self.floor.set(mark.length);
        mark
    }

    /// Ends a poll: forgets what was entered in it, and calls `left` with what was left in it
    /// though entered before.
    #[inline]
    pub(crate) fn rewind(&self, mark: Mark, left: impl FnMut(Open)) {
        self.set_length(mark.length);
        self.floor.set(mark.floor);
        if self.left.get() > 0 {
            self.forget_left(left);
        }
    }

    #[cold]
    fn forget_left(&self, mut left: impl FnMut(Open)) {
        // What an outer poll found as well stays until that one ends.
        let (mut kept, mut marked) = (0, 0);
        for index in 0..self.length() {
            let entry = self.entries[index].get();
            if entry.layer == LEFT {
                left(entry);
                if index >= self.floor.get() {
                    continue;
                }
                marked += 1;
            }
            self.change(|| self.entries[kept].set(entry));
            kept += 1;
        }
        self.set_length(kept);
        self.left.set(marked);
    }

    /// Returns positions and entries, the innermost first, without those that are marked.
    #[inline]
    fn iter(&self) -> impl Iterator<Item = (usize, Open)> {
        let entries = self.entries.iter().take(self.length()).enumerate().rev();
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
            opened.push(Open { layer: 1, id, node: None, entered: 0 });
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
        opened.push(Open { layer: 1, id: 2, node: None, entered: 0 });
        opened.rewind(mark, |open| panic!("{open:?} was not left"));
        assert_eq!(ids(&opened), [1]);
    }

    #[test]
    fn a_poll_tells_what_was_left_in_it() {
        let opened = with([1, 2]);
        let outer = opened.mark();
        opened.push(Open { layer: 1, id: 3, node: None, entered: 0 });
        let inner = opened.mark();
        for id in [1, 3] {
            assert!(opened.remove(1, id).is_some());
            assert!(opened.remove(1, id).is_none());
        }
        opened.push(Open { layer: 1, id: 4, node: None, entered: 0 });
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
