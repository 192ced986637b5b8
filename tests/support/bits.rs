//! An inner allocator that takes no lock: whoever is halted within it, or struck by a signal, keeps
//! nobody from allocating.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks of 64 bytes, each of which a bit says whether it is taken. There is one such allocator.
#[derive(Debug)]
pub struct Bits;

const BLOCK: usize = 64;
const WORDS: usize = 64;

#[repr(align(64))]
struct Area(UnsafeCell<[u8; BLOCK * 64 * WORDS]>);

// SAFETY: each block is used by whoever has taken its bit.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new([0; BLOCK * 64 * WORDS]));
static TAKEN: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

impl Bits {
    /// Returns how many blocks are out.
    #[must_use]
    pub fn out() -> u32 {
        TAKEN.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }
}

// SAFETY: blocks are of 64 bytes, aligned to 64, each given to one caller at a time.
unsafe impl GlobalAlloc for Bits {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert!(layout.size() <= BLOCK && layout.align() <= BLOCK);
        for (index, word) in TAKEN.iter().enumerate() {
            loop {
                let taken = word.load(Ordering::Relaxed);
                let bit = taken.trailing_ones();
                if bit == 64 {
                    break;
                }
                // Acquire: pairs with the Release of `dealloc`.
                if word.fetch_or(1 << bit, Ordering::Acquire) >> bit & 1 == 0 {
                    let at = (index * 64 + bit as usize) * BLOCK;
                    return AREA.0.get().cast::<u8>().wrapping_add(at);
                }
            }
        }
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        let at = (block.addr() - AREA.0.get().addr()) / BLOCK;
        // Release: pairs with the Acquire of `alloc`.
        TAKEN[at / 64].fetch_and(!(1 << (at % 64)), Ordering::Release);
    }
}
