//! A table of sums with one writer, which readers never stop.
//!
//! A row is a key (a few words and the addresses of a stack) and up to four sums. The writer finds
//! the row of a key by hashing, or appends one, and adds by a load and a store: nobody else writes.
//! Rows are never moved and never freed, so whoever has seen a row may read it for ever.
//!
//! Slots hold pointers to rows. A full table gets a further segment, four times as large; look-ups
//! go from the newest segment to the oldest, readers through all. Memory comes from the system
//! allocator, never from the program's own.

#![allow(unsafe_code, reason = "rows of variable length in memory that is never freed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{self, NonNull};

use super::primitive::{AtomicPtr, AtomicU64, Ordering};
use super::rest::Rest;
use super::row::{BUCKETS, Bucket, Row, RowHead, RowKey};

/// Each segment is so many times as large as the one before: few segments to look through.
const GROWTH: usize = 4;
/// Bytes fetched at a time for rows: about ten stacks of 30 frames.
const CHUNK: usize = 4096;

#[repr(C)]
struct Segment {
    /// The segment before this one, or null.
    older: *const Segment,
    slots: usize,
    // So many `AtomicPtr<RowHead>` follow.
}

/// A segment in memory that lives for ever.
#[derive(Clone, Copy)]
struct SegmentRef(NonNull<Segment>);

impl SegmentRef {
    fn slots(&self) -> &'static [AtomicPtr<RowHead>] {
        // SAFETY: segments are initialised before they are published, and live for ever.
        let slots = unsafe { self.0.as_ref() }.slots;
        let first = self.0.as_ptr().wrapping_add(1).cast_const().cast();
        // SAFETY: so many slots stand behind the head, written before publication.
        unsafe { std::slice::from_raw_parts(first, slots) }
    }

    fn older(&self) -> Option<Self> {
        // SAFETY: as in `slots`.
        let older = unsafe { self.0.as_ref() }.older;
        NonNull::new(older.cast_mut()).map(Self)
    }
}

/// Where a tally takes its memory from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Returns memory of a layout, or null.
    pub(crate) fetch: fn(Layout) -> *mut u8,
    /// Bytes that are fetched at a time, for rows and, if they fit, for segments.
    pub(crate) chunk: usize,
}

impl Memory {
    /// The system's allocator.
    pub(crate) const SYSTEM: Self = Self { fetch: fetch_from_system, chunk: CHUNK };
}

fn fetch_from_system(layout: Layout) -> *mut u8 {
    // SAFETY: no layout here is of size zero.
    unsafe { System.alloc(layout) }
}

/// The table of one writer.
///
/// Rows only ever come to it; the writer's side (`find`, `Row::add`) is for one thread at a time,
/// which the owner of the tally sees to.
pub(crate) struct Tally {
    /// The newest segment.
    newest: AtomicPtr<Segment>,
    first_slots: usize,
    memory: Memory,
    /// Rows in the newest segment; the writer's.
    used: Cell<usize>,
    /// Rows in all segments; the writer's, but read by others.
    rows: AtomicU64,
    /// Bytes held; the writer's, but read by others.
    bytes: AtomicU64,
    /// Unused memory of the last chunk; the writer's.
    free: Rest<u8>,
}

// SAFETY: the cells are touched by the writer alone, which `find` demands of its caller.
unsafe impl Sync for Tally {}
// SAFETY: the memory it points to is not bound to a thread.
unsafe impl Send for Tally {}

impl Tally {
    /// Makes an empty tally, whose first segment will have `first_slots` slots (a power of two).
    pub(crate) fn new(first_slots: usize, memory: Memory) -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
            first_slots,
            memory,
            used: Cell::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            free: Rest::new(),
        }
    }

    fn newest(&self) -> Option<SegmentRef> {
        // Acquire: pairs with the Release in `grow`; the segment's slots are initialised.
        NonNull::new(self.newest.load(Ordering::Acquire)).map(SegmentRef)
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        // Relaxed: a figure for people.
        self.rows.load(Ordering::Relaxed) as usize
    }

    /// Returns the bytes fetched from the system.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a figure for people.
        self.bytes.load(Ordering::Relaxed) as usize
    }

    /// Calls `visit` with every row; any thread may, at any time.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Row)) {
        let mut segment = self.newest();
        while let Some(current) = segment {
            for slot in current.slots() {
                // Acquire: pairs with the Release in `find`; the row is initialised.
                if let Some(row) = NonNull::new(slot.load(Ordering::Acquire)) {
                    visit(Row(row));
                }
            }
            segment = current.older();
        }
    }

    /// Returns the row of a key, appending one if there is none and fewer than `limit` rows.
    ///
    /// Nothing if the table is full or the system has no memory.
    ///
    /// # Safety
    ///
    /// Only one thread at a time may call this on one tally, and not from within itself.
    pub(crate) unsafe fn find(&self, key: RowKey<'_>, bucketed: bool, limit: usize) -> Option<Row> {
        let hash = key.hash();
        let mut segment = self.newest();
        while let Some(current) = segment {
            if let Some(row) = look_up(current.slots(), hash, key) {
                return Some(row);
            }
            segment = current.older();
        }
        if self.len() >= limit {
            return None;
        }
        let newest = match self.newest() {
            // Three quarters full is where probes begin to lengthen.
            Some(newest) if self.used.get() < newest.slots().len() / 4 * 3 => newest,
            newest => self.grow(newest)?,
        };
        let row = self.append(key, hash, bucketed)?;
        let slots = newest.slots();
        let mut index = hash as usize % slots.len();
        // Relaxed: this thread wrote whatever stands there.
        while !slots[index].load(Ordering::Relaxed).is_null() {
            index = (index + 1) % slots.len();
        }
        // Release: pairs with the Acquire in `for_each`: the row's content comes with it.
        slots[index].store(row.0.as_ptr(), Ordering::Release);
        self.used.set(self.used.get() + 1);
        // Relaxed: a figure for people, and this thread's own limit.
        self.rows.store(self.rows.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(row)
    }

    #[cold]
    fn grow(&self, newest: Option<SegmentRef>) -> Option<SegmentRef> {
        let slots = newest.map_or(self.first_slots, |segment| segment.slots().len() * GROWTH);
        let layout = Layout::new::<Segment>()
            .extend(Layout::array::<AtomicPtr<RowHead>>(slots).ok()?)
            .ok()?
            .0;
        let segment = self.carve(layout)?.cast::<Segment>();
        let older = newest.map_or(ptr::null(), |segment| segment.0.as_ptr().cast_const());
        // SAFETY: fresh memory of this layout.
        unsafe { segment.write(Segment { older, slots }) };
        let first = segment.as_ptr().wrapping_add(1).cast::<AtomicPtr<RowHead>>();
        for index in 0..slots {
            // SAFETY: within the array that the layout has behind the head.
            unsafe { first.wrapping_add(index).write(AtomicPtr::new(ptr::null_mut())) };
        }
        // Release: pairs with the Acquire in `newest`: the slots are seen initialised.
        self.newest.store(segment.as_ptr(), Ordering::Release);
        self.used.set(0);
        Some(SegmentRef(segment))
    }

    #[cold]
    fn append(&self, key: RowKey<'_>, hash: u64, bucketed: bool) -> Option<Row> {
        let buckets = Layout::array::<Bucket>(if bucketed { BUCKETS } else { 0 }).ok()?;
        let (layout, frames_at) =
            Layout::new::<RowHead>().extend(Layout::array::<u64>(key.frames.len()).ok()?).ok()?;
        let (layout, buckets_at) = layout.extend(buckets).ok()?;
        let memory = self.carve(layout.pad_to_align())?;
        let head = memory.cast::<RowHead>();
        let content = RowHead {
            hash,
            header: key.header,
            depth: key.frames.len(),
            bucketed,
            values: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        // SAFETY: fresh memory of this layout.
        unsafe { head.write(content) };
        let frames = memory.as_ptr().wrapping_add(frames_at).cast::<u64>();
        // SAFETY: the layout has room for them, and fresh memory cannot overlap.
        unsafe { ptr::copy_nonoverlapping(key.frames.as_ptr(), frames, key.frames.len()) };
        let first = memory.as_ptr().wrapping_add(buckets_at).cast::<Bucket>();
        for index in 0..if bucketed { BUCKETS } else { 0 } {
            let bucket = Bucket { count: AtomicU64::new(0), sum: AtomicU64::new(0) };
            // SAFETY: within the array that the layout has at its end.
            unsafe { first.wrapping_add(index).write(bucket) };
        }
        Some(Row(head))
    }

    /// Cuts memory off the last chunk, fetching another when it is too small.
    fn carve(&self, layout: Layout) -> Option<NonNull<u8>> {
        debug_assert!(layout.align() <= align_of::<RowHead>());
        let (mut next, mut left) = self.free.get();
        if left < layout.size() {
            if layout.size() > self.memory.chunk / 2 {
                return self.fetch(layout);
            }
            left = self.memory.chunk;
            next = self.fetch(Layout::from_size_align(left, align_of::<RowHead>()).ok()?)?.as_ptr();
        }
        self.free.set(next.wrapping_add(layout.size()), left - layout.size());
        NonNull::new(next)
    }

    fn fetch(&self, layout: Layout) -> Option<NonNull<u8>> {
        let memory = (self.memory.fetch)(layout);
        // Relaxed: a figure for people; one writer.
        let bytes = self.bytes.load(Ordering::Relaxed) + layout.size() as u64;
        self.bytes.store(bytes, Ordering::Relaxed);
        NonNull::new(memory)
    }
}

fn look_up(slots: &[AtomicPtr<RowHead>], hash: u64, key: RowKey<'_>) -> Option<Row> {
    let mut index = hash as usize % slots.len();
    loop {
        // Relaxed: the writer reads its own stores; a quarter of the slots is empty, so it ends.
        let row = Row(NonNull::new(slots[index].load(Ordering::Relaxed))?);
        if row.head().hash == hash && row.key() == key {
            return Some(row);
        }
        index = (index + 1) % slots.len();
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("rows", &self.len()).finish_non_exhaustive()
    }
}

/// Returns a new row of a tally of its own, for tests of who reads rows; one thread may add to it.
#[cfg(test)]
pub(crate) fn lone_row(header: [u64; super::row::HEADER], frames: &[u64]) -> Row {
    let tally = Tally::new(4, Memory::SYSTEM);
    // SAFETY: nobody else has the tally.
    unsafe { tally.find(RowKey { header, frames }, false, 1) }.expect("memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(frames: &[u64]) -> RowKey<'_> {
        RowKey { header: [1, 0, 0, 0, 0, 0], frames }
    }

    fn find(tally: &Tally, frames: &[u64], limit: usize) -> Option<Row> {
        // SAFETY: the tests are each one thread.
        unsafe { tally.find(key(frames), false, limit) }
    }

    #[test]
    fn equal_keys_share_a_row_and_sums_add_up() {
        let tally = Tally::new(4, Memory::SYSTEM);
        for round in 0..10_u64 {
            for stack in 0..100_u64 {
                let row = find(&tally, &[stack, 7], 1000).expect("room");
                row.add([1, round as i64, 0, 0]);
            }
        }
        assert_eq!(tally.len(), 100);
        let mut rows = 0;
        tally.for_each(|row| {
            rows += 1;
            assert_eq!(row.values(), [10, 45, 0, 0]);
        });
        assert_eq!(rows, 100);
    }

    #[test]
    fn the_limit_holds_for_new_rows_only() {
        let tally = Tally::new(4, Memory::SYSTEM);
        for stack in 0..3 {
            assert!(find(&tally, &[stack], 3).is_some());
        }
        assert!(find(&tally, &[3], 3).is_none());
        assert!(find(&tally, &[2], 3).is_some());
    }

    #[test]
    fn keys_that_differ_in_any_word_differ() {
        let tally = Tally::new(4, Memory::SYSTEM);
        let base = find(&tally, &[1, 2, 3], 100).expect("room");
        for frames in [&[1_u64, 2][..], &[1, 2, 4], &[3, 2, 1], &[1, 2, 3, 0], &[]] {
            assert_ne!(find(&tally, frames, 100).expect("room"), base);
        }
        let other = RowKey { header: [2, 0, 0, 0, 0, 0], frames: &[1, 2, 3] };
        // SAFETY: one thread.
        assert_ne!(unsafe { tally.find(other, false, 100) }.expect("room"), base);
    }

    #[test]
    fn buckets_are_kept_where_asked_for() {
        let tally = Tally::new(4, Memory::SYSTEM);
        // SAFETY: one thread.
        let row = unsafe { tally.find(key(&[9; 500]), true, 10) }.expect("room");
        row.add_to_bucket(3, 1, 70);
        row.add_to_bucket(1000, 2, 5);
        let buckets = row.bucket_values().expect("kept");
        assert_eq!((buckets[3], buckets[BUCKETS - 1], buckets[0]), ((1, 70), (2, 5), (0, 0)));
        assert_eq!(find(&tally, &[1], 10).expect("room").bucket_values(), None);
    }
}
