//! The samples that are alive: what is kept of each, from its allocation to its free.

#![allow(unsafe_code, reason = "a row's pointer is kept as a word")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64};

use super::sampler::{self, Weight};
use crate::buffer::emergency::EMERGENCY;
use crate::buffer::live_set::{Held, LiveSet};
use crate::buffer::record::{Header, Marker, Source};
use crate::buffer::row::HeldRow;
use crate::capture::Prepared;

/// 512 buckets hold the samples of more than 1 GiB at the default rate in 116 KiB.
static LIVE: LiveSet = LiveSet::new(AtomicPtr::new(ptr::null_mut()), AtomicU64::new(0), 512);
/// What is kept of a sample until its block is freed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// The row, held; null if it went to the emergency tally.
    row: *mut (),
    weight: Weight,
    pub(super) shifted: bool,
}

impl Sample {
    fn words(self) -> [u64; 3] {
        let row = self.row.expose_provenance() as u64;
        let Weight { objects, bytes } = self.weight;
        [row, objects.cast_unsigned() << 1 | u64::from(self.shifted), bytes.cast_unsigned()]
    }

    pub(super) fn of(held: &Held) -> Self {
        let [row, objects, bytes] = held.words;
        Self {
            row: ptr::with_exposed_provenance_mut(row as usize),
            weight: Weight { objects: (objects >> 1).cast_signed(), bytes: bytes.cast_signed() },
            shifted: objects & 1 != 0,
        }
    }

    /// Counts that the block was freed. Once, by whoever takes the entry out for good.
    pub(super) fn count_free(self) {
        let Weight { objects, bytes } = self.weight;
        // SAFETY: from `enter`, and taken back once.
        match unsafe { HeldRow::from_raw(self.row) } {
            Some(row) => row.add_shared([bytes, objects]),
            None => EMERGENCY.add(&lost(), [0, 0, bytes, objects]),
        }
    }
}

fn lost() -> Header {
    Header { marker: Marker::Lost, ..Header::new(Source::Alloc) }
}

/// Records a sample and enters it into the set; false if the set finds no room, and then the sample
/// is recorded as lost and freed.
pub(super) fn enter(block: *mut u8, size: usize, rate: u64, shifted: bool) -> bool {
    let weight = sampler::weight(size as u64, rate);
    let header = Header { size: sampler::class(size), ..Header::new(Source::Alloc) };
    let prepared = Prepared::new(header);
    let row = prepared.row().map_or(ptr::null_mut(), |row| row.hold().into_raw());
    let sample = Sample { row, weight, shifted };
    let Weight { objects, bytes } = weight;
    let entered = LIVE.insert(block.addr() as u64, sample.words());
    if entered {
        prepared.add_reentrant([objects, bytes, 0, 0]);
    } else {
        // SAFETY: given above, and nobody else has it.
        drop(unsafe { HeldRow::from_raw(row) });
        lose(weight);
    }
    entered
}

/// Records a sample that cannot be found again at its free: as lost, and freed at once.
pub(super) fn lose(Weight { objects, bytes }: Weight) {
    EMERGENCY.add(&lost(), [objects, bytes, bytes, objects]);
}

/// Takes a block's entry out, if it was sampled. Only whoever was handed the block may ask.
pub(super) fn hold(block: *mut u8) -> Option<Held> {
    LIVE.hold(block.addr() as u64)
}

/// Returns the bytes that the set of live samples takes.
pub(crate) fn bytes() -> usize {
    LIVE.bytes()
}
