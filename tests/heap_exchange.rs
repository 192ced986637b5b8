//! Threads that free each other's blocks while the heap is read: in use is never negative, and it is
//! nothing when all is freed, at every rate.
//!
//! `PROFILER_SOAK_SECONDS` says how long it runs in all; twelve seconds if it is not set.

#![allow(unsafe_code, reason = "an allocator is called by hand")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::{Duration, Instant};
use std::{env, ptr, thread};

use profiler_core::{
    Config, Kind, Profile, ProfiledAllocator, Rates, Symbols, View, memory, set_rates,
    snapshot_with,
};

/// Not the program's own: only what the test allocates is counted.
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

const THREADS: usize = 8;
/// Places where threads lay blocks down and take others up.
const PLACES: usize = 1000;

/// A block begins with its own layout.
#[repr(C)]
struct Head {
    size: usize,
    align: usize,
}

static PLACE: [AtomicPtr<Head>; PLACES] = [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

fn layout(random: &mut Random) -> Layout {
    // Small, around the bound of 64 KiB, and large; a part with stricter alignment.
    let most = [100, 2000, 130_000][random.below(100).saturating_sub(97)];
    let align = [8, 8, 8, 16, 64, 4096][random.below(6)];
    Layout::from_size_align(size_of::<Head>() + random.below(most), align).expect("a layout")
}

fn allocate(random: &mut Random) -> *mut Head {
    let layout = layout(random);
    // SAFETY: the size is not zero.
    let block = unsafe { ALLOCATOR.alloc(layout) }.cast::<Head>();
    assert!(!block.is_null());
    assert_eq!(block.addr() % layout.align(), 0);
    // SAFETY: the block is fresh, large enough, and aligned to 8 bytes at least.
    unsafe { block.write(Head { size: layout.size(), align: layout.align() }) };
    block
}

fn free(block: *mut Head) {
    if block.is_null() {
        return;
    }
    // SAFETY: taken out of its place by this thread alone, written by `allocate`.
    let Head { size, align } = unsafe { block.read() };
    let layout = Layout::from_size_align(size, align).expect("what was allocated");
    // SAFETY: allocated by it with this layout.
    unsafe { ALLOCATOR.dealloc(block.cast(), layout) };
}

fn reallocate(block: *mut Head, random: &mut Random) -> *mut Head {
    // SAFETY: as in `free`.
    let Head { size, align } = unsafe { block.read() };
    let old = Layout::from_size_align(size, align).expect("what was allocated");
    let new = layout(random).size();
    // SAFETY: allocated by it with this layout; the new size is not zero.
    let moved = unsafe { ALLOCATOR.realloc(block.cast(), old, new) }.cast::<Head>();
    assert!(!moved.is_null());
    // SAFETY: the head was moved along.
    let head = unsafe { &mut *moved };
    assert_eq!((head.size, head.align), (size, align), "the content is kept");
    head.size = new;
    moved
}

fn heap() -> Profile {
    snapshot_with(Kind::Heap, View::default().symbols(Symbols::None)).expect("it is available")
}

/// Tells the threads to stop, also if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges blocks until told to stop.
fn exchange(seed: u64, is_done: &AtomicBool) {
    let mut random = Random(seed);
    while !is_done.load(Ordering::Relaxed) {
        let mut block = match random.below(4) {
            0 => ptr::null_mut(),
            _ => allocate(&mut random),
        };
        if !block.is_null() && random.below(8) == 0 {
            block = reallocate(block, &mut random);
        }
        let place = &PLACE[random.below(PLACES)];
        // AcqRel: hands one block over and takes another one with what was written to it.
        free(place.swap(block, Ordering::AcqRel));
    }
}

#[test]
fn what_is_freed_by_others_leaves_the_heap_and_in_use_is_never_negative() {
    profiler_core::start(Config::default()).expect("the first start");
    // The first allocation makes the profile available.
    free(allocate(&mut Random(1)));
    let seconds = env::var("PROFILER_SOAK_SECONDS").ok().map_or(12, |text| {
        text.parse().expect("PROFILER_SOAK_SECONDS is a whole number of seconds")
    });
    let rates = [1, 1000, Rates::DEFAULT.heap_bytes];
    for rate in rates {
        set_rates(Rates::DEFAULT.heap_bytes(rate));
        let is_done = AtomicBool::new(false);
        let end = Instant::now() + Duration::from_secs(seconds) / rates.len() as u32;
        let mut readings = 0;
        thread::scope(|scope| {
            let is_done = &is_done;
            let _stop = Stop(is_done);
            for thread in 1..=THREADS {
                scope.spawn(move || exchange(thread as u64 * 0x9E37_79B9, is_done));
            }
            while Instant::now() < end {
                for sample in heap().samples() {
                    let values = sample.values();
                    assert!(values.iter().all(|value| *value >= 0), "rate {rate}: {values:?}");
                    assert!(values[2] <= values[0] && values[3] <= values[1], "{values:?}");
                }
                readings += 1;
            }
        });
        assert!(readings > 2, "{readings}");
        for place in &PLACE {
            free(place.swap(ptr::null_mut(), Ordering::AcqRel));
        }
        let profile = heap();
        assert!(profile.totals()[0] > 1000, "rate {rate}: {:?}", profile.totals());
        for sample in profile.samples() {
            assert_eq!(sample.values()[2..], [0, 0], "rate {rate}");
        }
        let exact = memory().allocations.expect("there is an allocator");
        assert_eq!((exact.live_bytes(), exact.live_objects()), (0, 0), "rate {rate}");
    }
}
