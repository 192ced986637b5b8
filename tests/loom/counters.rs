//! The models of the threads' counters and of the sums of samples.

#![allow(unsafe_code, reason = "the writer's side of a tally is for one thread at a time")]

use std::ptr::NonNull;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use crate::buffer::counters::{Counters, Sampling, Totals};
use crate::buffer::registry::{Owner, Registry};
use crate::buffer::row::{HEADER, Row, RowKey};
use crate::buffer::table::{Memory, make_row};
use crate::models::Model;
use crate::order::Order;

pub(crate) const ALL: &[Model] = &[
    ("counters: a thread follows a rate that is raised", |order| poke(order, 0, 1)),
    ("counters: a thread follows a rate that is changed", |order| poke(order, 1000, 1)),
    ("counters: a thread follows a rate that is taken back", |order| poke(order, 1, 0)),
    ("counters: a thread that joins follows a rate that is being set", joins_at_set),
    ("counters: the rate that was set last is followed", two_set),
    ("counters: what is freed was allocated", freed_was_allocated),
    ("row: what is freed was allocated", row_freed_was_allocated),
    ("row: where there are bytes there are objects", row_freed_by_two),
];

struct Process {
    sampling: Sampling,
    threads: Registry<Counters>,
}

impl Process {
    fn new() -> Arc<Self> {
        let null = || AtomicPtr::new(std::ptr::null_mut());
        Arc::new(Self {
            sampling: Sampling::new(AtomicU64::new(0)),
            threads: Registry::new(null(), null(), AtomicU64::new(0)),
        })
    }

    fn join(&self, number: u32) -> &'static Counters {
        let counters = counters(Owner::new(number, 0));
        let counters = self.threads.push(NonNull::from(Box::leak(Box::new(counters))));
        counters.begin(number.into());
        counters
    }

    fn set(&self, rate: u64) {
        self.sampling.set(rate, || self.threads.iter());
    }

    /// Allocates 8 bytes, and returns the rate by which they are sampled.
    fn allocate(&self, counters: &Counters) -> Option<u64> {
        let due = counters.allocate(8).err()?;
        // For rate 1 every allocation, else far off.
        let gap = |_| |rate| if rate == 1 { 0 } else { 1000 };
        let rate = counters.decide(due, 8, &self.sampling, gap);
        counters.count_allocation(8);
        rate
    }

    /// Asserts that an allocation is sampled by this rate.
    fn follows(&self, counters: &Counters, rate: u64) {
        assert_eq!(self.allocate(counters), (rate == 1).then_some(1), "rate {rate}");
    }
}

fn counters(owner: Owner) -> Counters {
    let zeros = std::array::from_fn(|_| AtomicU64::new(0));
    Counters::new(zeros, usize::MAX, owner, AtomicPtr::new(std::ptr::null_mut()))
}

/// A call of [`Process::set`] that is over, for a thread that has seen so.
struct Done(AtomicBool);

impl Done {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(false)))
    }

    fn tell(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_told(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Has a thread allocate while the rate goes from `before` to `after`.
fn poke(order: Order, before: u64, after: u64) {
    let process = Process::new();
    let counters = process.join(1);
    if before != 0 {
        process.set(before);
    }
    let done = Done::new();
    let (setter, set) = (Arc::clone(&process), Arc::clone(&done));
    let allocating = Arc::clone(&process);
    order.run([
        Box::new(move || {
            setter.set(after);
            set.tell();
        }),
        Box::new(move || {
            allocating.allocate(counters);
            if done.is_told() {
                allocating.follows(counters, after);
            }
        }),
    ]);
    process.follows(counters, after);
}

fn joins_at_set(order: Order) {
    let process = Process::new();
    let done = Done::new();
    let (setter, set) = (Arc::clone(&process), Arc::clone(&done));
    let joiner = Arc::clone(&process);
    let [_, counters] = order.run([
        Box::new(move || {
            setter.set(1);
            set.tell();
            None
        }),
        Box::new(move || {
            let counters = joiner.join(1);
            joiner.allocate(counters);
            if done.is_told() {
                joiner.follows(counters, 1);
            }
            Some(counters)
        }),
    ]);
    let counters = counters.expect("joined");
    process.follows(counters, 1);
}

fn two_set(order: Order) {
    let process = Process::new();
    let counters = process.join(1);
    let (first, second) = (Arc::clone(&process), Arc::clone(&process));
    order.run([
        Box::new(move || first.set(1)),
        Box::new(move || {
            second.set(1000);
            second.allocate(counters);
        }),
    ]);
    process.follows(counters, process.sampling.rate());
}

/// Has one thread allocate, one free what it is handed, and one read the sums.
fn freed_was_allocated(order: Order) {
    let process = Process::new();
    let (first, second) = (process.join(1), process.join(2));
    let handed = Done::new();
    let allocated = Arc::clone(&handed);
    order.run([
        Box::new(move || {
            first.count_allocation(8);
            allocated.tell();
        }),
        Box::new(move || {
            if handed.is_told() {
                second.count_free(8);
            }
        }),
        Box::new(move || {
            let mut totals = Totals::default();
            process.threads.iter().for_each(|counters| counters.add_freed(&mut totals));
            process.threads.iter().for_each(|counters| counters.add_allocated(&mut totals));
            assert!(totals.freed_bytes <= totals.allocated_bytes, "{totals:?}");
            assert!(totals.freed_objects <= totals.allocated_objects, "{totals:?}");
        }),
    ]);
}

/// A row of its own, which one thread at a time adds to.
fn row() -> Row {
    let key = RowKey { header: [7; HEADER], frames: &[1] };
    make_row(key, false, Memory::SYSTEM).expect("memory")
}

/// Reads what is alive, as a profile does: frees first.
fn check_alive(row: Row) {
    let [freed_bytes, freed_objects] = row.shared_values();
    let [objects, bytes, _, _] = row.values();
    let (objects, bytes) = (objects - freed_objects, bytes - freed_bytes);
    assert!(objects >= 0 && bytes >= 0, "{objects} objects, {bytes} bytes");
    assert!(objects > 0 || bytes == 0, "{objects} objects, {bytes} bytes");
}

fn row_freed_was_allocated(order: Order) {
    let row = row();
    let handed = Done::new();
    let allocated = Arc::clone(&handed);
    order.run([
        Box::new(move || {
            row.add([1, 8, 0, 0]);
            allocated.tell();
        }),
        Box::new(move || {
            if handed.is_told() {
                row.add_shared([8, 1]);
            }
        }),
        Box::new(move || check_alive(row)),
    ]);
}

fn row_freed_by_two(order: Order) {
    let row = row();
    row.add([2, 16, 0, 0]);
    order.run([
        Box::new(move || row.add_shared([8, 1])),
        Box::new(move || row.add_shared([8, 1])),
        Box::new(move || check_alive(row)),
    ]);
}
