//! The samples that are alive: what is kept of each, from its allocation to its free.

#![allow(unsafe_code, reason = "a row's pointer is kept as a word")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64};

use super::sampler::{self, Weight};
use crate::buffer::emergency::EMERGENCY;
use crate::buffer::live_set::{Held, LiveSet};
use crate::buffer::record::{Header, Marker, Source};
use crate::buffer::row::Row;
use crate::capture::Prepared;

/// 512 buckets hold the samples of more than 1 GiB at the default rate in 116 KiB.
static LIVE: LiveSet = LiveSet::new(AtomicPtr::new(ptr::null_mut()), AtomicU64::new(0), 512);
/// What is kept of a sample until its block is freed.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Nothing: it went to the emergency tally.
    row: Option<Row>,
    weight: Weight,
}

impl Sample {
    fn words(self) -> [u64; 3] {
        let row = self.row.map_or(ptr::null_mut(), Row::into_raw).expose_provenance() as u64;
        let Weight { objects, bytes } = self.weight;
        [row, objects.cast_unsigned(), bytes.cast_unsigned()]
    }

    fn of(held: &Held) -> Self {
        let [row, objects, bytes] = held.words;
        let row = ptr::with_exposed_provenance_mut(row as usize);
        Self {
            // SAFETY: null or a row's own pointer, from `words`.
            row: unsafe { Row::from_raw(row) },
            weight: Weight { objects: objects.cast_signed(), bytes: bytes.cast_signed() },
        }
    }

    fn count_free(self) {
        let Weight { objects, bytes } = self.weight;
        match self.row {
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
pub(super) fn enter(block: *mut u8, size: usize, rate: u64) -> bool {
    end_stale(block);
    let weight = sampler::weight(size as u64, rate);
    let header = Header { size: sampler::class(size), ..Header::new(Source::Alloc) };
    let prepared = Prepared::new(header);
    let sample = Sample { row: prepared.row(), weight };
    let Weight { objects, bytes } = weight;
    let entered = LIVE.insert(block.addr() as u64, sample.words());
    if entered {
        prepared.add_reentrant([objects, bytes, 0, 0]);
    } else {
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

/// Counts the free of a block whose entry is taken out.
pub(super) fn end(held: Held) {
    let sample = Sample::of(&held);
    held.release();
    sample.count_free();
}

/// Counts the free of a block that others freed, if there was one at an address that the inner
/// allocator has given again. Does nothing with null.
pub(super) fn end_stale(block: *mut u8) {
    if !block.is_null()
        && let Some(held) = hold(block)
    {
        end(held);
    }
}

/// Returns the bytes that the set of live samples takes.
pub(crate) fn bytes() -> usize {
    LIVE.bytes()
}
