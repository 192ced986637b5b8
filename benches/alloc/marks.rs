//! The marks by which a free is told that its block was sampled.

#![allow(unsafe_code, reason = "blocks are shifted, written before, and cut from a mapping")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU64, Ordering};

use crate::buffer::vicinity::{PAGES, Vicinity};
use crate::candidates::{LIVE, Mark};

const SHIFT: usize = 8;
const LARGE: usize = 64 << 10;

/// Allocates a block whose address is ≡ 8 mod 16.
fn shifted(layout: Layout) -> *mut u8 {
    // SAFETY: the size is not zero.
    let base = unsafe { System.alloc(inner(layout)) };
    // SAFETY: the inner block is longer by this.
    unsafe { base.add(SHIFT) }
}

fn inner(layout: Layout) -> Layout {
    Layout::from_size_align(layout.size() + SHIFT, 2 * SHIFT).expect("sizes are small")
}

/// # Safety
///
/// The block is of [`shifted`], with this layout.
unsafe fn free_shifted(block: *mut u8, layout: Layout) {
    // SAFETY: so it was made.
    let base = unsafe { block.sub(SHIFT) };
    // SAFETY: as above.
    unsafe { System.dealloc(base, inner(layout)) };
}

#[inline(always)]
fn is_shifted_or_large(block: *mut u8, layout: Layout) -> bool {
    (((block.addr() & SHIFT) * 2 + layout.align()) << 12 | layout.size()) >= LARGE
}

/// Allocates a block as it is asked for, and enters it into the set.
fn entered(layout: Layout) -> *mut u8 {
    // SAFETY: no size of this bench is zero.
    let block = unsafe { System.alloc(layout) };
    left(block);
    LIVE.insert(block.addr() as u64, [0; 3]);
    block
}

/// Takes a block out of the set; whether it was there.
fn left(block: *mut u8) -> bool {
    LIVE.hold(block.addr() as u64).map(|held| held.release()).is_some()
}

/// An address that is a multiple of `ALIGN`, and then the set decides. To be sound with inner allocators that
/// ask for a block's layout at its free, each allocation would have to look too.
pub(crate) struct Aligned<const ALIGN: usize>;

impl<const ALIGN: usize> Mark for Aligned<ALIGN> {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            return entered(layout);
        }
        entered(layout.align_to(ALIGN).expect("sizes are small"))
    }

    #[inline(always)]
    fn is_suspect(&self, block: *mut u8, layout: Layout) -> bool {
        block.addr() & (ALIGN - 1) == 0 || layout.size() >= LARGE
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        left(block);
        // SAFETY: given by the caller; the system's asks for no alignment.
        unsafe { System.dealloc(block, layout) };
    }
}

/// An address ≡ 8 mod 16, and then the set decides. C cannot free such a block.
pub(crate) struct Shift;

impl Mark for Shift {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        if layout.align() > SHIFT || layout.size() >= LARGE {
            return entered(layout);
        }
        let block = shifted(layout);
        LIVE.insert(block.addr() as u64, [1; 3]);
        block
    }

    #[inline(always)]
    fn is_suspect(&self, block: *mut u8, layout: Layout) -> bool {
        is_shifted_or_large(block, layout)
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        match LIVE.hold(block.addr() as u64) {
            Some(held) if held.words[0] == 1 => {
                held.release();
                // SAFETY: so it was made.
                unsafe { free_shifted(block, layout) };
            }
            held => {
                if let Some(held) = held {
                    held.release();
                }
                // SAFETY: given by the caller.
                unsafe { System.dealloc(block, layout) };
            }
        }
    }
}

/// The same address, and the record's place in the eight bytes before the block. It takes every such
/// address for its own, which not every allocator keeps to.
pub(crate) struct Header;

/// What a header points to.
static RECORD: AtomicU64 = AtomicU64::new(0);

impl Mark for Header {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        if layout.align() > SHIFT || layout.size() >= LARGE {
            return entered(layout);
        }
        let block = shifted(layout);
        // SAFETY: the shift.
        let header = unsafe { block.sub(SHIFT) };
        // SAFETY: eight bytes long, and aligned to 16.
        unsafe { header.cast::<&AtomicU64>().write(&RECORD) };
        block
    }

    #[inline(always)]
    fn is_suspect(&self, block: *mut u8, layout: Layout) -> bool {
        is_shifted_or_large(block, layout)
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        if block.addr() & SHIFT != 0 {
            // SAFETY: the shift.
            let header = unsafe { block.sub(SHIFT) };
            // SAFETY: written by `allocate`.
            unsafe { header.cast::<&AtomicU64>().read() }.fetch_add(1, Ordering::Relaxed);
            // SAFETY: so it was made.
            unsafe { free_shifted(block, layout) };
        } else {
            left(block);
            // SAFETY: given by the caller.
            unsafe { System.dealloc(block, layout) };
        }
    }
}

/// Places of both filters by a hash: 25 for each of the samples of 10 GiB, so that one free in 25 is told to
/// look in vain.
const PLACES: usize = 1 << 19;

#[inline(always)]
fn place(address: usize) -> usize {
    (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> (64 - PLACES.ilog2())
}

/// Counts the live samples of each place.
pub(crate) struct CountingFilter([AtomicU8; PLACES]);

impl CountingFilter {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU8::new(0) }; PLACES])
    }

    pub(crate) fn enter(&self, address: usize) {
        // Relaxed: who frees the block was handed it after this.
        self.0[place(address)].fetch_add(1, Ordering::Relaxed);
    }
}

impl Mark for CountingFilter {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        let block = entered(layout);
        self.enter(block.addr());
        block
    }

    #[inline(always)]
    fn is_suspect(&self, block: *mut u8, _layout: Layout) -> bool {
        self.0[place(block.addr())].load(Ordering::Relaxed) != 0
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        if left(block) {
            self.0[place(block.addr())].fetch_sub(1, Ordering::Relaxed);
        }
        // SAFETY: given by the caller.
        unsafe { System.dealloc(block, layout) };
    }
}

/// The product's: counts the live samples of each page, and `LOOKS` also at each allocation whether C has
/// freed a sample at its address.
pub(crate) struct Page<const LOOKS: bool>(Vicinity<PAGES>);

impl<const LOOKS: bool> Page<LOOKS> {
    pub(crate) const fn new() -> Self {
        Self(Vicinity::new([const { AtomicU16::new(0) }; PAGES]))
    }

    pub(crate) fn enter(&self, address: usize) {
        self.0.enter(address);
    }
}

impl<const LOOKS: bool> Mark for Page<LOOKS> {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        let block = entered(layout);
        self.enter(block.addr());
        block
    }

    #[inline(always)]
    fn is_fresh_suspect(&self, block: *mut u8) -> bool {
        LOOKS && self.0.is_inhabited(block.addr(), usize::MAX)
    }

    fn look_at(&self, block: *mut u8) {
        if self.0.may_hold(block.addr(), usize::MAX) && left(block) {
            self.0.leave(block.addr());
        }
    }

    #[inline(always)]
    fn is_suspect(&self, block: *mut u8, _layout: Layout) -> bool {
        self.0.is_inhabited(block.addr(), usize::MAX)
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        self.look_at(block);
        // SAFETY: given by the caller.
        unsafe { System.dealloc(block, layout) };
    }
}

/// Marks places and never unmarks one.
pub(crate) struct PlainFilter([AtomicU64; PLACES / 64]);

impl PlainFilter {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; PLACES / 64])
    }

    pub(crate) fn enter(&self, address: usize) {
        let place = place(address);
        // Relaxed: as in the other filter.
        self.0[place / 64].fetch_or(1 << (place % 64), Ordering::Relaxed);
    }
}

impl Mark for PlainFilter {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        let block = entered(layout);
        self.enter(block.addr());
        block
    }

    #[inline(always)]
    fn is_suspect(&self, block: *mut u8, _layout: Layout) -> bool {
        let place = place(block.addr());
        self.0[place / 64].load(Ordering::Relaxed) >> (place % 64) & 1 != 0
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        left(block);
        // SAFETY: given by the caller.
        unsafe { System.dealloc(block, layout) };
    }
}

/// Cuts sampled blocks from a range of addresses of its own, in powers of two; a lock guards it.
pub(crate) struct Range {
    base: AtomicPtr<u8>,
    state: Mutex<Pieces>,
}

/// What is free of a range: lists by the logarithm of the size, linked by the first word of each
/// block, and the rest, which nobody has touched.
struct Pieces {
    free: [*mut u8; 48],
    used: usize,
}

// SAFETY: the pointers are used under the lock.
unsafe impl Send for Pieces {}

const RANGE: usize = 64 << 30;

impl Range {
    pub(crate) const fn new() -> Self {
        Self {
            base: AtomicPtr::new(ptr::null_mut()),
            state: Mutex::new(Pieces { free: [ptr::null_mut(); 48], used: 0 }),
        }
    }

    /// Reserves the range. To be called once, before anything else.
    pub(crate) fn reserve(&self) {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a mapping of its own.
        let base = unsafe { libc::mmap(ptr::null_mut(), RANGE, protection, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "64 GiB of addresses");
        // Relaxed: read by threads that begin later.
        self.base.store(base.cast(), Ordering::Relaxed);
    }
}

fn power(layout: Layout) -> usize {
    layout.size().max(layout.align()).max(16).next_power_of_two()
}

impl Mark for Range {
    fn allocate(&self, layout: Layout) -> *mut u8 {
        let size = power(layout);
        let mut pieces = self.state.lock().expect("no panic");
        let first = &mut pieces.free[size.ilog2() as usize];
        let block = if first.is_null() {
            pieces.used = pieces.used.next_multiple_of(size) + size;
            assert!(pieces.used <= RANGE, "the range is large enough for the bench");
            // SAFETY: within the range.
            unsafe { self.base.load(Ordering::Relaxed).add(pieces.used - size) }
        } else {
            let block = *first;
            // SAFETY: written by `free`.
            *first = unsafe { block.cast::<*mut u8>().read() };
            block
        };
        drop(pieces);
        LIVE.insert(block.addr() as u64, [0; 3]);
        block
    }

    #[inline(always)]
    fn is_suspect(&self, block: *mut u8, _layout: Layout) -> bool {
        // Relaxed: as in `reserve`.
        block.addr().wrapping_sub(self.base.load(Ordering::Relaxed).addr()) < RANGE
    }

    unsafe fn free(&self, block: *mut u8, layout: Layout) {
        left(block);
        let mut pieces = self.state.lock().expect("no panic");
        let first = &mut pieces.free[power(layout).ilog2() as usize];
        // SAFETY: at least 16 bytes, which nobody uses any more.
        unsafe { block.cast::<*mut u8>().write(*first) };
        *first = block;
    }
}
