//! The sums of `memory()` are those of a program that counts what it asks for, before the start and
//! after it, at every rate, whichever threads come and go.
//!
//! Other threads of the process may allocate at any time, so what the program counts is a lower bound
//! when it is read before `memory()`, and an upper one after.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::array;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use profiler_core::{Config, ProfiledAllocator, Rates, memory, set_rates};

#[global_allocator]
static ALLOCATOR: Counting<ProfiledAllocator<Counting<System>>> =
    Counting::new(&ASKED, ProfiledAllocator::new(Counting::new(&GIVEN, System)));

/// What the program asks for.
static ASKED: Counts = Counts::new();
/// What the inner allocator is asked for.
static GIVEN: Counts = Counts::new();

/// Objects and bytes, allocated and freed.
type Sums = [u64; 4];

struct Counts {
    begun: [AtomicU64; 4],
    done: [AtomicU64; 4],
}

struct Counting<A> {
    counts: &'static Counts,
    inner: A,
}

impl<A> Counting<A> {
    const fn new(counts: &'static Counts, inner: A) -> Self {
        Self { counts, inner }
    }
}

impl Counts {
    const fn new() -> Self {
        Self { begun: [const { AtomicU64::new(0) }; 4], done: [const { AtomicU64::new(0) }; 4] }
    }

    /// Counts what `body` does, unless it fails.
    fn count(&self, allocated: usize, freed: usize, body: impl FnOnce() -> *mut u8) -> *mut u8 {
        let [allocated, freed] = [allocated, freed].map(|size| size as u64);
        let sums = [u64::from(allocated != 0), allocated, u64::from(freed != 0), freed];
        add(&self.begun, sums);
        let block = body();
        if block.is_null() {
            add(&self.begun, sums.map(u64::wrapping_neg));
        } else {
            add(&self.done, sums);
        }
        block
    }
}

fn add(counts: &[AtomicU64; 4], sums: Sums) {
    for (count, sum) in counts.iter().zip(sums) {
        count.fetch_add(sum, Ordering::SeqCst);
    }
}

fn read(counts: &[AtomicU64; 4]) -> Sums {
    array::from_fn(|i| counts[i].load(Ordering::SeqCst))
}

// SAFETY: blocks are those of the allocator inside.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: given by the caller.
        self.counts.count(layout.size(), 0, || unsafe { self.inner.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: given by the caller.
        self.counts.count(layout.size(), 0, || unsafe { self.inner.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.counts.count(0, layout.size(), || {
            // SAFETY: given by the caller.
            unsafe { self.inner.dealloc(block, layout) };
            block
        });
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.counts.count(size, layout.size(), || {
            // SAFETY: given by the caller.
            unsafe { self.inner.realloc(block, layout, size) }
        })
    }
}

/// Frees, allocates and frees again when its thread ends.
struct Late(Vec<u64>);

impl Drop for Late {
    fn drop(&mut self) {
        self.0 = vec![7; 50];
    }
}

thread_local! {
    static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
}

/// Threads that end, with what they allocated in the hands of others, and others that take it over.
fn threads() {
    for _ in 0..10 {
        let (give, take) = mpsc::channel();
        let makers = [(); 4].map(|()| {
            let give = give.clone();
            thread::spawn(move || {
                LATE.set(Some(Late(vec![1; 10])));
                for length in 1..100 {
                    give.send(vec![length; length]).expect("the thread is there");
                }
            })
        });
        drop(give);
        let frees = thread::spawn(move || take.into_iter().map(drop).count());
        for maker in makers {
            maker.join().expect("no panic");
        }
        assert_eq!(frees.join().expect("no panic"), 4 * 99);
    }
}

/// Vectors that grow, shrink and cannot grow.
fn vectors() {
    for length in 1..1000 {
        let mut vector = Vec::new();
        (0..length).for_each(|number| vector.push(number));
        assert!(vector.try_reserve_exact(1 << 60).is_err());
        vector.truncate(length / 2);
        vector.shrink_to_fit();
        assert!(Vec::<u8>::new().try_reserve(1 << 60).is_err());
    }
}

fn memory_sums() -> Sums {
    let sums = memory().allocations.expect("the allocator is there");
    [sums.allocated_objects, sums.allocated_bytes, sums.freed_objects, sums.freed_bytes]
}

#[track_caller]
fn assert_between(least: Sums, sums: Sums, most: Sums, what: &str) {
    for column in 0..4 {
        let (least, sum, most) = (least[column], sums[column], most[column]);
        assert!((least..=most).contains(&sum), "{what}, {column}: {least} <= {sum} <= {most}");
        // Some objects for reading it all; more would leave too much room.
        assert!(most - least < [100, 100_000][column % 2], "{what}, {column}: {least} to {most}");
    }
}

#[track_caller]
fn check(what: &str) {
    threads();
    vectors();
    let least = read(&ASKED.done);
    let sums = memory_sums();
    assert_between(least, sums, read(&ASKED.begun), what);
}

/// Sampled or not, the inner allocator is asked for what the program asks for.
#[track_caller]
fn check_inner(what: &str) {
    let least = read(&ASKED.done);
    let given = read(&GIVEN.done);
    assert_between(least, given, read(&ASKED.begun), what);
}

#[test]
fn sums_are_exact_from_the_begin_of_the_process_on() {
    check("before the start");
    check_inner("before the start");
    profiler_core::start(Config::default().rates(Rates::ALL.heap_bytes(0))).expect("the first");
    check("at rate 0");
    check_inner("at rate 0");
    for rate in [1, 512 << 10, 0, 100] {
        set_rates(Rates::ALL.heap_bytes(rate));
        check(&format!("at rate {rate}"));
        check_inner(&format!("at rate {rate}"));
    }
    let sums = memory().allocations.expect("the allocator is there");
    assert_eq!(sums.live_bytes(), sums.allocated_bytes - sums.freed_bytes);
    assert_eq!(sums.live_objects(), sums.allocated_objects - sums.freed_objects);
}
