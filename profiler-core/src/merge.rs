//! Stage 2: the sum of all tallies.
//!
//! Merging is addition, so the order of reading does not matter; nothing that is read waits.

use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::buffer::archive;
use crate::buffer::emergency::{EMERGENCY, Emergency};
use crate::buffer::moment::Moment;
use crate::buffer::origin;
use crate::buffer::record::{Header, Marker, OBJECT, Source, Waiting};
use crate::buffer::row::{BUCKETS, HeldRow, Row};
use crate::buffer::thread;
use crate::buffer::tree::Node;
use crate::callsite::CallSite;
use crate::labels::Set;

/// Number of columns a record has at the most.
pub(crate) const VALUES: usize = 4;

/// The stack of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Stack {
    /// Addresses of instructions, leaf first: each lies inside its call, so return addresses have
    /// been taken back by one already. May be empty.
    Native(Frames),
    /// What has no stack, under a name in brackets, for example `[handoff]`.
    Marker(&'static str),
}

/// The addresses of a stack.
#[derive(Debug, Clone)]
pub(crate) enum Frames {
    /// Where a row has them.
    Of(HeldRow),
    Own(Arc<[u64]>),
}

impl Deref for Frames {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Self::Of(row) => row.frames(),
            Self::Own(frames) => frames,
        }
    }
}

impl From<Vec<u64>> for Frames {
    fn from(frames: Vec<u64>) -> Self {
        Self::Own(frames.into())
    }
}

impl PartialEq for Frames {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Frames {}

impl Hash for Frames {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// Everything that tells one row from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) stack: Stack,
    /// The number of the last closing of a library that has touched the stack: it says what its addresses meant.
    pub(crate) closings: u64,
    /// The span path, leaf first.
    pub(crate) path: Arc<[&'static CallSite]>,
    /// The user's labels, sorted by key, keys unique.
    pub(crate) labels: Arc<[(Arc<str>, Arc<str>)]>,
    /// The kind of thing waited for, for example `mutex`; the label `kind`.
    pub(crate) waiting_for: Option<&'static str>,
    /// The name of the lock; the label `lock`.
    pub(crate) lock: Option<&'static str>,
    /// The size class of what was allocated, in bytes; the label `bytes`. 0 for none.
    pub(crate) size: u64,
    /// Where the lock was acquired; the label `acquired_at`.
    pub(crate) acquired_at: Option<&'static Location<'static>>,
    /// The name of the thread; the label `thread`. Only of threads that are seen at work.
    pub(crate) thread: Option<Arc<str>>,
    /// Whether the thread ran, or waited; the label `state`. Only in `wall`.
    pub(crate) on_cpu: Option<bool>,
}

impl Key {
    /// Returns the key of what belongs to no stack.
    pub(crate) fn of_marker(name: &'static str) -> Self {
        Keys::default().key(&Header::new(Source::Cpu), Stack::Marker(name))
    }
}

/// Buckets of the numeric label `wait`: powers of four from 1 ns to 4^18 ns (69 s) and longer.
pub(crate) const WAIT_BUCKETS: usize = BUCKETS;

/// Count and nanoseconds by duration of the single wait; bucket `i` holds waits of at least `4^i`
/// and less than `4^(i+1)` nanoseconds, the last one all longer waits too.
pub(crate) type Waits = [(i64, i64); WAIT_BUCKETS];

/// The sums of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) values: [i64; VALUES],
    /// Only for `block`.
    pub(crate) waits: Option<Box<Waits>>,
}

/// All rows of one kind, summed over all tallies.
pub(crate) type Rows = FxHashMap<Key, Sums>;

/// The user's labels as a key carries them.
type Labels = Arc<[(Arc<str>, Arc<str>)]>;

/// Makes keys; what many keys share is made once.
#[derive(Default)]
pub(crate) struct Keys {
    paths: FxHashMap<*const Node, Arc<[&'static CallSite]>>,
    labels: FxHashMap<*const Set, Labels>,
    names: FxHashMap<&'static str, Arc<str>>,
}

impl Keys {
    /// Returns the key of a row.
    pub(crate) fn of_row(&mut self, header: &Header, row: Row) -> Key {
        let stack = match header.marker.name() {
            Some(name) => Stack::Marker(name),
            // The memory of these rows ends with their table, whoever holds one.
            None if header.source == Source::Cpu => Stack::Native(row.frames().to_vec().into()),
            None => Stack::Native(Frames::Of(row.hold())),
        };
        self.key(header, stack)
    }

    /// Returns the key of a header and a stack.
    pub(crate) fn key(&mut self, header: &Header, stack: Stack) -> Key {
        let named_wait = header.waiting == Waiting::Named;
        let lock = match header.source {
            Source::Block | Source::Mutex if !named_wait => header.name,
            _ => None,
        };
        Key {
            stack,
            closings: header.closings,
            path: self.path(header.node),
            labels: self.labels(header.labels),
            waiting_for: if named_wait { header.name } else { header.waiting.label() },
            lock,
            size: header.size,
            acquired_at: header.acquired_at,
            thread: header
                .name
                .filter(|_| header.source == Source::Cpu)
                .map(|name| self.name(name)),
            on_cpu: None,
        }
    }

    fn name(&mut self, name: &'static str) -> Arc<str> {
        Arc::clone(self.names.entry(name).or_insert_with(|| name.into()))
    }

    fn path(&mut self, node: Option<&'static Node>) -> Arc<[&'static CallSite]> {
        let Some(node) = node else { return Arc::default() };
        let path = self.paths.entry(node);
        path.or_insert_with(|| node.path().collect()).clone()
    }

    fn labels(&mut self, set: Option<&'static Set>) -> Labels {
        let Some(set) = set else { return Arc::default() };
        let labels = self.labels.entry(set);
        labels.or_insert_with(|| set.iter().map(|(k, v)| (k.into(), v.into())).collect()).clone()
    }
}

/// When something was read: a later reading finds out what was moved to coarser rows since.
#[derive(Debug, Clone)]
pub(crate) struct At(Option<Arc<Moment>>);

impl At {
    /// When nothing can have been moved, or nobody asks.
    pub(crate) const NEVER: Self = Self(None);

    pub(crate) const fn new(moment: Arc<Moment>) -> Self {
        Self(Some(moment))
    }

    /// Returns what was moved since and until a later reading: what went away from a row is positive,
    /// what came to one negative, so that a difference is right with it.
    pub(crate) fn moved_until(&self, later: &Self, source: Source, custom: Option<&str>) -> Rows {
        let mut rows = Rows::default();
        let mut keys = Keys::default();
        if let (Self(Some(earlier)), Self(Some(later))) = (self, later) {
            let _nothing_ends = archive::lock();
            earlier.moves_until(later, |moved| {
                let (from, to) = moved.rows();
                let header = from.header();
                if is_of(&header, source, custom) {
                    let (values, waits) = (from.values(), from.bucket_values());
                    let mut key = keys.of_row(&header, from);
                    if let Some(path) = moved.path() {
                        key.path.clone_from(path);
                    }
                    add(&mut rows, key, values, waits);
                    let taken = waits.map(|waits| waits.map(|(count, sum)| (-count, -sum)));
                    let values = values.map(i64::wrapping_neg);
                    add(&mut rows, keys.of_row(&to.header(), to), values, taken);
                }
            });
        }
        // Only now: parts of several rows may make an object together.
        rows.values_mut().for_each(|sums| sums.values = shown(source, sums.values));
        rows
    }
}

/// Whether a row is of that source, of custom profiles of that name.
fn is_of(header: &Header, source: Source, custom: Option<&str>) -> bool {
    header.source == source && (source != Source::Custom || header.name == custom)
}

/// Returns the values of a row as they are shown.
fn shown(source: Source, values: [i64; VALUES]) -> [i64; VALUES] {
    let [first, second, third, fourth] = values;
    match source {
        // Whole objects only; parts of several threads may make one together.
        Source::Alloc => {
            let whole = |parts: i64| parts / OBJECT;
            [whole(first), second, whole(first - fourth), second - third]
        }
        Source::Custom => [first - fourth, 0, 0, 0],
        _ => values,
    }
}

/// Returns the rows of one source, summed over all threads; for custom profiles those of one name.
pub(crate) fn tallies(source: Source, custom: Option<&str>) -> (Rows, At) {
    let mut rows = Rows::default();
    let mut keys = Keys::default();
    let wanted = |header: &Header| is_of(header, source, custom);
    let mut archive = archive::lock();
    // Whoever reads sees to it as well: the profiler's own thread may get no processor.
    archive.make_room();
    archive.for_each_row(|row| {
        let header = row.header();
        if wanted(&header) {
            let values = shown(source, row.values());
            add(&mut rows, keys.of_row(&header, row), values, row.bucket_values());
        }
    });
    EMERGENCY.for_each(|header, values| {
        let marker = header.marker.name().unwrap_or("[lost]");
        if wanted(&header) {
            add(&mut rows, keys.key(&header, Stack::Marker(marker)), values, None);
        }
    });
    (rows, At::new(archive.now()))
}

/// Returns what was allocated and what of it is alive, by where it was allocated: objects and bytes.
pub(crate) fn heap() -> (Rows, At) {
    let mut archive = archive::lock();
    archive.make_room();
    let rows = heap_of(|visit| archive.for_each_row(visit), &EMERGENCY);
    (rows, At::new(archive.now()))
}

/// The same of any rows.
///
/// All frees are read before any allocation, so that nothing is freed that is not allocated. A row that
/// comes to be meanwhile is newer than this reading.
///
/// Rows do not end meanwhile.
fn heap_of(for_each: impl FnOnce(&mut dyn FnMut(Row)), emergency: &Emergency) -> Rows {
    let is_alloc = |header: &Header| header.source == Source::Alloc;
    let lost = || {
        let mut sums = [0; VALUES];
        emergency.for_each(|header, values| {
            if is_alloc(&header) {
                add_to(&mut sums, values);
            }
        });
        sums
    };

    let mut freed: Vec<(Row, [i64; 2])> = Vec::new();
    for_each(&mut |row| {
        if is_alloc(&row.header()) {
            freed.push((row, row.shared_values()));
        }
    });
    let [.., lost_freed_bytes, lost_freed_objects] = lost();

    let mut rows = Rows::default();
    let mut keys = Keys::default();
    let [objects, bytes, ..] = lost();
    let key = keys.key(&Header::new(Source::Alloc), Stack::Marker("[lost]"));
    add(&mut rows, key, [objects, bytes, lost_freed_bytes, lost_freed_objects], None);
    for (row, [freed_bytes, freed_objects]) in freed {
        let [objects, bytes, ..] = row.values();
        let key = keys.of_row(&row.header(), row);
        add(&mut rows, key, [objects, bytes, freed_bytes, freed_objects], None);
    }
    for sums in rows.values_mut() {
        // Only now: parts of several threads may make an object together.
        sums.values = shown(Source::Alloc, sums.values);
    }
    rows
}

fn add_to(sums: &mut [i64; VALUES], values: [i64; VALUES]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = sum.wrapping_add(value);
    }
}

/// Adds to a row; sums that are all zero make none, since a row is found before its first value.
pub(crate) fn add(rows: &mut Rows, key: Key, values: [i64; VALUES], waits: Option<Waits>) {
    if values == [0; VALUES] {
        return;
    }
    let sums = rows.entry(key).or_default();
    add_to(&mut sums.values, values);
    if let Some(waits) = waits {
        let cells = sums.waits.get_or_insert_with(|| Box::new([(0, 0); WAIT_BUCKETS]));
        for (cell, (count, nanoseconds)) in cells.iter_mut().zip(waits) {
            cell.0 += count;
            cell.1 += nanoseconds;
        }
    }
}

/// Takes an earlier reading of the same rows away from a later one.
pub(crate) fn subtract(rows: &mut Rows, earlier: Rows) {
    for (key, sums) in earlier {
        let left = rows.entry(key).or_default();
        for (value, earlier) in left.values.iter_mut().zip(sums.values) {
            *value = value.wrapping_sub(earlier);
        }
    }
    rows.retain(|_, sums| sums.values != [0; VALUES]);
}

/// Returns the span paths of all threads with their calls and times.
pub(crate) fn spans() -> Rows {
    let mut rows = Rows::default();
    let mut keys = Keys::default();
    archive::lock().for_each_path(|node| {
        let [calls, busy, idle] = node.values();
        let header = Header { node: Some(node), ..Header::new(Source::Custom) };
        let key = keys.key(&header, Stack::Native(Vec::new().into()));
        add(&mut rows, key, [calls, busy, idle, 0], None);
    });
    rows
}

/// Returns how many threads were created where, and how many there are or were that come from nobody knows
/// where.
pub(crate) fn threads() -> (Rows, At) {
    let (mut rows, at) = tallies(Source::Threadcreate, None);
    let unknown = i64::try_from(origin::from_unknown()).unwrap_or(i64::MAX);
    let header = Header::new(Source::Threadcreate);
    let key = Keys::default().key(&header, Stack::Marker("[unknown]"));
    add(&mut rows, key, [unknown, 0, 0, 0], None);
    (rows, at)
}

/// What tallies hold besides their rows.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Held {
    /// Waits, charges and allocations, as their weights count them.
    pub(crate) records: i64,
    /// Those of them under `[overflow]` and `[lost]`.
    pub(crate) lost: i64,
    pub(crate) bytes: usize,
}

/// Returns what all tallies hold.
pub(crate) fn held() -> Held {
    let mut counted = Counted::default();
    let archive = archive::lock();
    archive.for_each_row(|row| counted.add(&row.header(), row.values()[0]));
    let threads = thread::all().map(|thread| thread.bytes()).sum::<usize>();
    let bytes = crate::labels::bytes() + archive.bytes() + threads;
    EMERGENCY.for_each(|header, values| counted.add(&header, values[0]));
    let [records, lost] = counted.sums();
    Held { records, lost, bytes }
}

/// Records, and those of them whose stack was not kept.
#[derive(Default)]
struct Counted {
    waits: [i64; 2],
    /// In parts of [`OBJECT`].
    allocations: [i64; 2],
}

impl Counted {
    fn add(&mut self, header: &Header, count: i64) {
        let [records, lost] = match header.source {
            Source::Block | Source::Mutex => &mut self.waits,
            Source::Alloc => &mut self.allocations,
            Source::Threadcreate | Source::Custom | Source::Cpu => return,
        };
        *records += count;
        if matches!(header.marker, Marker::Overflow | Marker::Lost) {
            *lost += count;
        }
    }

    fn sums(&self) -> [i64; 2] {
        [0, 1].map(|i| self.waits[i] + self.allocations[i] / OBJECT)
    }
}

#[cfg(test)]
mod tests;
