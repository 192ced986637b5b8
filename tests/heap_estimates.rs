//! What the heap profile estimates, against what was allocated: right in the mean, scattered as
//! theory says, whatever the sizes, the threads and the rate, also when it changes meanwhile.
//!
//! 100 runs of one load are 100 independent estimates of one truth, by the product's own random
//! numbers. Truth and theory are worked out from the load; [`Sum`] has the bounds.
//!
//! The mean of 100 runs shall be seen to be right within 1 %. Of n allocations of s bytes at rate R,
//! with p = 1 − e^(−s/R), the estimated count has variance n·(1 − p)/p (`sampler.rs`), about n·R/s
//! where s is small, so a standard deviation of √(R/(s·n)) times n. With 100·n = 280,000·R/s
//! allocations 1 % of their count is 5.3 of them, which a right sampler exceeds once in a million
//! times: 4.5 million of 32 KiB at the default rate, 2.2 million of 512 B at a rate of 4 KiB. Other
//! sizes take about as many again. Bytes need far fewer.

#![allow(unsafe_code, reason = "an allocator is implemented and called")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex as Turn, MutexGuard, PoisonError};
use std::{mem, thread};

use profiler_core::{
    Config, Kind, ProfiledAllocator, Rates, Symbols, View, memory, set_rates, snapshot_with,
};
use profiler_tests::estimate::{Events, Sum};

const RUNS: usize = 100;
const THREADS: usize = 4;
const DEFAULT: u64 = Rates::DEFAULT.heap_bytes;

/// Hands out addresses 64 bytes apart, whatever is asked for: blocks overlap, which nobody notices,
/// since nobody touches them. So 100 GiB are allocated in seconds.
struct Untouched;

/// What each thread has of addresses: half a million blocks until they come round.
const PART: usize = 32 << 20;

#[repr(align(4096))]
struct Area(UnsafeCell<[u8; THREADS * PART]>);

// SAFETY: nobody reads or writes it.
unsafe impl Sync for Area {}

static AREA: Area = Area(UnsafeCell::new([0; THREADS * PART]));

thread_local! {
    /// This thread's part of the area, and how much of it is handed out.
    static NEXT: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

// SAFETY: addresses are aligned and within the area. They are those of different blocks as long as
// a block is freed before its thread has allocated half a million more.
unsafe impl GlobalAlloc for Untouched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        assert!(layout.align() <= 64);
        let (part, at) = NEXT.get();
        NEXT.set((part, (at + 64) % PART));
        AREA.0.get().cast::<u8>().wrapping_add(part * PART + at)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: given by the caller.
        unsafe { self.alloc(layout) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

static UNTOUCHED: ProfiledAllocator<Untouched> = ProfiledAllocator::new(Untouched);

/// A block that is alive.
struct Block(*mut u8, Layout);

// SAFETY: an address that is handed on.
unsafe impl Send for Block {}

/// One allocation of a load.
#[derive(Debug, Clone, Copy)]
struct Item {
    layout: Layout,
    /// Whether it stays until the next run.
    keep: bool,
}

/// Sizes from 16 B to 4 MiB, most of them around `center`, of all four kinds that the allocator
/// treats differently: small and large, of a common and of a high alignment. An eighth of them is
/// freed at once.
fn mix(center: f64, width: f64, most: f64) -> Vec<Item> {
    let mut items = Vec::new();
    for power in 4..=22_usize {
        let distance = power as f64 - center.log2();
        let count = ((most * (-distance * distance / width).exp2()) as usize).max(1);
        let size = if power < 22 { (1 << power) + ((power % 4) << (power - 3)) } else { 4 << 20 };
        for number in 0..count {
            let align = if number % 8 == 5 { 64 } else { 8 };
            let layout = Layout::from_size_align(size, align).expect("a layout");
            items.push(Item { layout, keep: number % 8 != 0 });
        }
    }
    items
}

/// Goes through a load in an order of its own for each seed.
fn mixed(items: &[Item], seed: usize) -> impl Iterator<Item = Item> {
    // A step without a common divisor comes by every item.
    let step = (items.len() / 3..).find(|&step| (2..=step.isqrt()).all(|n| step % n != 0));
    let step = step.expect("there are prime numbers");
    (0..items.len()).map(move |at| items[(seed + at * step) % items.len()])
}

/// Estimates, one a run, of `alloc_objects`, `alloc_space`, `inuse_objects` and `inuse_space`.
type Estimates = [Vec<f64>; 4];

fn totals() -> [i64; 4] {
    let view = View::default().symbols(Symbols::None);
    let profile = snapshot_with(Kind::Heap, view).expect("an allocator is there");
    profile.totals().try_into().expect("four columns")
}

/// One test at a time: they share the process's rates and its heap profile.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Turn<()> = Turn::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // The profile is there once something was allocated.
    let layout = Layout::new::<u64>();
    // SAFETY: the size is not zero.
    let block = Block(unsafe { UNTOUCHED.alloc(layout) }, layout);
    free(&UNTOUCHED, vec![block]);
    let _ = profiler_core::start(Config::default().stack_depth(2));
    turn
}

fn free(allocator: &impl GlobalAlloc, blocks: Vec<Block>) {
    for Block(block, layout) in blocks {
        // SAFETY: allocated with this layout, and nobody uses it any more.
        unsafe { allocator.dealloc(block, layout) };
    }
}

#[inline(never)]
fn allocate(item: Item, blocks: &mut Vec<Block>) {
    let block = if item.layout.size().is_multiple_of(32) {
        // SAFETY: the size is not zero.
        unsafe { UNTOUCHED.alloc_zeroed(item.layout) }
    } else {
        // SAFETY: the size is not zero.
        unsafe { UNTOUCHED.alloc(item.layout) }
    };
    let block = Block(block, item.layout);
    if item.keep {
        blocks.push(block);
    } else {
        // SAFETY: allocated above.
        unsafe { UNTOUCHED.dealloc(block.0, block.1) };
    }
}

/// Runs what the threads shall do, 100 times: free what another thread has left alive in the last
/// run, and then `body`, which gets the numbers of the run and of the thread and returns what it leaves.
fn estimates(
    allocator: &(impl GlobalAlloc + Sync),
    body: impl Fn(usize, usize) -> Vec<Block> + Sync,
) -> Estimates {
    let mut estimates = Estimates::default();
    let mut left: [Vec<Block>; THREADS] = Default::default();
    let start = totals();
    assert_eq!(start[2..], [0, 0], "nothing is alive");
    let mut before = start;
    for run in 0..RUNS {
        let given = mem::take(&mut left);
        thread::scope(|scope| {
            let threads = given.into_iter().enumerate().map(|(number, given)| {
                let body = &body;
                scope.spawn(move || {
                    // Not where the blocks of the last run are.
                    NEXT.set((number, run % 2 * PART / 2));
                    free(allocator, given);
                    body(run, number)
                })
            });
            let threads: Vec<_> = threads.collect();
            for (number, thread) in threads.into_iter().enumerate() {
                left[(number + 1) % THREADS] = thread.join().expect("no panic");
            }
        });
        let after = totals();
        let run = [after[0] - before[0], after[1] - before[1], after[2], after[3]];
        for (all, estimate) in estimates.iter_mut().zip(run) {
            all.push(estimate as f64);
        }
        before = after;
    }
    left.into_iter().for_each(|blocks| free(allocator, blocks));
    assert_eq!(totals()[2..], [0, 0], "all is freed");
    estimates
}

/// Theory of the four columns for loads of all threads, each at a rate.
fn sums(loads: &[(u64, &[Item])]) -> [Sum; 4] {
    let mut counts: BTreeMap<(u64, usize), [f64; 2]> = BTreeMap::new();
    for &(rate, items) in loads {
        for item in items {
            let count = counts.entry((rate, item.layout.size())).or_default();
            count[0] += THREADS as f64;
            count[1] += if item.keep { THREADS as f64 } else { 0.0 };
        }
    }
    [(0, false), (0, true), (1, false), (1, true)].map(|(column, bytes)| {
        let events = |(&(rate, size), count): (&(u64, usize), &[f64; 2])| Events {
            count: count[column],
            value: if bytes { size as f64 } else { 1.0 },
            probability: -(-(size as f64) / rate as f64).exp_m1(),
        };
        counts.iter().map(events).collect()
    })
}

const COLUMNS: [&str; 4] = ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"];

/// Asserts that the columns are right in the mean, and that a fault of so many percent would be seen.
#[track_caller]
fn check_means(sums: &[Sum; 4], estimates: &Estimates, percent: f64) {
    for ((column, sum), estimates) in COLUMNS.iter().zip(sums).zip(estimates) {
        let allowed = 100.0 * sum.allowed(RUNS) / (sum.truth() * RUNS as f64);
        assert!(allowed <= percent, "{column}: the load is too small: {allowed:.3} %");
        assert_eq!(sum.check_mean(estimates), Ok(()), "{column}");
    }
}

#[track_caller]
fn check_spreads(sums: &[Sum; 4], estimates: &Estimates, columns: &[usize]) {
    for &column in columns {
        let checked = sums[column].check_spread(&estimates[column]);
        assert_eq!(checked, Ok(()), "{}", COLUMNS[column]);
    }
}

/// Allocates a load at each of some rates, one after the other, on all threads; the rate is changed
/// when they are half-way.
fn check(loads: &[(u64, &[Item])], percent: f64, spread: &[usize]) {
    let _turn = turn();
    let exact = || memory().allocations.expect("an allocator is there");
    let before = exact();
    let barrier = Barrier::new(THREADS);
    let estimates = estimates(&UNTOUCHED, |run, number| {
        let mut blocks = Vec::new();
        for &(rate, items) in loads {
            if barrier.wait().is_leader() {
                set_rates(Rates::DEFAULT.heap_bytes(rate));
            }
            barrier.wait();
            for item in mixed(items, run * THREADS + number) {
                allocate(item, &mut blocks);
            }
        }
        blocks
    });
    let sums = sums(loads);
    let after = exact();
    assert_eq!(
        (after.allocated_objects - before.allocated_objects) as f64,
        RUNS as f64 * sums[0].truth()
    );
    assert_eq!(
        (after.allocated_bytes - before.allocated_bytes) as f64,
        RUNS as f64 * sums[1].truth()
    );
    check_means(&sums, &estimates, percent);
    check_spreads(&sums, &estimates, spread);
}

/// How far counts scatter is seen at the small rate only: at the default one they hang on the few
/// samples of the smallest sizes, each of which stands for up to 32,768 objects.
#[test]
fn estimates_are_right_at_the_default_rate() {
    check(&[(DEFAULT, &mix(32_768.0, 2.0, 10_500.0))], 1.0, &[1, 3]);
}

#[test]
fn estimates_are_right_at_a_small_rate() {
    check(&[(4096, &mix(512.0, 3.0, 2_800.0))], 1.0, &[0, 1, 2, 3]);
}

/// Each sample counts by the rate at which it was taken, not by that of its free or of the reading.
#[test]
fn a_rate_that_changes_between_biases_nothing() {
    let (large, small) = (mix(32_768.0, 2.0, 1_500.0), mix(512.0, 3.0, 600.0));
    let loads = [(4096, &small[..]), (DEFAULT, &large), (1, &small[..20]), (65_536, &large)];
    check(&loads, 3.0, &[1, 3]);
}

/// Ends what runs beside a test, also one that fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The rate changes all the time, in the middle of whatever threads do.
#[test]
fn a_rate_that_changes_meanwhile_biases_nothing() {
    let _turn = turn();
    let items = mix(512.0, 3.0, 1_500.0);
    let is_done = AtomicBool::new(false);
    let estimates = thread::scope(|scope| {
        let done = Done(&is_done);
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                for rate in [4096, 32_768] {
                    set_rates(Rates::DEFAULT.heap_bytes(rate));
                }
            }
        });
        let estimates = estimates(&UNTOUCHED, |run, number| {
            let mut blocks = Vec::new();
            mixed(&items, run * THREADS + number).for_each(|item| allocate(item, &mut blocks));
            blocks
        });
        drop(done);
        estimates
    });
    // At the larger rate estimates scatter more.
    check_means(&sums(&[(32_768, &items)]), &estimates, 5.0);
}

static SYSTEM: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// Sizes that a vector has as it grows and is cut.
const LIFE: [usize; 12] = [40, 80, 160, 400, 1_000, 2_500, 6_000, 70_000, 150_000, 30_000, 700, 90];

/// A `realloc` is a free and an allocation of the new size.
#[test]
fn vectors_that_grow_and_shrink_are_estimated_without_bias() {
    let _turn = turn();
    const RATE: u64 = 4096;
    set_rates(Rates::DEFAULT.heap_bytes(RATE));
    let lives = LIFE.len() * 64;
    let layout = |size| Layout::from_size_align(size, 8).expect("a layout");
    // Each ends at another size, as often at each.
    let end = |life: usize| life % LIFE.len();
    let estimates = estimates(&SYSTEM, |_, _| {
        let live = |life| {
            // SAFETY: the size is not zero.
            let mut block = unsafe { SYSTEM.alloc(layout(LIFE[0])) };
            for step in 1..=end(life) {
                // SAFETY: of the size before, and the new one is not zero.
                block = unsafe { SYSTEM.realloc(block, layout(LIFE[step - 1]), LIFE[step]) };
            }
            Block(block, layout(LIFE[end(life)]))
        };
        (0..lives).map(live).collect()
    });
    let items = (0..lives).flat_map(|life| {
        let item = move |step| Item { layout: layout(LIFE[step]), keep: step == end(life) };
        (0..=end(life)).map(item)
    });
    let items: Vec<_> = items.collect();
    let sums = sums(&[(RATE, &items)]);
    check_means(&sums, &estimates, 6.0);
    check_spreads(&sums, &estimates, &[0, 1, 2, 3]);
}
