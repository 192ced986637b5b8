//! What is done to a heap, at random.

use std::alloc::{GlobalAlloc, Layout};

use profiler_core::ProfiledAllocator;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::inner::{Book, Checked};
use crate::shadow::Shadow;

/// One thing that is done to the heap. A block is chosen by a number, modulo how many there are.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Allocates; of zeros if asked for.
    Allocate {
        /// Size and alignment.
        layout: Layout,
        /// `alloc_zeroed` instead of `alloc`.
        zeroed: bool,
    },
    /// Gives a block another size.
    Resize {
        /// Which.
        block: usize,
        /// Bytes.
        size: usize,
    },
    /// Gives a block back.
    Free(usize),
    /// Both kinds of allocation of that layout, of 4096 bytes or more, fail.
    FailToAllocate(Layout),
    /// A change of size fails.
    FailToResize {
        /// Which.
        block: usize,
        /// Bytes.
        size: usize,
    },
    /// Sets the bytes between two samples.
    Rate(u64),
}

/// Returns sizes up to 300,000, many of them small, many about 64 KiB; of few size classes, since
/// each makes rows that every reading of the profile goes through.
fn sizes() -> impl Strategy<Value = usize> {
    let others = proptest::sample::select(&[100, 500, 4096, 40_000, 100_000, 300_000_usize]);
    prop_oneof![2 => 1..=48_usize, 1 => 65_500..=65_560_usize, 1 => others]
}

/// Returns layouts with alignments from 1 to 4096, most of them usual ones.
fn layouts() -> impl Strategy<Value = Layout> {
    let aligns = prop_oneof![3 => 0..=3_u32, 1 => 4..=12_u32];
    (sizes(), aligns)
        .prop_map(|(size, align)| Layout::from_size_align(size, 1 << align).expect("a layout"))
}

/// Returns layouts of blocks so large that an allocation of one that fails is not counted.
fn large_layouts() -> impl Strategy<Value = Layout> {
    let large = |layout: Layout| {
        let size = layout.size().max(4096);
        Layout::from_size_align(size, layout.align()).expect("a layout")
    };
    layouts().prop_map(large)
}

fn steps(rates: &'static [u64]) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (layouts(), any::<bool>())
            .prop_map(|(layout, zeroed)| Step::Allocate { layout, zeroed }),
        8 => (any::<usize>(), sizes()).prop_map(|(block, size)| Step::Resize { block, size }),
        4 => any::<usize>().prop_map(Step::Free),
        1 => large_layouts().prop_map(Step::FailToAllocate),
        2 => (any::<usize>(), sizes()).prop_map(|(block, size)| Step::FailToResize { block, size }),
        3 => proptest::sample::select(rates).prop_map(Step::Rate),
    ]
}

/// Does so many random sequences of steps, at rates out of these, from the first on.
///
/// # Panics
///
/// Something was not as it must be; says after which steps.
#[track_caller]
pub fn check_random_steps<A: GlobalAlloc + 'static>(
    heap: &'static ProfiledAllocator<Checked<A>>,
    book: &'static Book,
    rates: &'static [u64],
    sequences: u32,
) {
    let config =
        ProptestConfig { cases: sequences, failure_persistence: None, ..Default::default() };
    let result = TestRunner::new(config).run(&vec(steps(rates), 1..80), |steps| {
        let mut shadow = Shadow::new(heap, book, rates[0]);
        for step in steps {
            shadow.step(step);
        }
        shadow.finish();
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
