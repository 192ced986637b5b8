//! The samples that are alive: what is kept of each, from its allocation to its free.

#![allow(unsafe_code, reason = "a row's pointer is kept as a word")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU16, AtomicU64};

use super::sampler::{self, Weight};
use crate::buffer::emergency::EMERGENCY;
use crate::buffer::live_set::{Held, LiveSet};
use crate::buffer::record::{Header, Marker, Source};
use crate::buffer::row::HeldRow;
use crate::buffer::vicinity::{PAGES, Vicinity};
use crate::capture::Prepared;

/// 512 buckets hold the samples of more than 1 GiB at the default rate in 116 KiB.
static LIVE: LiveSet = LiveSet::new(AtomicPtr::new(ptr::null_mut()), AtomicU64::new(0), 512);
/// Where they lie.
static VICINITY: Vicinity<PAGES> = Vicinity::new([const { AtomicU16::new(0) }; PAGES]);

/// What is kept of a sample until its block is freed.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// The row, held; null if it went to the emergency tally.
    row: *mut (),
    weight: Weight,
}

impl Sample {
    fn words(self) -> [u64; 3] {
        let row = self.row.expose_provenance() as u64;
        let Weight { objects, bytes } = self.weight;
        [row, objects.cast_unsigned(), bytes.cast_unsigned()]
    }

    fn of(held: &Held) -> Self {
        let [row, objects, bytes] = held.words;
        Self {
            row: ptr::with_exposed_provenance_mut(row as usize),
            weight: Weight { objects: objects.cast_signed(), bytes: bytes.cast_signed() },
        }
    }

    /// Counts that the block was freed. Once, by whoever takes the entry out for good.
    fn count_free(self) {
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

/// Returns whether there are samples near a block; `bits` are the thread's [`Counters::page_bits`].
///
/// [`Counters::page_bits`]: crate::buffer::counters::Counters::page_bits
#[inline(always)]
pub(super) fn is_near(block: *mut u8, bits: usize) -> bool {
    VICINITY.is_inhabited(block.addr(), bits)
}

/// Returns whether a block may be one of those.
pub(super) fn may_hold(block: *mut u8, bits: usize) -> bool {
    VICINITY.may_hold(block.addr(), bits)
}

/// Has samples be near every block for a thread that has no bits.
pub(super) fn fill_page_0() {
    VICINITY.fill(0);
}

/// Records an allocation if there is a rate by which it is sampled and it has not failed: in a row,
/// and in the set. If the set finds no room, it is recorded as lost and freed.
pub(super) fn begin(block: *mut u8, size: usize, rate: Option<u64>) {
    if block.is_null() {
        return;
    }
    // An entry is of a block that C has freed.
    end(block);
    let Some(rate) = rate else { return };
    let weight = sampler::weight(size as u64, rate);
    let header = Header { size: sampler::class(size), ..Header::new(Source::Alloc) };
    let prepared = Prepared::new(header);
    let row = prepared.row().map_or(ptr::null_mut(), |row| row.hold().into_raw());
    let sample = Sample { row, weight };
    let Weight { objects, bytes } = weight;
    VICINITY.enter(block.addr());
    if LIVE.insert(block.addr() as u64, sample.words()) {
        prepared.add_reentrant([objects, bytes, 0, 0]);
    } else {
        // SAFETY: given above, and nobody else has it.
        drop(unsafe { HeldRow::from_raw(row) });
        VICINITY.leave(block.addr());
        EMERGENCY.add(&lost(), [objects, bytes, bytes, objects]);
    }
}

/// Takes a block's entry out, if it was sampled. Only whoever was handed the block may ask. Null is none,
/// though nobody may free it.
pub(super) fn hold(block: *mut u8) -> Option<Held> {
    if block.is_null() || !may_hold(block, usize::MAX) {
        return None;
    }
    LIVE.hold(block.addr() as u64)
}

/// Counts the free of a block whose entry is taken out.
pub(super) fn end_held(block: *mut u8, held: Held) {
    let sample = Sample::of(&held);
    held.release();
    VICINITY.leave(block.addr());
    sample.count_free();
}

/// Counts the free of a block, if it was sampled.
pub(super) fn end(block: *mut u8) {
    if let Some(held) = hold(block) {
        end_held(block, held);
    }
}

/// Returns the bytes that the set of live samples takes, and the counts beside it once there is one.
pub(crate) fn bytes() -> usize {
    match LIVE.bytes() {
        0 => 0,
        bytes => bytes + size_of_val(&VICINITY),
    }
}
