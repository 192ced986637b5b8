//! The tally for code that has none of its own: many writers, fixed size, no allocation.
//!
//! It takes records of threads that could not join and of code that runs while its thread is
//! writing its own tally. Slots go from free to claimed to ready; a claimed slot is passed over, so
//! two writers of one key may make two rows, which add up when a profile is read. When all slots
//! are taken, the record goes to the last row of its source. Nothing waits, nothing is lost.

#![allow(unsafe_code, reason = "slots that are written once and then shared")]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::record::{Header, Marker, Source};
use super::row::{HEADER, VALUES};

/// Distinct keys that find room; there are few, since they have no stack.
const SLOTS: usize = 64;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const READY: u32 = 2;

struct Slot {
    state: AtomicU32,
    header: UnsafeCell<[u64; HEADER]>,
    values: [AtomicU64; VALUES],
}

/// The table.
pub(crate) struct Emergency {
    slots: [Slot; SLOTS],
    /// One row for each source, for when the slots are taken.
    overflow: [[AtomicU64; VALUES]; Source::ALL.len()],
}

// SAFETY: `header` is written by the thread that claimed the slot, before it is ready, and only
// read after.
unsafe impl Sync for Emergency {}

/// The process's own.
pub(crate) static EMERGENCY: Emergency = Emergency::new();

impl Emergency {
    pub(crate) const fn new() -> Self {
        Self {
            slots: [const {
                Slot {
                    state: AtomicU32::new(FREE),
                    header: UnsafeCell::new([0; HEADER]),
                    values: [const { AtomicU64::new(0) }; VALUES],
                }
            }; SLOTS],
            overflow: [const { [const { AtomicU64::new(0) }; VALUES] }; Source::ALL.len()],
        }
    }

    /// Adds a record; any thread may call this at any time.
    ///
    /// # Signal safety
    ///
    /// Atomics only.
    pub(crate) fn add(&self, header: &Header, values: [i64; VALUES]) {
        let words = header.words();
        let sums = self.slots.iter().find_map(|slot| slot.sums(words));
        for (sum, value) in
            sums.unwrap_or(&self.overflow[header.source as usize]).iter().zip(values)
        {
            // Release: pairs with the Acquire in `for_each`, as in `Row`.
            sum.fetch_add(value.cast_unsigned(), Ordering::Release);
        }
    }

    /// Calls `visit` with every key and its sums.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Header, [i64; VALUES])) {
        let read = |sums: &[AtomicU64; VALUES]| {
            let mut values = [0; VALUES];
            for (value, sum) in values.iter_mut().zip(sums).rev() {
                // Acquire: what was added before what is read here is seen by a later reading.
                *value = sum.load(Ordering::Acquire).cast_signed();
            }
            values
        };
        for slot in &self.slots {
            if let Some(words) = slot.words() {
                // SAFETY: written from `Header::words`.
                visit(unsafe { Header::from_words(words) }, read(&slot.values));
            }
        }
        for (source, sums) in Source::ALL.into_iter().zip(&self.overflow) {
            visit(Header { marker: Marker::Overflow, ..Header::new(source) }, read(sums));
        }
    }
}

impl Slot {
    fn words(&self) -> Option<[u64; HEADER]> {
        // Acquire: pairs with the Release in `sums`; the words are written.
        let ready = self.state.load(Ordering::Acquire) == READY;
        // SAFETY: a ready slot's words are never written again.
        ready.then(|| unsafe { *self.header.get() })
    }

    /// Returns the sums of this slot if it has that key or was free.
    fn sums(&self, words: [u64; HEADER]) -> Option<&[AtomicU64; VALUES]> {
        // Relaxed: the exchange only claims; nothing was written for its winner.
        let claim =
            self.state.compare_exchange(FREE, CLAIMED, Ordering::Relaxed, Ordering::Relaxed);
        if claim.is_ok() {
            // SAFETY: only the thread that claimed the slot gets here, once.
            unsafe { *self.header.get() = words };
            // Release: pairs with the Acquire in `words`.
            self.state.store(READY, Ordering::Release);
            return Some(&self.values);
        }
        (self.words() == Some(words)).then_some(&self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(emergency: &Emergency) -> i64 {
        let mut total = 0;
        emergency.for_each(|_, values| total += values[1]);
        total
    }

    #[test]
    fn nothing_is_lost_when_many_write_and_the_slots_run_out() {
        static TABLE: Emergency = Emergency::new();
        static NAMES: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for end in 0..NAMES.len() {
                        let name = Some(&NAMES[..end]);
                        TABLE.add(&Header { name, ..Header::new(Source::Mutex) }, [1, 10, 0, 0]);
                    }
                });
            }
        });
        assert_eq!(totals(&TABLE), 4 * 10 * NAMES.len() as i64);
        let mut overflow = 0;
        TABLE.for_each(|header, values| {
            if header.marker == Marker::Overflow {
                overflow += values[0];
            }
        });
        assert!(overflow > 0);
    }
}
