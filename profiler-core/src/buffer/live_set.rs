//! The sampled blocks that are alive: address to record, for any number of threads, without a lock.
//!
//! **Problem.** A sampled block is entered by the thread that allocates it and taken out by the one
//! that frees it. Neither may wait: they may run in a signal handler, in a forked child, or while
//! another thread is halted.
//!
//! **Idea.** An address has a home bucket of seven places, one cache line, and spills into the next
//! seven buckets; the home counts what has spilled, so that who looks for an address that is not
//! there reads one line. Nobody moves an entry. Places are claimed by compare-and-swap and given
//! back by a store, so there are no tombstones. A table that is too full gets a newer one before it,
//! eight times as large; look-ups go through all, and there are few.
//!
//! **Why relaxed look-ups suffice.** An address is entered before it is handed out, and whoever
//! frees it was handed it: the entry is seen, and nobody else can enter or take out that address
//! meanwhile. What other entries do at the same time does not matter.

#![allow(unsafe_code, reason = "tables of variable size in memory that is never freed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};

use super::primitive::{AtomicPtr, AtomicU64, Ordering};

/// Places of a bucket: with the count of what has spilled they fill a line of 64 bytes.
const PLACES: usize = 7;
/// Buckets that an address may stand in.
const REACH: usize = 8;
/// Each table is so many times as large as the one before.
const GROWTH: usize = 8;

const FREE: u64 = 0;
/// Claimed by a thread that is writing it, or whose block is being reallocated.
const HELD: u64 = 1;

/// Addresses, 0 for a free place, and how many that belong here stand in the buckets behind.
#[repr(C, align(64))]
struct Bucket {
    addresses: [AtomicU64; PLACES],
    spilled: AtomicU64,
}

/// Three words for each place of a bucket.
#[repr(C)]
struct Records {
    words: [[AtomicU64; WORDS]; PLACES],
}

/// Words kept for an address.
pub(crate) const WORDS: usize = 3;

/// Head of a table.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Table {
    /// The table before this one, or null.
    older: *const Table,
    buckets: usize,
    // So many `Bucket`s follow, then as many `Records`.
}

/// A table in memory that lives for ever.
#[derive(Clone, Copy)]
struct TableRef(NonNull<Table>);

/// The set.
pub(crate) struct LiveSet {
    newest: AtomicPtr<Table>,
    /// Buckets of the first table, a power of two.
    first_buckets: usize,
    bytes: AtomicU64,
}

// SAFETY: the tables are reached through atomics and are never freed.
unsafe impl Sync for LiveSet {}
// SAFETY: as for Sync.
unsafe impl Send for LiveSet {}

/// A place whose address is taken out of the set, to be given back or to be put in again.
#[derive(Debug)]
#[must_use = "the place stays taken"]
pub(crate) struct Held {
    place: NonNull<AtomicU64>,
    /// The count of the home bucket, if the place is in another one.
    spilled: Option<NonNull<AtomicU64>>,
    address: u64,
    pub(crate) words: [u64; WORDS],
}

impl Held {
    /// Puts the address in again, as it was.
    pub(crate) fn put_back(self) {
        // SAFETY: places live for ever.
        let place = unsafe { self.place.as_ref() };
        // Release: as in `insert`.
        place.store(self.address, Ordering::Release);
    }

    /// Gives the place back.
    pub(crate) fn release(self) {
        if let Some(spilled) = self.spilled {
            // SAFETY: buckets live for ever.
            // Relaxed: see the top of this file; a count too high is a look that finds nothing.
            unsafe { spilled.as_ref() }.fetch_sub(1, Ordering::Relaxed);
        }
        // SAFETY: places live for ever.
        // Release: pairs with the Acquire in `insert`: the words have been read.
        unsafe { self.place.as_ref() }.store(FREE, Ordering::Release);
    }
}

impl TableRef {
    fn buckets(self) -> &'static [Bucket] {
        // SAFETY: tables are initialised before they are published, and live for ever.
        let buckets = unsafe { self.0.as_ref() }.buckets;
        let first = self.0.as_ptr().wrapping_add(1).cast_const().cast();
        // SAFETY: so many buckets stand behind the head.
        unsafe { std::slice::from_raw_parts(first, buckets) }
    }

    fn words(self, bucket: usize, place: usize) -> &'static [AtomicU64; WORDS] {
        let buckets = self.buckets();
        let records: *const Records = buckets.as_ptr_range().end.cast();
        // SAFETY: as many records as buckets stand behind the buckets.
        let records: &'static [Records] =
            unsafe { std::slice::from_raw_parts(records, buckets.len()) };
        &records[bucket].words[place]
    }

    fn older(self) -> Option<Self> {
        // SAFETY: as in `buckets`.
        let older = unsafe { self.0.as_ref() }.older;
        NonNull::new(older.cast_mut()).map(Self)
    }

    /// Returns the buckets that an address may stand in, its home first.
    fn reach(self, address: u64) -> impl Iterator<Item = (usize, &'static Bucket)> {
        let buckets = self.buckets();
        let mask = buckets.len() - 1;
        // The upper bits of the product depend on all of the address.
        let home = (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
        (0..REACH.min(buckets.len())).map(move |step| {
            let index = (home + step) & mask;
            (index, &buckets[index])
        })
    }

    fn find(self, address: u64) -> Option<Held> {
        let mut home = None;
        for (index, bucket) in self.reach(address) {
            // Relaxed: see the top of this file.
            let place =
                bucket.addresses.iter().position(|it| it.load(Ordering::Relaxed) == address);
            if let Some(place) = place {
                // Relaxed: as above; written before the address was handed out.
                let words = self.words(index, place).each_ref();
                return Some(Held {
                    place: NonNull::from(&bucket.addresses[place]),
                    spilled: home,
                    address,
                    words: words.map(|word| word.load(Ordering::Relaxed)),
                });
            }
            if home.is_none() && bucket.spilled.load(Ordering::Relaxed) == 0 {
                return None;
            }
            home = home.or(Some(NonNull::from(&bucket.spilled)));
        }
        None
    }

    fn insert(self, address: u64, record: [u64; WORDS]) -> bool {
        let mut home = None;
        for (index, bucket) in self.reach(address) {
            for (place, it) in bucket.addresses.iter().enumerate() {
                // Acquire: pairs with the Release in `release`: the last words have been read.
                let claimed = it.load(Ordering::Relaxed) == FREE
                    && it
                        .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok();
                if claimed {
                    for (word, value) in self.words(index, place).iter().zip(record) {
                        word.store(value, Ordering::Relaxed);
                    }
                    if let Some(spilled) = home {
                        let spilled: &AtomicU64 = spilled;
                        spilled.fetch_add(1, Ordering::Relaxed);
                    }
                    // Relaxed: see the top of this file.
                    it.store(address, Ordering::Relaxed);
                    return true;
                }
            }
            home = home.or(Some(&bucket.spilled));
        }
        false
    }
}

impl LiveSet {
    /// Makes an empty set of a null pointer and a zero, whose first table will have so many buckets
    /// (a power of two).
    pub(crate) const fn new(
        newest: AtomicPtr<Table>,
        bytes: AtomicU64,
        first_buckets: usize,
    ) -> Self {
        Self { newest, first_buckets, bytes }
    }

    fn newest(&self) -> Option<TableRef> {
        // Acquire: pairs with the Release in `grow`: the table is initialised.
        NonNull::new(self.newest.load(Ordering::Acquire)).map(TableRef)
    }

    /// Returns the bytes held.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a figure for people.
        self.bytes.load(Ordering::Relaxed) as usize
    }

    /// Enters an address above 1 that is not in the set; false if the system has no memory.
    ///
    /// # Signal safety
    ///
    /// Waits for nothing; takes memory from the system when the newest table is full.
    pub(crate) fn insert(&self, address: u64, record: [u64; WORDS]) -> bool {
        let mut newest = self.newest();
        loop {
            if let Some(table) = newest
                && table.insert(address, record)
            {
                return true;
            }
            newest = match self.grow(newest) {
                Some(table) => Some(table),
                None => return false,
            };
        }
    }

    /// Takes an address out, if it is in the set. Only whoever was handed the address may ask.
    ///
    /// # Signal safety
    ///
    /// Waits for nothing, allocates nothing.
    #[inline]
    pub(crate) fn hold(&self, address: u64) -> Option<Held> {
        let mut table = self.newest();
        while let Some(current) = table {
            if let Some(held) = current.find(address) {
                // SAFETY: places live for ever.
                // Relaxed: the place stays claimed, so nobody acts on it.
                unsafe { held.place.as_ref() }.store(HELD, Ordering::Relaxed);
                return Some(held);
            }
            table = current.older();
        }
        None
    }

    /// Puts a larger table before `full`, unless another thread has.
    #[cold]
    fn grow(&self, full: Option<TableRef>) -> Option<TableRef> {
        let buckets = full.map_or(self.first_buckets, |table| table.buckets().len() * GROWTH);
        let (layout, _) =
            Layout::new::<Table>().extend(Layout::array::<Bucket>(buckets).ok()?).ok()?;
        let (layout, _) = layout.extend(Layout::array::<Records>(buckets).ok()?).ok()?;
        // SAFETY: the layout is not of size zero.
        let memory = NonNull::new(unsafe { System.alloc_zeroed(layout) })?;
        let table = memory.cast::<Table>();
        let older = full.map_or(ptr::null(), |table| table.0.as_ptr().cast_const());
        // SAFETY: fresh memory of this layout.
        unsafe { table.write(Table { older, buckets }) };
        let words = (layout.size() - size_of::<Table>()) / size_of::<AtomicU64>();
        let first = table.as_ptr().wrapping_add(1).cast::<AtomicU64>();
        // SAFETY: so many words stand behind the head, fresh and zeroed.
        unsafe { super::primitive::make_zeros(first, words) };
        let expected = full.map_or(ptr::null_mut(), |table| table.0.as_ptr());
        // AcqRel: the winner publishes its table, the loser uses that one.
        match self.newest.compare_exchange(
            expected,
            table.as_ptr(),
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => {
                self.bytes.fetch_add(layout.size() as u64, Ordering::Relaxed);
                Some(TableRef(table))
            }
            Err(other) => {
                // SAFETY: allocated above with this layout, and nobody has seen it.
                unsafe { System.dealloc(memory.as_ptr(), layout) };
                NonNull::new(other).map(TableRef)
            }
        }
    }
}

impl std::fmt::Debug for LiveSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveSet").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(first_buckets: usize) -> LiveSet {
        LiveSet::new(AtomicPtr::new(ptr::null_mut()), AtomicU64::new(0), first_buckets)
    }

    #[test]
    fn what_was_entered_is_found_once_at_any_fill() {
        let set = set(2);
        let address = |number: u64| 0x7f00_0000_0008 + 48 * number;
        for number in 0..10_000 {
            assert!(set.hold(address(number)).is_none());
            assert!(set.insert(address(number), [number, 2 * number, 3]));
        }
        for number in (0..10_000).rev() {
            let held = set.hold(address(number)).expect("it was entered");
            assert_eq!(held.words, [number, 2 * number, 3]);
            assert!(set.hold(address(number)).is_none(), "it is held");
            if number % 3 == 0 {
                held.put_back();
            } else {
                held.release();
            }
        }
        for number in 0..10_000 {
            assert_eq!(set.hold(address(number)).map(Held::release).is_some(), number % 3 == 0);
        }
    }

    #[test]
    fn places_are_used_again() {
        let set = set(64);
        for number in 1..1_000_000_u64 {
            let address = 16 * number;
            assert!(set.insert(address, [number; WORDS]));
            let held = set.hold(address).expect("it was entered");
            assert_eq!(held.words, [number; WORDS]);
            held.release();
        }
        assert!(set.bytes() < 64 * 256 + 64, "one table: {}", set.bytes());
    }

    #[test]
    fn many_threads_enter_and_take_out() {
        let set = set(1);
        std::thread::scope(|scope| {
            for thread in 1..=4_u64 {
                let set = &set;
                scope.spawn(move || {
                    for round in 0..200 {
                        let address = |number: u64| (thread << 40) + 16 * (number + 1);
                        for number in 0..50 {
                            assert!(set.insert(address(number), [thread, round, number]));
                        }
                        for number in 0..50 {
                            let held = set.hold(address(number)).expect("it was entered");
                            assert_eq!(held.words, [thread, round, number]);
                            held.release();
                        }
                    }
                });
            }
        });
    }
}
