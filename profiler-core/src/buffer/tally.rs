//! The sums of one writer, which readers never stop and anybody may take away.
//!
//! A row is a key (a few words and the addresses of a stack) and up to four sums. The writer finds
//! the row of a key by hashing, or appends one, and adds by a load and a store: nobody else writes.
//!
//! Rows stand in a table. Its slots hold pointers to rows; when they are three quarters full the
//! table gets a further segment, four times as large; look-ups go from the newest segment to the
//! oldest, readers through all. Memory comes from the system, never from the program's own
//! allocator.
//!
//! Whoever writes takes the table out by an exchange and puts it back. So does whoever takes it away
//! for good, to end it: the writer finds nothing there and begins another one.

#![allow(unsafe_code, reason = "rows of variable length in memory that one writer fills")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use super::primitive::{AtomicPtr, AtomicU64, Ordering};
use super::rest::Rest;
use super::row::{Row, RowKey};

/// Each segment is so many times as large as the one before: few segments to look through.
const GROWTH: usize = 4;

/// Where a tally takes its memory from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// Returns memory of a layout, or null.
    pub(crate) fetch: fn(Layout) -> *mut u8,
    /// Gives back what `fetch` returned, of the same layout.
    pub(crate) give_back: fn(*mut u8, Layout),
    /// Bytes that are fetched at a time, and given back only with the whole table; 0 to fetch every
    /// row by itself.
    pub(crate) chunk: usize,
}

impl Memory {
    /// The system's allocator.
    pub(crate) const SYSTEM: Self = Self {
        fetch: |layout| {
            // SAFETY: no layout here is of size zero.
            unsafe { System.alloc(layout) }
        },
        give_back: |memory, layout| {
            // SAFETY: from `fetch`, of the same layout.
            unsafe { System.dealloc(memory, layout) }
        },
        chunk: 0,
    };
}

#[repr(C)]
struct Segment {
    /// The segment before this one, or null.
    older: *mut Segment,
    slots: usize,
    // So many `AtomicPtr<()>` follow.
}

/// The head of a chunk: rows and segments are cut off its other end.
#[repr(C, align(16))]
struct Chunk {
    older: *mut Chunk,
    size: usize,
}

/// Rows of one writer.
#[derive(Debug)]
pub(crate) struct Table {
    /// The newest segment, or null.
    newest: AtomicPtr<Segment>,
    memory: Memory,
    /// Rows in the newest segment; the writer's.
    used: Cell<usize>,
    /// Rows in all segments; the writer's, but read by others.
    rows: AtomicU64,
    /// Bytes held; the writer's, but read by others.
    bytes: AtomicU64,
    /// The newest chunk, or null, and what of it is unused; the writer's.
    chunk: Cell<*mut Chunk>,
    free: Rest<u8>,
}

/// The place of a writer's table.
pub(crate) struct Tally {
    /// The table, or null.
    table: AtomicPtr<Table>,
    /// The table, for whoever takes it out to write it or to take it away; null if there is none,
    /// and [`TAKEN`] while it is out.
    right: AtomicPtr<Table>,
    first_slots: usize,
    memory: Memory,
}

/// An address that no table has.
const TAKEN: *mut Table = ptr::without_provenance_mut(1);

// SAFETY: the cells are touched by whoever has taken the table out.
unsafe impl Sync for Table {}
// SAFETY: the memory it points to is not bound to a thread.
unsafe impl Send for Table {}

/// The right to write a tally, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    tally: &'a Tally,
    table: Cell<*mut Table>,
    /// It belongs to the thread that took it.
    on_this_thread: PhantomData<*mut ()>,
}

/// A table that was taken away from its writer. Its rows and its memory end with it, but for those
/// that are moved out.
#[derive(Debug)]
pub(crate) struct TakenAway(NonNull<Table>);

// SAFETY: whoever has it has the table alone.
unsafe impl Send for TakenAway {}

fn slots<'a>(segment: NonNull<Segment>) -> &'a [AtomicPtr<()>] {
    // SAFETY: segments are initialised before they are published, and end with their table, which
    // the caller reads.
    let count = unsafe { segment.as_ref() }.slots;
    let first = segment.as_ptr().wrapping_add(1).cast_const().cast();
    // SAFETY: so many slots stand behind the head, written before publication.
    unsafe { std::slice::from_raw_parts(first, count) }
}

fn segment_layout(slots: usize) -> Option<Layout> {
    let array = Layout::array::<AtomicPtr<()>>(slots).ok()?;
    Some(Layout::new::<Segment>().extend(array).ok()?.0.pad_to_align())
}

fn row_of(slot: *mut ()) -> Option<Row> {
    // SAFETY: slots hold null or rows' own pointers.
    unsafe { Row::from_raw(slot) }
}

impl Tally {
    /// Makes an empty tally of two null pointers, the first segment of whose tables will have
    /// `first_slots` slots (a power of two).
    pub(crate) const fn new(
        [table, right]: [AtomicPtr<Table>; 2],
        first_slots: usize,
        memory: Memory,
    ) -> Self {
        Self { table, right, first_slots, memory }
    }

    fn table(&self) -> Option<&Table> {
        // Acquire: pairs with the Release in `Taken::begin`: the table is initialised.
        let table = self.table.load(Ordering::Acquire);
        // SAFETY: null, or a table that ends when it is taken away, which is not done while somebody
        // reads.
        unsafe { table.as_ref() }
    }

    /// Returns the number of rows. As for [`Tally::for_each`].
    pub(crate) fn len(&self) -> usize {
        // Relaxed: a figure for people.
        self.table().map_or(0, |table| table.rows.load(Ordering::Relaxed) as usize)
    }

    /// Returns the bytes fetched. As for [`Tally::for_each`].
    pub(crate) fn bytes(&self) -> usize {
        self.table().map_or(0, Table::bytes)
    }

    /// Calls `visit` with every row. Any thread may at any time that nobody takes the table away.
    pub(crate) fn for_each(&self, visit: impl FnMut(Row)) {
        if let Some(table) = self.table() {
            table.for_each(visit);
        }
    }

    /// Takes the right to write; nothing if somebody has it.
    ///
    /// # Safety
    ///
    /// Only the writer calls this, at most one thread at a time. It may call it again from within
    /// itself, as from a signal's handler, and then gets nothing.
    #[inline]
    pub(crate) unsafe fn take(&self) -> Option<Taken<'_>> {
        // Acquire: pairs with the Release of whoever put the table back, or took it away.
        let table = self.right.swap(TAKEN, Ordering::Acquire);
        (table != TAKEN).then_some(Taken {
            tally: self,
            table: Cell::new(table),
            on_this_thread: PhantomData,
        })
    }

    /// Returns whether somebody is writing.
    pub(crate) fn is_out(&self) -> bool {
        // Acquire: what whoever has put it back did before is done.
        self.right.load(Ordering::Acquire) == TAKEN
    }

    /// Takes the table away, if there is one that nobody is writing.
    ///
    /// # Safety
    ///
    /// Nobody reads meanwhile, and nobody else takes away.
    pub(crate) unsafe fn take_away(&self) -> Option<TakenAway> {
        // Relaxed: the exchange decides.
        let table = self.right.load(Ordering::Relaxed);
        if table.is_null() || table == TAKEN {
            return None;
        }
        // Acquire: pairs with the Release in `drop` of the right: all that was written is seen.
        // Release: the writer that finds nothing has all of this before it.
        let none = ptr::null_mut();
        self.right.compare_exchange(table, none, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        // The writer may have begun another one already: that one stays.
        // Relaxed, both: nobody reads meanwhile.
        let _ = self.table.compare_exchange(table, none, Ordering::Relaxed, Ordering::Relaxed);
        NonNull::new(table).map(TakenAway)
    }

    /// Gives the right to write back that a thread took which is gone.
    ///
    /// # Safety
    ///
    /// The caller is the only writer.
    pub(crate) unsafe fn recover(&self) {
        // Relaxed, all: the caller has the tally to itself but for readers, and for whoever takes the
        // table away, who does so to one that is not out.
        if self.right.load(Ordering::Relaxed) == TAKEN {
            self.right.store(self.table.load(Ordering::Relaxed), Ordering::Release);
        }
    }
}

impl Taken<'_> {
    /// Returns the row of a key and whether it is new, appending one if there is none and there is
    /// room; nothing if there is none, or the system has no memory.
    pub(crate) fn find(&self, key: RowKey<'_>, bucketed: bool, room: bool) -> Option<(Row, bool)> {
        let hash = key.hash();
        let table = match NonNull::new(self.table.get()) {
            Some(table) => table,
            None if room => self.begin()?,
            None => return None,
        };
        // SAFETY: this thread has taken it out.
        let table = unsafe { table.as_ref() };
        let known = table.look_up(hash, key).map(|row| (row, false));
        known.or_else(|| {
            let first_slots = self.tally.first_slots;
            let row = room.then(|| table.append(key, hash, bucketed, first_slots)).flatten()?;
            Some((row, true))
        })
    }

    /// Returns the bytes of the table.
    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: null, or taken out by this thread.
        unsafe { self.table.get().as_ref() }.map_or(0, Table::bytes)
    }

    /// Makes a table, since there is none.
    #[cold]
    fn begin(&self) -> Option<NonNull<Table>> {
        let memory = self.tally.memory;
        let table = NonNull::new((memory.fetch)(Layout::new::<Table>()))?.cast::<Table>();
        let content = Table {
            newest: AtomicPtr::new(ptr::null_mut()),
            memory,
            used: Cell::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(size_of::<Table>() as u64),
            chunk: Cell::new(ptr::null_mut()),
            free: Rest::new(),
        };
        // SAFETY: fresh memory of this layout.
        unsafe { table.write(content) };
        // Release: pairs with the Acquire in `Tally::table`.
        self.tally.table.store(table.as_ptr(), Ordering::Release);
        self.table.set(table.as_ptr());
        Some(table)
    }
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of whoever takes it next.
        self.tally.right.store(self.table.get(), Ordering::Release);
    }
}

impl Table {
    fn bytes(&self) -> usize {
        // Relaxed: a figure for people.
        self.bytes.load(Ordering::Relaxed) as usize
    }

    fn segments(&self) -> impl Iterator<Item = NonNull<Segment>> {
        // Acquire: pairs with the Release in `grow`; the segment's slots are initialised.
        let mut next = self.newest.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            let segment = NonNull::new(next)?;
            // SAFETY: initialised before it was published; it ends with the table.
            next = unsafe { segment.as_ref() }.older;
            Some(segment)
        })
    }

    fn for_each(&self, mut visit: impl FnMut(Row)) {
        for slot in self.segments().flat_map(slots) {
            // Acquire: pairs with the Release in `append`; the row is initialised.
            if let Some(row) = row_of(slot.load(Ordering::Acquire)) {
                visit(row);
            }
        }
    }

    fn look_up(&self, hash: u64, key: RowKey<'_>) -> Option<Row> {
        self.segments().find_map(|segment| {
            let slots = slots(segment);
            let mut index = hash as usize % slots.len();
            loop {
                // Relaxed: the writer reads its own stores; a quarter of the slots is empty, so it
                // ends.
                let row = row_of(slots[index].load(Ordering::Relaxed))?;
                if row.hash() == hash && row.key() == key {
                    return Some(row);
                }
                index = (index + 1) % slots.len();
            }
        })
    }

    #[cold]
    fn append(
        &self,
        key: RowKey<'_>,
        hash: u64,
        bucketed: bool,
        first_slots: usize,
    ) -> Option<Row> {
        let newest = match self.segments().next() {
            // Three quarters full is where probes begin to lengthen.
            Some(newest) if self.used.get() < slots(newest).len() / 4 * 3 => newest,
            newest => self.grow(newest, first_slots)?,
        };
        let (layout, ..) = Row::layout(key.frames.len(), bucketed)?;
        let memory = self.fetch(layout)?;
        // SAFETY: fresh memory of this layout.
        let row = unsafe { Row::write(memory, key, hash, bucketed) }?;
        let slots = slots(newest);
        let mut index = hash as usize % slots.len();
        // Relaxed: this thread wrote whatever stands there.
        while !slots[index].load(Ordering::Relaxed).is_null() {
            index = (index + 1) % slots.len();
        }
        // Release: pairs with the Acquire in `for_each`: the row's content comes with it.
        slots[index].store(row.into_raw(), Ordering::Release);
        self.used.set(self.used.get() + 1);
        // Relaxed: a figure for people.
        self.rows.store(self.rows.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        Some(row)
    }

    fn grow(
        &self,
        newest: Option<NonNull<Segment>>,
        first_slots: usize,
    ) -> Option<NonNull<Segment>> {
        let count = newest.map_or(first_slots, |segment| slots(segment).len() * GROWTH);
        let segment = self.fetch(segment_layout(count)?)?.cast::<Segment>();
        let older = newest.map_or(ptr::null_mut(), NonNull::as_ptr);
        // SAFETY: fresh memory of this layout.
        unsafe { segment.write(Segment { older, slots: count }) };
        let first = segment.as_ptr().wrapping_add(1).cast::<AtomicPtr<()>>();
        for index in 0..count {
            // SAFETY: within the array that the layout has behind the head.
            unsafe { first.wrapping_add(index).write(AtomicPtr::new(ptr::null_mut())) };
        }
        // Release: pairs with the Acquire in `segments`: the slots are seen initialised.
        self.newest.store(segment.as_ptr(), Ordering::Release);
        self.used.set(0);
        Some(segment)
    }

    /// Fetches memory, out of the newest chunk if there are chunks.
    fn fetch(&self, layout: Layout) -> Option<NonNull<u8>> {
        let whole = |size: usize| {
            // Relaxed: a figure for people; one writer.
            let bytes = self.bytes.load(Ordering::Relaxed) + size as u64;
            self.bytes.store(bytes, Ordering::Relaxed);
        };
        if self.memory.chunk == 0 {
            let memory = NonNull::new((self.memory.fetch)(layout))?;
            whole(layout.size());
            return Some(memory);
        }
        let size = layout.size().next_multiple_of(align_of::<Chunk>());
        let (mut next, mut left) = self.free.get();
        if left < size {
            let fetched = self.memory.chunk.max(size_of::<Chunk>() + size);
            let memory = (self.memory.fetch)(Self::chunk_layout(fetched)?);
            let chunk = NonNull::new(memory.cast::<Chunk>())?;
            // SAFETY: fresh memory, large enough for the head.
            unsafe { chunk.write(Chunk { older: self.chunk.get(), size: fetched }) };
            self.chunk.set(chunk.as_ptr());
            whole(fetched);
            (next, left) = (memory.wrapping_add(size_of::<Chunk>()), fetched - size_of::<Chunk>());
        }
        self.free.set(next.wrapping_add(size), left - size);
        NonNull::new(next)
    }

    fn chunk_layout(size: usize) -> Option<Layout> {
        Layout::from_size_align(size, align_of::<Chunk>()).ok()
    }
}

impl TakenAway {
    fn table(&self) -> &Table {
        // SAFETY: whoever has this has the table alone.
        unsafe { self.0.as_ref() }
    }

    /// Returns the bytes that the table took.
    pub(crate) fn bytes(&self) -> usize {
        self.table().bytes()
    }

    /// Whether rows end with the table, rather than each by itself.
    pub(crate) fn has_chunks(&self) -> bool {
        self.table().memory.chunk != 0
    }

    /// Ends the table. Rows that `keeps` stay, for ever; only where rows are fetched by themselves.
    pub(crate) fn end(self, mut keeps: impl FnMut(Row) -> bool) {
        let table = self.table();
        let memory = table.memory;
        let has_chunks = self.has_chunks();
        table.for_each(|row| {
            if !keeps(row) && !has_chunks {
                // SAFETY: nobody holds it, and it is in no other table.
                unsafe { end_row(row, memory) };
            }
        });
        let give = |place: NonNull<u8>, layout: Option<Layout>| {
            if let Some(layout) = layout {
                (memory.give_back)(place.as_ptr(), layout);
            }
        };
        if !has_chunks {
            let mut segments = table.segments();
            let mut next = segments.next();
            while let Some(segment) = next {
                let count = slots(segment).len();
                next = segments.next();
                give(segment.cast(), segment_layout(count));
            }
        }
        let mut chunk = table.chunk.get();
        while let Some(place) = NonNull::new(chunk) {
            // SAFETY: the head of a chunk, initialised when it was fetched.
            let Chunk { older, size } = unsafe { place.read() };
            give(place.cast(), Table::chunk_layout(size));
            chunk = older;
        }
        give(self.0.cast(), Some(Layout::new::<Table>()));
    }
}

/// Gives a row's memory back, which was fetched by itself.
///
/// # Safety
///
/// The row is in no table, nobody holds it, and its memory is of that kind.
pub(crate) unsafe fn end_row(row: Row, memory: Memory) {
    let head: *mut u8 = row.into_raw().cast();
    if let Some((layout, ..)) = Row::layout(row.key().frames.len(), row.is_bucketed()) {
        (memory.give_back)(head, layout);
    }
}

/// Makes a row by itself, in no table.
pub(crate) fn make_row(key: RowKey<'_>, bucketed: bool, memory: Memory) -> Option<Row> {
    let (layout, ..) = Row::layout(key.frames.len(), bucketed)?;
    let place = NonNull::new((memory.fetch)(layout))?;
    // SAFETY: fresh memory of this layout.
    unsafe { Row::write(place, key, key.hash(), bucketed) }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").finish_non_exhaustive()
    }
}

/// Returns a new row in no table, for tests of who reads rows; one thread may add to it.
#[cfg(test)]
pub(crate) fn lone_row(header: [u64; super::row::HEADER], frames: &[u64]) -> Row {
    make_row(RowKey { header, frames }, false, Memory::SYSTEM).expect("memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::row::{BUCKETS, HeldRow};

    fn key(frames: &[u64]) -> RowKey<'_> {
        RowKey { header: [1, 0, 0, 0, 0, 0], frames }
    }

    fn tally(memory: Memory) -> Tally {
        Tally::new([0; 2].map(|_| AtomicPtr::new(ptr::null_mut())), 4, memory)
    }

    /// Fetched from the system, in chunks.
    const CHUNKS: Memory = Memory { chunk: 1 << 10, ..Memory::SYSTEM };

    fn take(tally: &Tally) -> Taken<'_> {
        // SAFETY: the tests are each one thread.
        unsafe { tally.take() }.expect("nobody has it")
    }

    fn find(tally: &Tally, frames: &[u64], room: bool) -> Option<Row> {
        take(tally).find(key(frames), false, room).map(|(row, _)| row)
    }

    fn take_away(tally: &Tally) -> Option<TakenAway> {
        // SAFETY: the tests are each one thread.
        unsafe { tally.take_away() }
    }

    #[test]
    fn equal_keys_share_a_row_and_sums_add_up() {
        for memory in [Memory::SYSTEM, CHUNKS] {
            let tally = tally(memory);
            for round in 0..10_u64 {
                for stack in 0..100_u64 {
                    let row = find(&tally, &[stack, 7], true).expect("room");
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
    }

    #[test]
    fn without_room_there_are_no_new_rows() {
        let tally = tally(Memory::SYSTEM);
        assert!(find(&tally, &[0], false).is_none());
        assert!(find(&tally, &[0], true).is_some());
        assert!(find(&tally, &[1], false).is_none());
        assert!(find(&tally, &[0], false).is_some());
    }

    #[test]
    fn keys_that_differ_in_any_word_differ() {
        let tally = tally(Memory::SYSTEM);
        let base = find(&tally, &[1, 2, 3], true).expect("room");
        for frames in [&[1_u64, 2][..], &[1, 2, 4], &[3, 2, 1], &[1, 2, 3, 0], &[]] {
            assert_ne!(find(&tally, frames, true).expect("room"), base);
        }
        let other = RowKey { header: [2, 0, 0, 0, 0, 0], frames: &[1, 2, 3] };
        assert_ne!(take(&tally).find(other, false, true).expect("room").0, base);
    }

    #[test]
    fn buckets_are_kept_where_asked_for() {
        let tally = tally(CHUNKS);
        let (row, is_new) = take(&tally).find(key(&[9; 500]), true, true).expect("room");
        assert!(is_new);
        row.add_to_bucket(3, 1, 70);
        row.add_to_bucket(1000, 2, 5);
        let buckets = row.bucket_values().expect("kept");
        assert_eq!((buckets[3], buckets[BUCKETS - 1], buckets[0]), ((1, 70), (2, 5), (0, 0)));
        assert_eq!(find(&tally, &[1], true).expect("room").bucket_values(), None);
    }

    #[test]
    fn what_is_taken_away_is_gone_and_another_begins() {
        for memory in [Memory::SYSTEM, CHUNKS] {
            let tally = tally(memory);
            assert!(take_away(&tally).is_none(), "there is none");
            for stack in 0..100 {
                find(&tally, &[stack], true).expect("room").add([1, 0, 0, 0]);
            }
            let writer = take(&tally);
            assert!(take_away(&tally).is_none(), "it is out");
            // SAFETY: one thread.
            assert!(unsafe { tally.take() }.is_none(), "it is out");
            drop(writer);
            let away = take_away(&tally).expect("it is in");
            assert_eq!((tally.len(), tally.bytes()), (0, 0));
            find(&tally, &[1], true).expect("room").add([5, 0, 0, 0]);
            let mut rows = 0;
            away.end(|row| {
                rows += 1;
                assert_eq!(row.values(), [1, 0, 0, 0]);
                false
            });
            assert_eq!((rows, tally.len()), (100, 1));
        }
    }

    #[test]
    fn a_held_row_says_so() {
        let row = lone_row([1; 6], &[1]);
        let held = row.hold();
        let again = held.clone();
        drop(held);
        assert!(row.is_held());
        // SAFETY: given once, taken back once.
        drop(unsafe { HeldRow::from_raw(again.into_raw()) });
        assert!(!row.is_held());
    }
}
