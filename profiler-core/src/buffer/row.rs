//! A row of a tally: a key and its sums, in memory that is never moved and never freed.

#![allow(unsafe_code, reason = "addresses of variable number behind a fixed head")]

use std::ptr::NonNull;

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
    pub(super) hash: u64,
    pub(super) header: [u64; HEADER],
    pub(super) depth: usize,
    /// Whether a `[Bucket; BUCKETS]` follows the addresses.
    pub(super) bucketed: bool,
    pub(super) values: [AtomicU64; VALUES],
    // `depth` addresses follow, then the buckets.
}

/// A key and its sums, in memory that lives for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row(pub(super) NonNull<RowHead>);

// SAFETY: everything but the sums is written before the row is published and never again; the sums
// are atomics; the memory is never freed.
unsafe impl Send for Row {}
// SAFETY: as for Send.
unsafe impl Sync for Row {}

impl Row {
    pub(super) fn head(&self) -> &'static RowHead {
        // SAFETY: rows are initialised before a `Row` is made, and live for ever.
        unsafe { self.0.as_ref() }
    }

    /// Returns the row as a pointer, for `from_raw`.
    pub(crate) fn into_raw(self) -> *mut () {
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

    fn frames_start(&self) -> *const u64 {
        self.0.as_ptr().wrapping_add(1).cast_const().cast()
    }

    pub(crate) fn key(&self) -> RowKey<'static> {
        let head = self.head();
        // SAFETY: `depth` addresses stand behind the head, written before publication.
        let frames = unsafe { std::slice::from_raw_parts(self.frames_start(), head.depth) };
        RowKey { header: head.header, frames }
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

    fn buckets(&self) -> Option<&'static [Bucket; BUCKETS]> {
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
