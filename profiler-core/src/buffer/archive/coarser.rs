//! How rows of the archive become coarser: first without the values of their labels, then without their stack.

#![allow(unsafe_code, reason = "rows are moved that nobody holds, under the archive's lock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Archive, ByKey};
use crate::budget;
use crate::buffer::moment::{Moment, Move, Path, end};
use crate::buffer::record::{Header, Marker, Source};
use crate::buffer::row::{Row, RowKey};
use crate::buffer::table::{Memory, make_row};
use crate::buffer::tree::Node;
use crate::labels;

/// For so long a row keeps the values of its labels, however many there are; and so long labels are left alone when most
/// of them are held.
const REST: Duration = Duration::from_secs(1);

/// Makes a header coarser, whose labels are held for it.
type Coarser = fn(&Header) -> Header;

/// What a row was whose span path is cut.
pub(super) struct Before(Row, Path);

impl Before {
    pub(super) fn goes_to(self, to: Row) -> Move {
        let Self(from, path) = self;
        // SAFETY: made by `before_cut`, and nobody else has it.
        unsafe { Move::new(from, Some(path), to.hold()) }
    }
}

impl Archive {
    /// Makes rows coarser until there is room. Those that are held stay as they are, as all do for a moment that a
    /// reading has, and others are not made coarser in their place.
    pub(super) fn make_coarser(&mut self) {
        let archived = self.rows.keys().map(|ByKey(row)| row).filter(|row| row.is_held());
        let held: usize = archived.chain(&self.held).map(Row::size).sum();
        for coarser in [without_values, without_stack] {
            if self.bytes > budget::for_archive() + held {
                self.move_rows(coarser, held);
            }
        }
    }

    /// Ends label sets that nobody holds. If many are left, takes the values from rows that have not changed
    /// for long.
    pub(super) fn end_labels(&mut self) {
        // Rows that were moved have claims, unless somebody asks for them.
        self.tell_moves();
        labels::end_unused();
        if labels::are_many() {
            let now = Instant::now();
            let (emptied, when) = *self.aging.get_or_insert((self.emptied, now));
            if now - when >= REST {
                self.aging = Some((self.emptied, now));
                self.take_values(emptied);
                self.tell_moves();
                labels::end_unused();
            }
        }
        self.labels_rest = labels::are_many().then(|| Instant::now() + REST);
    }

    /// Takes the values of their labels from rows that have not changed since that emptying.
    fn take_values(&mut self, emptied: u64) {
        let is_old = |(&ByKey(row), &changed): (&ByKey, &u64)| {
            let is_due = changed <= emptied && row.header().labels.is_some() && !row.is_held();
            is_due.then_some(row)
        };
        let old: Vec<_> = self.rows.iter().filter_map(is_old).collect();
        for row in old {
            self.move_on(row, without_values(&row.header()));
        }
    }

    /// Moves rows to coarser ones until there is room besides `held` bytes: those that did not change in this emptying
    /// first, of these those with the least in them.
    fn move_rows(&mut self, coarser: Coarser, held: usize) {
        let size = |row: &Row| {
            let [count, sum, ..] = row.values();
            (sum.unsigned_abs(), count.unsigned_abs())
        };
        let mut rows: Vec<_> = self
            .rows
            .iter()
            .map(|(&ByKey(row), &emptied)| (emptied == self.emptied, row.header(), row))
            // What has no stack is little.
            .filter(|(_, header, row)| header.marker == Marker::No && !row.is_held())
            .collect();
        rows.sort_by_key(|(is_new, _, row)| (*is_new, size(row)));
        let limit = budget::for_archive();
        for (is_new, header, row) in rows {
            // Of the old ones so many that not every row that comes moves another one.
            let enough = if is_new { limit } else { limit / 4 * 3 };
            if self.bytes > enough + held {
                self.move_on(row, coarser(&header));
            }
        }
    }

    /// Moves the sums of an archived row to one with that header, which keeps its labels.
    pub(super) fn move_on(&mut self, row: Row, header: Header) {
        let frames = if header.marker == Marker::No { row.key().frames } else { &[] };
        let key = RowKey { header: header.words(), frames };
        let release = || header.labels.into_iter().for_each(labels::Set::release);
        if key == row.key() {
            return release();
        }
        let Some(made) = make_row(key, row.is_bucketed(), Memory::SYSTEM) else { return release() };
        let to = match self.rows.get_key_value(&ByKey(made)) {
            Some((&ByKey(known), _)) => {
                // SAFETY: made here, and in no table; it goes with its labels.
                unsafe { end(made) };
                known
            }
            None => {
                self.bytes += made.size();
                self.rows.insert(ByKey(made), self.emptied);
                made
            }
        };
        to.take_in(row);
        self.rows.remove(&ByKey(row));
        self.bytes -= row.size();
        // SAFETY: it is in no table and not in the archive, and nobody held it.
        self.moves.push(unsafe { Move::new(row, None, to.hold()) });
    }

    /// Returns what a row is that will get a part of its span path only, if somebody may ask for it.
    pub(super) fn before_cut(&self, row: Row, path: &'static Node) -> Option<Before> {
        if !self.is_asked() {
            return None;
        }
        let header = Header { node: None, ..row.header() };
        let key = RowKey { header: header.words(), frames: row.frames() };
        let before = make_row(key, row.is_bucketed(), Memory::SYSTEM)?;
        header.labels.into_iter().for_each(labels::Set::hold);
        before.take_in(row);
        Some(Before(before, path.path().collect()))
    }

    /// Tells whoever has the moment what was moved since.
    pub(super) fn tell_moves(&mut self) {
        let moves = std::mem::take(&mut self.moves);
        if !moves.is_empty() && self.is_asked() {
            let next = Arc::new(Moment::default());
            self.now.is_followed_by(moves, &next);
            self.now = next;
        }
    }

    /// Whether somebody has the moment but the archive: else nobody asks what was moved since.
    fn is_asked(&self) -> bool {
        Arc::strong_count(&self.now) > 1
    }
}

fn without_values(header: &Header) -> Header {
    Header { labels: header.labels.and_then(labels::without_values), ..*header }
}

pub(super) fn without_stack(header: &Header) -> Header {
    let name = header.name.filter(|_| header.source == Source::Custom);
    Header { marker: Marker::Overflow, name, ..Header::new(header.source) }
}
