//! A model of a heap beside the real one: what every block holds, and what all sums must be.
//!
//! The allocator under test is not the program's, so that nobody else adds to the sums.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to call")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::LazyLock;

use profiler_core::{Kind, ProfiledAllocator, Rates, Symbols, View, set_rates, snapshot_with};

use crate::inner::{Book, Checked};
use crate::steps::Step;

/// The sums of a profile or of `memory()`: objects and bytes, allocated and alive.
pub type Sums = [i64; 4];

/// The blocks of one allocator, and what must be true of them.
#[derive(Debug)]
pub struct Shadow<A: GlobalAlloc + 'static> {
    heap: &'static ProfiledAllocator<Checked<A>>,
    book: &'static Book,
    blocks: Vec<Block>,
    rate: u64,
    /// Bytes to tell contents by.
    contents: usize,
    /// What was there before.
    memory_before: Sums,
    heap_before: Sums,
    out_before: usize,
    memory: Sums,
    /// What is sampled; as long as the rate was never other than 0 or 1.
    sampled: Option<Sums>,
}

#[derive(Debug)]
struct Block {
    address: *mut u8,
    layout: Layout,
    /// Where in `CONTENTS` what it holds begins.
    contents: usize,
    is_sampled: bool,
}

/// The largest block.
pub const MOST: usize = 1 << 20;

/// Bytes without a pattern, by Knuth's generator; each block holds a piece of these.
static CONTENTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 1_u64;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(MOST + PLACES).collect()
});
static ZEROS: [u8; MOST] = [0; MOST];
/// So many places a piece may begin at.
const PLACES: usize = 4096;

/// Returns the sums of the heap profile, over everything.
///
/// # Panics
///
/// There is none.
#[must_use]
pub fn heap_sums() -> Sums {
    let view = View::default().symbols(Symbols::None);
    let totals = snapshot_with(Kind::Heap, view).expect("available").totals();
    totals.try_into().expect("four columns")
}

/// Returns what `memory()` says, as objects and bytes that were allocated and that are alive.
#[must_use]
pub fn memory_sums() -> Sums {
    let Some(sums) = profiler_core::memory().allocations else { return [0; 4] };
    let objects = sums.allocated_objects.cast_signed();
    let bytes = sums.allocated_bytes.cast_signed();
    let live_objects = objects - sums.freed_objects.cast_signed();
    [objects, bytes, live_objects, bytes - sums.freed_bytes.cast_signed()]
}

fn minus(sums: Sums, before: Sums) -> Sums {
    std::array::from_fn(|i| sums[i] - before[i])
}

/// Adds an allocation of so many bytes, or takes one from those that are alive.
fn allocated(sums: &mut Sums, size: usize) {
    for (sum, value) in sums.iter_mut().zip([1, size as i64, 1, size as i64]) {
        *sum += value;
    }
}

fn freed(sums: &mut Sums, size: usize) {
    sums[2] -= 1;
    sums[3] -= size as i64;
}

impl<A: GlobalAlloc + 'static> Shadow<A> {
    /// Begins with no blocks, at that rate.
    ///
    /// # Panics
    ///
    /// A profile cannot be read.
    #[must_use]
    pub fn new(
        heap: &'static ProfiledAllocator<Checked<A>>,
        book: &'static Book,
        rate: u64,
    ) -> Self {
        // The first allocation makes the profile available.
        let layout = Layout::new::<u8>();
        // SAFETY: the layout is not of size zero.
        let block = unsafe { heap.alloc(layout) };
        // SAFETY: allocated just now.
        unsafe { heap.dealloc(block, layout) };
        book.check();
        book.take_calls();
        let mut shadow = Self {
            heap,
            book,
            blocks: Vec::new(),
            rate,
            contents: 0,
            memory_before: memory_sums(),
            heap_before: heap_sums(),
            out_before: book.out(),
            memory: [0; 4],
            sampled: Some([0; 4]),
        };
        shadow.step(Step::Rate(rate));
        shadow
    }

    /// Does one thing and checks all that can be checked cheaply.
    ///
    /// # Panics
    ///
    /// Something is not as it must be.
    #[track_caller]
    pub fn step(&mut self, step: Step) {
        match step {
            Step::Allocate { layout, zeroed } => self.allocate(layout, zeroed),
            Step::Resize { block, size } if !self.blocks.is_empty() => {
                self.resize(block % self.blocks.len(), size);
            }
            Step::Free(block) if !self.blocks.is_empty() => {
                let block = self.blocks.swap_remove(block % self.blocks.len());
                self.check_contents(&block, block.layout.size());
                self.give_back(&block);
            }
            Step::FailToAllocate(layout) => {
                for zeroed in [false, true] {
                    assert!(self.book.failing(|| self.ask(layout, zeroed)).is_null());
                }
            }
            Step::FailToResize { block, size } if !self.blocks.is_empty() => {
                let block = &self.blocks[block % self.blocks.len()];
                let resize = || {
                    // SAFETY: it is ours, with this layout; the size is not zero.
                    unsafe { self.heap.realloc(block.address, block.layout, size) }
                };
                assert!(self.book.failing(resize).is_null());
                self.check_contents(block, block.layout.size());
            }
            Step::Resize { .. } | Step::Free(_) | Step::FailToResize { .. } => {}
            Step::Rate(rate) => {
                self.rate = rate;
                if rate > 1 {
                    self.sampled = None;
                }
                set_rates(Rates::ALL.heap_bytes(rate));
            }
        }
        self.book.check();
        assert_eq!(minus(memory_sums(), self.memory_before), self.memory, "memory() at {step:?}");
    }

    /// Checks the heap profile, which is dear, frees all that is left, and checks it again.
    ///
    /// # Panics
    ///
    /// It is not what was allocated while everything was sampled, or something is left.
    #[track_caller]
    pub fn finish(mut self) {
        if let Some(sampled) = self.sampled {
            assert_eq!(minus(heap_sums(), self.heap_before), sampled, "the heap profile");
        }
        while !self.blocks.is_empty() {
            self.step(Step::Free(0));
        }
        let sums = minus(heap_sums(), self.heap_before);
        assert_eq!(sums[2..], [0, 0], "in use, when all is freed");
        if let Some(sampled) = self.sampled {
            assert_eq!(sums, sampled, "the heap profile when all is freed");
        }
        assert_eq!(self.book.out(), self.out_before, "blocks of the inner allocator");
    }

    /// Returns the address of the block that was allocated last.
    ///
    /// # Panics
    ///
    /// There is none.
    #[must_use]
    pub fn last(&self) -> usize {
        self.blocks.last().expect("a block").address.addr()
    }

    fn ask(&self, layout: Layout, zeroed: bool) -> *mut u8 {
        if zeroed {
            // SAFETY: the layout is not of size zero.
            unsafe { self.heap.alloc_zeroed(layout) }
        } else {
            // SAFETY: as above.
            unsafe { self.heap.alloc(layout) }
        }
    }

    #[track_caller]
    fn allocate(&mut self, layout: Layout, zeroed: bool) {
        let address = self.ask(layout, zeroed);
        assert!(!address.is_null(), "no memory for the test");
        self.contents = (self.contents + 7) % PLACES;
        let is_sampled = self.rate == 1;
        let block = Block { address, layout, contents: self.contents, is_sampled };
        self.check_place(&block);
        if zeroed {
            assert!(block.bytes() == &ZEROS[..layout.size()], "not zero: {block:?}");
        }
        block.write();
        self.count_allocation(layout.size());
        self.blocks.push(block);
    }

    #[track_caller]
    fn resize(&mut self, block: usize, size: usize) {
        let old = self.blocks.swap_remove(block);
        self.check_contents(&old, old.layout.size());
        // SAFETY: it is ours, with this layout; the size is not zero.
        let address = unsafe { self.heap.realloc(old.address, old.layout, size) };
        assert!(!address.is_null(), "no memory for the test");
        let layout = Layout::from_size_align(size, old.layout.align()).expect("a layout");
        let is_sampled = self.rate == 1;
        let new = Block { address, layout, contents: old.contents, is_sampled };
        self.check_place(&new);
        self.check_contents(&new, size.min(old.layout.size()));
        new.write();
        self.count_free(&old);
        self.count_allocation(size);
        self.blocks.push(new);
    }

    fn give_back(&mut self, block: &Block) {
        // SAFETY: it is ours, with this layout, and not used any more.
        unsafe { self.heap.dealloc(block.address, block.layout) };
        self.count_free(block);
    }

    fn count_allocation(&mut self, size: usize) {
        allocated(&mut self.memory, size);
        if let Some(sampled) = &mut self.sampled
            && self.rate == 1
        {
            allocated(sampled, size);
        }
    }

    fn count_free(&mut self, block: &Block) {
        freed(&mut self.memory, block.layout.size());
        if let Some(sampled) = &mut self.sampled
            && block.is_sampled
        {
            freed(sampled, block.layout.size());
        }
    }

    #[track_caller]
    fn check_place(&self, block: &Block) {
        let address = block.address.addr();
        assert_eq!(address % block.layout.align(), 0, "{block:?}");
        assert!(self.book.holds(address, block.layout.size()), "beyond its memory: {block:?}");
    }

    #[track_caller]
    fn check_contents(&self, block: &Block, size: usize) {
        let is_kept = block.bytes()[..size] == block.expected()[..size];
        assert!(is_kept, "the first {size} bytes are not kept: {block:?}");
    }
}

impl Block {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the block is out, its owner's alone, and Checked has filled it.
        unsafe { std::slice::from_raw_parts(self.address, self.layout.size()) }
    }

    fn expected(&self) -> &'static [u8] {
        &CONTENTS[self.contents..][..self.layout.size()]
    }

    fn write(&self) {
        // SAFETY: the block is out and its owner's alone; the bytes are elsewhere.
        unsafe {
            self.address.copy_from_nonoverlapping(self.expected().as_ptr(), self.layout.size());
        }
    }
}

/// A test that has failed must not leave blocks behind for the next one.
impl<A: GlobalAlloc + 'static> Drop for Shadow<A> {
    fn drop(&mut self) {
        for block in std::mem::take(&mut self.blocks) {
            self.give_back(&block);
        }
    }
}
