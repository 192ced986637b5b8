//! The allocator's operations, each sampled and not before and after: contents, places, sums.
//!
//! The allocator under test is not the program's, so that the tests alone add to the sums, which are
//! exact.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use profiler_core::{Config, ProfiledAllocator, Rates, set_rates};
use profiler_tests::inner::{Book, Call, Checked};
use profiler_tests::shadow::{Shadow, Sums, heap_sums, memory_sums};
use profiler_tests::steps::{Step, check_random_steps};

static BOOK: Book = Book::new();
static HEAP: ProfiledAllocator<Checked<System>> =
    ProfiledAllocator::new(Checked::new(System, &BOOK));

/// A size to which and from which blocks are resized.
const LARGE: usize = 64 << 10;

/// Rates before and after a change of size: nothing or everything is sampled.
const EACH_WAY: [(u64, u64); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// One test at a time: they share the process's rates and sums.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().stack_depth(1)).expect("the first start");
        // The first allocation makes the profile available.
        churn(1, 1);
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout")
}

#[test]
fn random_steps_with_everything_or_nothing_sampled() {
    let _turn = turn();
    check_random_steps(&HEAP, &BOOK, &[1, 0], 200);
}

#[test]
fn random_steps_at_any_rate() {
    let _turn = turn();
    check_random_steps(&HEAP, &BOOK, &[512, 0, 1, 8192, 512 << 10, 2], 200);
}

/// Every way from one size to another, from less than a page to many, with every alignment, sampled or not before and after, and with a failure between.
#[test]
fn every_change_of_size() {
    let _turn = turn();
    let sizes = [1, 8, 9, 4000, LARGE - 9, LARGE - 8, LARGE - 1, LARGE, LARGE + 1, 4 * LARGE];
    let aligns = [1, 2, 4, 8, 16, 64, 4096];
    for (align, before, after) in
        aligns.iter().flat_map(|align| EACH_WAY.map(|(before, after)| (*align, before, after)))
    {
        let mut shadow = Shadow::new(&HEAP, &BOOK, before);
        for (old, new) in sizes.iter().flat_map(|old| sizes.map(|new| (*old, new))) {
            for zeroed in [false, true] {
                shadow.step(Step::Allocate { layout: layout(old, align), zeroed });
            }
            shadow.step(Step::Rate(after));
            for block in [0, 1] {
                shadow.step(Step::FailToResize { block, size: new });
                shadow.step(Step::Resize { block, size: new });
            }
            shadow.step(Step::Rate(before));
            shadow.step(Step::Resize { block: 0, size: old });
            shadow.step(Step::Free(0));
            shadow.step(Step::Free(0));
        }
        shadow.finish();
    }
}

/// Every block is the inner allocator's own, sampled or not: it is asked for what the program asks for, gets
/// it back by the same address and layout, and may grow it in place or move pages instead of bytes.
#[test]
fn the_inner_allocator_is_asked_for_what_the_program_asks_for() {
    let _turn = turn();
    for (size, new) in [(1, 2), (100, 200), (100, LARGE), (LARGE, 100), (LARGE, 16 * LARGE)] {
        for (align, (before, after)) in
            [1, 8, 16, 4096].into_iter().flat_map(|align| EACH_WAY.map(|rates| (align, rates)))
        {
            let mut shadow = Shadow::new(&HEAP, &BOOK, before);
            let (old, resized) = (layout(size, align), layout(new, align));
            shadow.step(Step::Allocate { layout: old, zeroed: false });
            let first = shadow.last();
            shadow.step(Step::Rate(after));
            shadow.step(Step::Resize { block: 0, size: new });
            let second = shadow.last();
            shadow.step(Step::Free(0));
            shadow.step(Step::Allocate { layout: old, zeroed: true });
            let third = shadow.last();
            let calls = [
                Call::Alloc(old, first),
                Call::Realloc(first, old, new, second),
                Call::Dealloc(second, resized),
                Call::AllocZeroed(old, third),
            ];
            assert_eq!(BOOK.take_calls(), calls, "{old:?} to {new} at {before}, {after}");
            shadow.finish();
        }
    }
}

/// Allocates so many blocks of that size and frees each at once.
fn churn(blocks: usize, size: usize) {
    for _ in 0..blocks {
        // SAFETY: the layout is not of size zero.
        let block = unsafe { HEAP.alloc(layout(size, 8)) };
        // SAFETY: allocated just now.
        unsafe { HEAP.dealloc(block, layout(size, 8)) };
    }
}

fn grown(before: Sums, now: Sums) -> Sums {
    std::array::from_fn(|i| now[i] - before[i])
}

/// An allocation of 2^60 bytes that failed must not take the next sample that far away.
#[test]
fn sampling_goes_on_after_a_huge_allocation_has_failed() {
    let _turn = turn();
    set_rates(Rates::ALL.heap_bytes(256 << 10));
    // SAFETY: the layout is not of size zero.
    let block = unsafe { HEAP.alloc(layout(100, 8)) };
    let huge = 1 << 60;
    let fail: [&dyn Fn() -> *mut u8; 4] = [
        // SAFETY: the layout is not of size zero.
        &|| unsafe { HEAP.alloc(layout(huge, 8)) },
        // SAFETY: as above.
        &|| unsafe { HEAP.alloc(layout(huge, 4096)) },
        // SAFETY: as above.
        &|| unsafe { HEAP.alloc_zeroed(layout(huge, 8)) },
        // SAFETY: allocated above, with this layout.
        &|| unsafe { HEAP.realloc(block, layout(100, 8), huge) },
    ];
    for (which, fail) in fail.iter().enumerate() {
        let (heap, memory) = (heap_sums(), memory_sums());
        assert!(fail().is_null());
        assert_eq!(heap_sums(), heap, "call {which}");
        assert_eq!(memory_sums(), memory, "call {which}");
        // 40 samples are due: none has a probability of e^-40.
        churn(10_240, 1024);
        assert!(heap_sums()[1] > heap[1], "nothing is sampled after call {which}");
    }
    // SAFETY: allocated above, and still ours.
    unsafe { HEAP.dealloc(block, layout(100, 8)) };
    BOOK.take_calls();
}

/// A failure says nothing of where the next sample lies: what follows it is sampled as all else.
#[test]
fn failures_bias_nothing() {
    const ROUNDS: usize = 100_000;
    const SIZE: usize = 64;
    const RATE: u64 = 4096;

    let _turn = turn();
    set_rates(Rates::ALL.heap_bytes(RATE));
    let before = heap_sums();
    for _ in 0..ROUNDS {
        // SAFETY: the layout is not of size zero.
        let block = BOOK.failing(|| unsafe { HEAP.alloc(layout(RATE as usize, 8)) });
        assert!(block.is_null());
        churn(1, SIZE);
        BOOK.take_calls();
    }
    let [objects, bytes, ..] = grown(before, heap_sums());
    let probability = 1.0 - (-(SIZE as f64) / RATE as f64).exp();
    let deviation = (ROUNDS as f64 * (1.0 - probability) / probability).sqrt();
    // Six standard deviations: not met by chance in a lifetime.
    let said = format!("{objects} objects of {ROUNDS}, allowed 6 × {deviation}");
    assert!((objects as f64 - ROUNDS as f64).abs() < 6.0 * deviation, "{said}");
    assert!((bytes as f64 / SIZE as f64 - ROUNDS as f64).abs() < 6.0 * deviation, "{said}");
}

/// A block on its way to another thread.
struct Sent(*mut u8, Layout);

// SAFETY: it is the receiver's alone.
unsafe impl Send for Sent {}

impl Sent {
    fn free(self) {
        // SAFETY: allocated with this layout, and not used any more.
        unsafe { HEAP.dealloc(self.0, self.1) };
    }
}

/// Threads that allocate and end, and others that do nothing but free: their first call is a free.
#[test]
fn threads_that_end_and_threads_that_only_free_are_counted() {
    const THREADS: usize = 20;
    const BLOCKS: usize = 200;

    let _turn = turn();
    for rate in [1, 0, 512] {
        set_rates(Rates::ALL.heap_bytes(rate));
        let (heap, memory) = (heap_sums(), memory_sums());
        let layouts = |seed: usize| layout(1 + (seed * 7919) % (2 * LARGE), 1 << (seed % 7));
        let mut bytes = 0;
        let mut sent = Vec::new();
        for thread in 0..THREADS {
            bytes += (0..BLOCKS).map(|block| layouts(thread + block).size() as i64).sum::<i64>();
            let allocate = move |block| {
                let layout = layouts(thread + block);
                // SAFETY: the layout is not of size zero.
                Sent(unsafe { HEAP.alloc(layout) }, layout)
            };
            let blocks = move || (0..BLOCKS).map(allocate).collect::<Vec<_>>();
            sent.push(thread::spawn(blocks).join().expect("no panic"));
        }
        let objects = (THREADS * BLOCKS) as i64;
        let expected = [objects, bytes, objects, bytes];
        assert_eq!(grown(memory, memory_sums()), expected, "at rate {rate}");
        match rate {
            0 => assert_eq!(grown(heap, heap_sums()), [0; 4]),
            1 => assert_eq!(grown(heap, heap_sums()), expected),
            _ => assert!(grown(heap, heap_sums()).iter().all(|sum| *sum > 0)),
        }
        thread::scope(|scope| {
            for blocks in sent {
                scope.spawn(|| blocks.into_iter().for_each(Sent::free));
            }
        });
        assert_eq!(grown(memory, memory_sums()), [objects, bytes, 0, 0], "at rate {rate}");
        assert_eq!(grown(heap, heap_sums())[2..], [0, 0], "at rate {rate}");
    }
    BOOK.check();
    BOOK.take_calls();
}
