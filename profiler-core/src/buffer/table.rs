//! Rows of one writer, and where they are.
//!
//! Slots hold pointers to rows; when they are three quarters full the table gets a further segment, four
//! times as large; look-ups go from the newest segment to the oldest, readers through all. Memory comes
//! from the system, never from the program's own allocator.

#![allow(unsafe_code, reason = "rows of variable length in memory that one writer fills")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
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

// SAFETY: the cells are touched by whoever has taken the table out.
unsafe impl Sync for Table {}
// SAFETY: the memory it points to is not bound to a thread.
unsafe impl Send for Table {}

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

impl Table {
    pub(super) fn bytes(&self) -> usize {
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

    pub(super) fn for_each(&self, mut visit: impl FnMut(Row)) {
        for slot in self.segments().flat_map(slots) {
            // Acquire: pairs with the Release in `append`; the row is initialised.
            if let Some(row) = row_of(slot.load(Ordering::Acquire)) {
                visit(row);
            }
        }
    }

    pub(super) fn look_up(&self, hash: u64, key: RowKey<'_>) -> Option<Row> {
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
    pub(super) fn append(
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

    /// Makes an empty table; nothing if there is no memory.
    pub(super) fn make(memory: Memory) -> Option<NonNull<Self>> {
        let table = NonNull::new((memory.fetch)(Layout::new::<Self>()))?.cast::<Self>();
        let content = Self {
            newest: AtomicPtr::new(ptr::null_mut()),
            memory,
            used: Cell::new(0),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(size_of::<Self>() as u64),
            chunk: Cell::new(ptr::null_mut()),
            free: Rest::new(),
        };
        // SAFETY: fresh memory of this layout.
        unsafe { table.write(content) };
        Some(table)
    }

    /// Whether rows end with the table, rather than each by itself.
    pub(super) const fn has_chunks(&self) -> bool {
        self.memory.chunk != 0
    }

    /// Returns the number of rows.
    pub(super) fn len(&self) -> usize {
        // Relaxed: a figure for people.
        self.rows.load(Ordering::Relaxed) as usize
    }

    /// Ends the table. Rows that `keeps` stay; only where rows are fetched by themselves.
    ///
    /// # Safety
    ///
    /// It is from `make`, and nobody else has it.
    pub(super) unsafe fn end(place: NonNull<Self>, mut keeps: impl FnMut(Row) -> bool) {
        // SAFETY: given by the caller.
        let table = unsafe { place.as_ref() };
        let memory = table.memory;
        let has_chunks = table.has_chunks();
        table.for_each(|row| {
            if !keeps(row) && !has_chunks {
                // SAFETY: nobody holds it, and it is in no other table.
                unsafe { end_row(row, memory) };
            }
        });
        let give = |part: NonNull<u8>, layout: Option<Layout>| {
            if let Some(layout) = layout {
                (memory.give_back)(part.as_ptr(), layout);
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
        while let Some(head) = NonNull::new(chunk) {
            // SAFETY: the head of a chunk, initialised when it was fetched.
            let Chunk { older, size } = unsafe { head.read() };
            give(head.cast(), Self::chunk_layout(size));
            chunk = older;
        }
        give(place.cast(), Some(Layout::new::<Self>()));
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

/// Returns a new row in no table, for tests of who reads rows; one thread may add to it.
#[cfg(test)]
pub(crate) fn lone_row(header: [u64; super::row::HEADER], frames: &[u64]) -> Row {
    make_row(RowKey { header, frames }, false, Memory::SYSTEM).expect("memory")
}
