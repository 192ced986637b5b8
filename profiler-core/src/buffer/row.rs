//! A row of a tally: a key and its sums, in memory that is never moved.
//!
//! A row ends when it is in no table and nobody holds it. The archive alone ends rows; whoever
//! holds one adds to its sums for as long as he likes.

#![allow(unsafe_code, reason = "addresses of variable number behind a fixed head")]

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::primitive::{AtomicU64, Ordering};

/// Words of a key besides the stack.
pub(crate) const HEADER: usize = 6;
/// Sums of a row.
pub(crate) const VALUES: usize = 4;
/// Buckets of a row that keeps them.
pub(crate) const BUCKETS: usize = 19;

/// What tells one row from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowKey<'a> {
    pub(crate) header: [u64; HEADER],
    /// Addresses, leaf first.
    pub(crate) frames: &'a [u64],
}

impl RowKey<'_> {
    /// Multiplies every word in, in four lanes, since one chain would wait for each product.
    pub(crate) fn hash(&self) -> u64 {
        const K: u64 = 0x9E37_79B9_7F4A_7C15;
        let mix = |lane: u64, word: u64| (lane.rotate_left(23) ^ word).wrapping_mul(K);
        let mut lanes = [self.frames.len() as u64, 1, 2, 3];
        for words in [&self.header[..], self.frames] {
            let (fours, rest) = words.as_chunks::<4>();
            for four in fours {
                lanes = std::array::from_fn(|lane| mix(lanes[lane], four[lane]));
            }
            for (lane, &word) in lanes.iter_mut().zip(rest) {
                *lane = mix(*lane, word);
            }
        }
        let hash = lanes.into_iter().fold(0, |hash: u64, lane| mix(hash, lane));
        hash ^ (hash >> 32)
    }
}

/// Count and sum of the values that fell into one bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) count: AtomicU64,
    pub(super) sum: AtomicU64,
}

#[repr(C)]
pub(super) struct RowHead {
    /// Written before the row is published, and by the archive when it is in no table. Who holds a row
    /// without having the archive does not read this.
    title: UnsafeCell<Title>,
    depth: usize,
    /// Whether a `[Bucket; BUCKETS]` follows the addresses.
    bucketed: bool,
    /// How many may add to the sums or read the addresses besides the table that it is in.
    holders: AtomicU64,
    values: [AtomicU64; VALUES],
    // `depth` addresses follow, then the buckets.
}

#[derive(Clone, Copy)]
struct Title {
    hash: u64,
    header: [u64; HEADER],
}

/// A key and its sums. Valid while the table that it was found in may not be emptied, or while it
/// is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row(pub(super) NonNull<RowHead>);

// SAFETY: addresses and title are written before the row is published, or by whoever has it alone;
// the sums and the count of holders are atomics.
unsafe impl Send for Row {}
// SAFETY: as for Send.
unsafe impl Sync for Row {}

/// A row that does not end while this is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HeldRow(Row);

impl HeldRow {
    /// Gives the hold up to a word, which [`HeldRow::from_raw`] takes back.
    pub(crate) fn into_raw(self) -> *mut () {
        let row = self.0;
        std::mem::forget(self);
        row.into_raw()
    }

    /// Takes back what [`HeldRow::into_raw`] gave; nothing for null.
    ///
    /// # Safety
    ///
    /// The pointer is null or came from `into_raw`, and is taken back once.
    pub(crate) unsafe fn from_raw(row: *mut ()) -> Option<Self> {
        NonNull::new(row.cast()).map(|head| Self(Row(head)))
    }
}

impl Deref for HeldRow {
    type Target = Row;

    fn deref(&self) -> &Row {
        &self.0
    }
}

impl Clone for HeldRow {
    fn clone(&self) -> Self {
        self.0.hold()
    }
}

impl Drop for HeldRow {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `is_held`: what the holder has added is seen by whoever
        // ends the row.
        self.0.head().holders.fetch_sub(1, Ordering::Release);
    }
}

impl Row {
    fn head(&self) -> &RowHead {
        // SAFETY: rows are initialised before a `Row` is made, and nobody has one that has ended.
        unsafe { self.0.as_ref() }
    }

    /// Returns the layout of a row, and where in it the addresses and the buckets begin.
    pub(super) fn layout(depth: usize, bucketed: bool) -> Option<(Layout, usize, usize)> {
        let buckets = Layout::array::<Bucket>(if bucketed { BUCKETS } else { 0 }).ok()?;
        let frames = Layout::array::<u64>(depth).ok()?;
        let (layout, frames_at) = Layout::new::<RowHead>().extend(frames).ok()?;
        let (layout, buckets_at) = layout.extend(buckets).ok()?;
        Some((layout.pad_to_align(), frames_at, buckets_at))
    }

    /// Writes a row without sums.
    ///
    /// # Safety
    ///
    /// The memory is fresh and has the layout of the key's depth.
    pub(super) unsafe fn write(
        memory: NonNull<u8>,
        key: RowKey<'_>,
        hash: u64,
        bucketed: bool,
    ) -> Option<Self> {
        let (_, frames_at, buckets_at) = Self::layout(key.frames.len(), bucketed)?;
        let head = memory.cast::<RowHead>();
        let content = RowHead {
            title: UnsafeCell::new(Title { hash, header: key.header }),
            depth: key.frames.len(),
            bucketed,
            holders: AtomicU64::new(0),
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
        Some(Self(head))
    }

    /// Returns the bytes that the row takes.
    pub(crate) fn size(&self) -> usize {
        let head = self.head();
        Self::layout(head.depth, head.bucketed).map_or(0, |(layout, ..)| layout.size())
    }

    pub(crate) fn is_bucketed(&self) -> bool {
        self.head().bucketed
    }

    /// Holds the row, whose memory was fetched by itself. The caller has it for certain: by its table,
    /// or as a holder.
    pub(crate) fn hold(&self) -> HeldRow {
        // Relaxed: whoever ends rows has taken the table away before he asks.
        self.head().holders.fetch_add(1, Ordering::Relaxed);
        HeldRow(*self)
    }

    /// Returns whether anybody holds the row. One that nobody holds and that is in no table that is
    /// written stays so.
    pub(crate) fn is_held(&self) -> bool {
        // Acquire: pairs with the Release where a hold ends.
        self.head().holders.load(Ordering::Acquire) != 0
    }

    /// Gives the row another header.
    ///
    /// # Safety
    ///
    /// The row is in no table, and nobody reads its key: those who hold it do not.
    pub(crate) unsafe fn retitle(&self, header: [u64; HEADER]) {
        let hash = RowKey { header, frames: self.frames() }.hash();
        // SAFETY: nobody else reads it.
        unsafe { *self.head().title.get() = Title { hash, header } };
    }

    pub(super) fn hash(&self) -> u64 {
        self.title().hash
    }

    fn title(&self) -> &Title {
        // SAFETY: written before the row was published, or by the archive, which the caller has then.
        unsafe { &*self.head().title.get() }
    }

    /// Takes the sums and buckets of another row of the same source in.
    ///
    /// Nobody else adds to either.
    pub(crate) fn take_in(&self, other: Row) {
        self.add(other.values());
        for (index, (count, sum)) in other.bucket_values().into_iter().flatten().enumerate() {
            self.add_to_bucket(index, count, sum);
        }
    }

    /// Returns the row as a pointer, for `from_raw`.
    pub(crate) const fn into_raw(self) -> *mut () {
        self.0.as_ptr().cast()
    }

    /// Returns the row of a pointer, nothing for null.
    ///
    /// # Safety
    ///
    /// The pointer is null or came from `into_raw`.
    pub(crate) unsafe fn from_raw(row: *mut ()) -> Option<Self> {
        NonNull::new(row.cast()).map(Self)
    }

    const fn frames_start(&self) -> *const u64 {
        self.0.as_ptr().wrapping_add(1).cast_const().cast()
    }

    pub(crate) fn key(&self) -> RowKey<'_> {
        RowKey { header: self.title().header, frames: self.frames() }
    }

    /// Returns the addresses, leaf first.
    pub(crate) fn frames(&self) -> &[u64] {
        let depth = self.head().depth;
        // SAFETY: so many addresses stand behind the head, written before publication.
        unsafe { std::slice::from_raw_parts(self.frames_start(), depth) }
    }

    /// Returns the sums: no later one holds more records than an earlier one.
    pub(crate) fn values(&self) -> [i64; VALUES] {
        let mut values = [0; VALUES];
        for (value, sum) in values.iter_mut().zip(&self.head().values).rev() {
            // Acquire: pairs with the Release in `add`: what that record added before is seen by
            // the loads that follow.
            *value = sum.load(Ordering::Acquire).cast_signed();
        }
        values
    }

    fn buckets(&self) -> Option<&[Bucket; BUCKETS]> {
        let head = self.head();
        let start = self.frames_start().wrapping_add(head.depth).cast::<[Bucket; BUCKETS]>();
        // SAFETY: a row that is `bucketed` has them behind its addresses, written before
        // publication.
        head.bucketed.then(|| unsafe { &*start })
    }

    /// Returns count and sum of each bucket, if the row keeps them.
    pub(crate) fn bucket_values(&self) -> Option<[(i64, i64); BUCKETS]> {
        // Relaxed: each sum stands for itself; no other memory is read because of it.
        let read = |sum: &AtomicU64| sum.load(Ordering::Relaxed).cast_signed();
        self.buckets().map(|buckets| {
            std::array::from_fn(|i| (read(&buckets[i].count), read(&buckets[i].sum)))
        })
    }

    /// Adds to the sums, in their order. Only the writer of the row's tally may call this.
    #[inline]
    pub(crate) fn add(&self, values: [i64; VALUES]) {
        for (sum, value) in self.head().values.iter().zip(values) {
            if value != 0 {
                // Release: pairs with the Acquire in `values`.
                add(sum, value, Ordering::Release);
            }
        }
    }

    /// The same for records that a signal's handler may make too: between a load and a store it would
    /// strike and be overwritten.
    pub(crate) fn add_reentrant(&self, values: [i64; VALUES]) {
        for (sum, value) in self.head().values.iter().zip(values) {
            if value != 0 {
                // Release: as in `add`.
                sum.fetch_add(value.cast_unsigned(), Ordering::Release);
            }
        }
    }

    /// Adds to the last two sums, in their order, from any thread.
    ///
    /// A row takes this or has a writer that adds to these sums, not both.
    pub(crate) fn add_shared(&self, values: [i64; 2]) {
        for (sum, value) in self.head().values[VALUES - 2..].iter().zip(values) {
            // Release: pairs with the Acquire in `shared_values`: what comes before, the sum before
            // and the record of what is taken back, is seen by who sees this.
            sum.fetch_add(value.cast_unsigned(), Ordering::Release);
        }
    }

    /// Returns the last two sums, such that sums read later hold all that came before these.
    pub(crate) fn shared_values(&self) -> [i64; 2] {
        let [.., first, last] = self.values();
        [first, last]
    }

    /// Adds to one bucket, if the row keeps them. Only the writer may call this.
    pub(crate) fn add_to_bucket(&self, index: usize, count: i64, sum: i64) {
        if let Some(buckets) = self.buckets() {
            let bucket = &buckets[index.min(BUCKETS - 1)];
            // Relaxed: readers want each sum by itself.
            add(&bucket.count, count, Ordering::Relaxed);
            add(&bucket.sum, sum, Ordering::Relaxed);
        }
    }
}

/// Adds where there is one writer: a load and a store, not a locked instruction.
#[inline]
fn add(sum: &AtomicU64, value: i64, order: Ordering) {
    // Relaxed: this thread's own store.
    sum.store(sum.load(Ordering::Relaxed).wrapping_add_signed(value), order);
}
