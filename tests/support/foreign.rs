//! C code that shares an allocator with Rust: it measures, resizes and frees what Rust allocated, and
//! Rust frees what C did. Rust says that this is wrong; programs do it all the same where it works.

#![allow(unsafe_code, reason = "memory crosses from one language to the other")]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::sync::LazyLock;

use profiler_core::memory;

use crate::collections::{at, sums_under};
use crate::keep;

/// The functions by which C shares the allocator of the program.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "each is the one of that name in C")]
pub struct Foreign {
    pub malloc: unsafe extern "C" fn(usize) -> *mut c_void,
    pub realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    pub free: unsafe extern "C" fn(*mut c_void),
    pub malloc_usable_size: unsafe extern "C" fn(*mut c_void) -> usize,
}

/// What is checked at each step: little things, a page, what the profiler calls large.
const SIZES: [usize; 14] =
    [1, 7, 8, 15, 16, 24, 63, 64, 500, 512, 1024, 4096, (64 << 10) - 1, 64 << 10];
const ALIGNS: [usize; 6] = [1, 8, 16, 64, 512, 8192];
/// What a block may be measured is twice its size and the largest alignment, at the most.
const ROUNDED: usize = 8192;

/// Blocks that C frees at a time.
const BLOCKS: usize = 8;

/// What blocks hold a piece of.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..256 << 10).map(|at: u32| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect()
});

/// What a block of that size holds.
fn pattern(size: usize) -> &'static [u8] {
    &PATTERN[size % 1000..][..size]
}

/// A block of Rust's allocator.
struct Block {
    start: *mut u8,
    layout: Layout,
}

impl Block {
    #[inline(never)]
    fn new(layout: Layout) -> Self {
        // SAFETY: no size of these tests is zero.
        let start = unsafe { alloc(layout) };
        keep!();
        assert!(!start.is_null(), "no memory for the test");
        assert!(start.addr().is_multiple_of(layout.align()));
        Self { start, layout }.filled()
    }

    fn filled(self) -> Self {
        let size = self.layout.size();
        // SAFETY: the block is this one's alone, and so long.
        unsafe { self.start.copy_from_nonoverlapping(pattern(size).as_ptr(), size) };
        self
    }

    /// Asserts that the block holds what it was filled with, up to where it was cut.
    #[track_caller]
    fn check(&self, filled: usize) {
        // SAFETY: the block is this one's alone, and filled so far.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.start, self.layout.size().min(filled)) };
        assert!(bytes == &pattern(filled)[..bytes.len()], "{:?}", self.layout);
    }

    /// Asserts that a block of `before` bytes is whole, and fills it anew.
    #[track_caller]
    fn kept_from(self, before: usize) -> Self {
        self.check(before);
        self.filled()
    }

    fn free(self) {
        // SAFETY: allocated with this layout, by whichever language.
        unsafe { dealloc(self.start, self.layout) };
    }
}

impl Foreign {
    /// Checks all of it at a rate, `rounds` times.
    ///
    /// # Panics
    ///
    /// Something does not work as it does without the profiler.
    #[track_caller]
    pub fn check(self, rate: u64, rounds: usize) {
        at(rate, || {
            for _ in 0..rounds {
                for layout in SIZES.into_iter().flat_map(layouts) {
                    self.check_block(layout);
                }
            }
        });
        let sums = at(0, || sums_under(&Block::new));
        assert!(sums.iter().all(|sum| *sum >= 0), "{sums:?}");
        assert!(sums[2] <= sums[0] && sums[3] <= sums[1], "{sums:?}");
        let totals = memory().allocations.expect("there is an allocator");
        assert!(totals.freed_objects <= totals.allocated_objects, "{totals:?}");
    }

    fn check_block(self, layout: Layout) {
        let block = self.measured(Block::new(layout));
        self.free(block);
        self.free(self.resized(self.measured(Block::new(layout)), 3 * layout.size()));
        // What C has resized goes back to Rust, as `Vec::from_raw_parts` would take it.
        let plain =
            Layout::from_size_align(layout.size(), layout.align().min(8)).expect("a layout");
        let block = self.resized(Block::new(plain), plain.size() / 2 + 1);
        self.rust_resized(block, 2 * plain.size() + 1).free();
        let block = self.allocated(plain);
        self.measured(block).free();
        self.free(self.rust_resized(self.allocated(plain), 100));
        self.check_zeroed(layout);
    }

    /// What C and vector instructions rely on: a sane size, and the alignment of `malloc`.
    #[track_caller]
    fn measured(self, block: Block) -> Block {
        let size = block.layout.size();
        // SAFETY: the block is of the allocator that C shares.
        let usable = unsafe { (self.malloc_usable_size)(block.start.cast()) };
        assert!((size..=2 * (size + ROUNDED)).contains(&usable), "{:?} is {usable}", block.layout);
        if size >= 16 {
            assert_eq!(block.start.addr() % 16, 0, "{:?}", block.layout);
            // SAFETY: 16 bytes that are filled, at a multiple of 16: read by one aligned load.
            let loaded = unsafe { block.start.cast::<u128>().read() };
            assert_eq!(loaded.to_ne_bytes(), pattern(size)[..16]);
        }
        block.check(size);
        block
    }

    fn allocated(self, layout: Layout) -> Block {
        // SAFETY: the function takes any size.
        let start = unsafe { (self.malloc)(layout.size()) }.cast::<u8>();
        assert!(!start.is_null(), "no memory for the test");
        Block { start, layout }.filled()
    }

    fn resized(self, block: Block, size: usize) -> Block {
        // SAFETY: as in `measured`; the block is not used any more.
        let start = unsafe { (self.realloc)(block.start.cast(), size) }.cast::<u8>();
        assert!(!start.is_null(), "no memory for the test");
        let layout = Layout::from_size_align(size, 1).expect("a layout");
        Block { start, layout }.kept_from(block.layout.size())
    }

    fn rust_resized(self, block: Block, size: usize) -> Block {
        // SAFETY: as in `Block::free`; the size is not zero.
        let start = unsafe { realloc(block.start, block.layout, size) };
        assert!(!start.is_null(), "no memory for the test");
        let layout = Layout::from_size_align(size, block.layout.align()).expect("a layout");
        Block { start, layout }.kept_from(block.layout.size())
    }

    #[allow(clippy::needless_pass_by_value, reason = "the block is gone")]
    fn free(self, block: Block) {
        // SAFETY: as in `measured`; the block is not used any more.
        unsafe { (self.free)(block.start.cast()) };
    }

    fn check_zeroed(self, layout: Layout) {
        // SAFETY: no size of these tests is zero.
        let start = unsafe { alloc_zeroed(layout) };
        assert!(!start.is_null(), "no memory for the test");
        // SAFETY: just allocated.
        let bytes = unsafe { std::slice::from_raw_parts(start, layout.size()) };
        assert!(bytes.iter().all(|byte| *byte == 0), "{layout:?}");
        self.free(self.measured(Block { start, layout }.filled()));
    }

    /// Has C free what Rust allocates, again and again. Addresses come again, so in use does not grow.
    ///
    /// # Panics
    ///
    /// It does.
    #[track_caller]
    pub fn check_in_use(self) {
        const ROUNDS: usize = 1000;
        let sums = || at(0, || sums_under(&blocks));
        // An allocator may give a page up of which nothing is in use, and its addresses never come again.
        let kept = at(0, blocks);
        let mut addresses = BTreeSet::new();
        for _ in 0..ROUNDS {
            let blocks = at(1, blocks);
            addresses.extend(blocks.iter().map(|block| block.start.addr()));
            at(1, || blocks.into_iter().for_each(|block| self.free(block)));
        }
        let [objects, _, in_use, _] = sums();
        assert_eq!(objects, (ROUNDS * BLOCKS) as i64);
        // One at each address, the last.
        assert!(in_use <= addresses.len() as i64, "{in_use} at {} addresses", addresses.len());
        assert!(addresses.len() < 100 * BLOCKS, "addresses do not come again: {}", addresses.len());
        // Rust frees what is at the same addresses, and nothing is left of those that it meets. The blocks are held until
        // then, since an allocator may use other pages for as long as these have room.
        let (mut met, mut held) = (BTreeSet::new(), Vec::new());
        while met.is_disjoint(&addresses) && held.len() < 1_000_000 {
            let blocks = at(0, blocks);
            met.extend(blocks.iter().map(|block| block.start.addr()));
            held.extend(blocks);
        }
        at(0, || held.into_iter().chain(kept).for_each(Block::free));
        let left = addresses.difference(&met).count();
        assert!(left < addresses.len(), "no address comes again");
        let in_use = sums()[2];
        assert!(in_use <= left as i64, "{in_use} in use, {left} addresses are left");
    }
}

#[inline(never)]
fn blocks() -> [Block; BLOCKS] {
    let blocks = [(); BLOCKS].map(|()| Block::new(Layout::new::<[u64; 5]>()));
    keep!();
    blocks
}

fn layouts(size: usize) -> impl Iterator<Item = Layout> {
    ALIGNS.into_iter().map(move |align| Layout::from_size_align(size, align).expect("a layout"))
}
