//! The models of the set of live samples: whoever is handed an address finds what was entered.
//!
//! One order cannot be shown here: that the words of a place are read before it is written again
//! (`Release` in `Held::release`, `Acquire` in `insert`). The model never lets a load see what is
//! stored later.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicPtr, AtomicU16, AtomicU64, Ordering};

use crate::buffer::live_set::{Held, LiveSet};
use crate::buffer::vicinity::Vicinity;
use crate::models::Model;
use crate::order::Order;

pub(crate) const ALL: &[Model] = &[
    ("live set: two threads enter where one place is free", one_place),
    ("live set: two threads spill and one takes out", spill),
    ("live set: a place is given back and used again", place_again),
    ("live set: a block that is reallocated keeps its place", put_back),
    ("live set: two threads make the first table", first_table),
    ("live set: two threads make a larger table", larger_table),
    ("live set: an address that was freed unseen is entered anew", freed_unseen),
    ("vicinity: a sampled block is known to whoever frees it", known_by_page),
];

/// Places of a bucket.
const PLACES: u64 = 7;

/// A set of so many buckets, with so many entries in the first.
fn set(buckets: usize, entries: u64) -> Arc<LiveSet> {
    let set = LiveSet::new(AtomicPtr::new(std::ptr::null_mut()), AtomicU64::new(0), buckets);
    for number in 0..entries {
        enter(&set, number);
    }
    Arc::new(set)
}

/// Returns the so-manieth address whose home is the first of two buckets, as the set finds it.
fn address(number: u64) -> u64 {
    let is_home = |address: &u64| address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32 & 1 == 0;
    let mut addresses = (1..).map(|number| 16 * number + 8).filter(is_home);
    addresses.nth(number as usize).expect("without end")
}

fn enter(set: &LiveSet, number: u64) {
    assert!(set.insert(address(number), [number, 10 * number, 7]), "memory");
}

/// Takes out an entry that must be there.
fn hold(set: &LiveSet, number: u64) -> Held {
    let held = set.hold(address(number)).expect("it was entered");
    assert_eq!(held.words, [number, 10 * number, 7]);
    held
}

/// An address on its way from one thread to another, as the number of its entry; 0 for none.
struct Mail(AtomicU64);

impl Mail {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0)))
    }

    fn send(&self, number: u64) {
        self.0.store(number, Ordering::Release);
    }

    fn receive(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|number| *number != 0)
    }
}

/// Enters 101 and 102 on two threads, and hands each to the other side, which may ask too early.
fn enter_two(order: Order, set: &Arc<LiveSet>) {
    let mail = [Mail::new(), Mail::new()];
    let taken = order.run([0, 1].map(|side| -> Box<dyn FnOnce() -> bool> {
        let set = Arc::clone(set);
        let (outgoing, incoming) = (Arc::clone(&mail[side]), Arc::clone(&mail[1 - side]));
        Box::new(move || {
            let number = 101 + side as u64;
            enter(&set, number);
            outgoing.send(number);
            incoming.receive().map(|number| hold(&set, number).release()).is_some()
        })
    }));
    for (number, taken) in [(101, taken[1]), (102, taken[0])] {
        if taken {
            assert!(set.hold(address(number)).is_none(), "found twice");
        } else {
            hold(set, number).release();
        }
    }
}

fn one_place(order: Order) {
    enter_two(order, &set(2, PLACES - 1));
}

fn first_table(order: Order) {
    enter_two(order, &set(1, 0));
}

fn larger_table(order: Order) {
    let set = set(1, PLACES);
    enter_two(order, &set);
    hold(&set, 3).release();
}

fn spill(order: Order) {
    let set = set(2, PLACES);
    let (keeping, dropping) = (Arc::clone(&set), Arc::clone(&set));
    order.run([
        Box::new(move || enter(&keeping, 101)),
        Box::new(move || {
            enter(&dropping, 102);
            hold(&dropping, 102).release();
        }),
    ]);
    hold(&set, 101).release();
}

fn place_again(order: Order) {
    let set = set(2, PLACES);
    let mail = Mail::new();
    let (releasing, entering) = (Arc::clone(&set), Arc::clone(&set));
    let (outgoing, incoming) = (Arc::clone(&mail), mail);
    let [_, taken] = order.run([
        Box::new(move || {
            enter(&entering, 101);
            outgoing.send(101);
            true
        }),
        Box::new(move || {
            hold(&releasing, 3).release();
            incoming.receive().map(|number| hold(&releasing, number).release()).is_some()
        }),
    ]);
    assert!(set.hold(address(3)).is_none(), "found twice");
    assert_eq!(set.hold(address(101)).map(Held::release).is_none(), taken);
}

fn put_back(order: Order) {
    let set = set(2, PLACES);
    let (reallocating, entering) = (Arc::clone(&set), Arc::clone(&set));
    order.run([
        Box::new(move || {
            hold(&reallocating, 3).put_back();
            hold(&reallocating, 4).release();
        }),
        Box::new(move || enter(&entering, 101)),
    ]);
    hold(&set, 3).release();
    hold(&set, 101).release();
}

/// One thread enters an address that C frees; the other one is handed it by the inner allocator.
fn freed_unseen(order: Order) {
    let set = set(1, 0);
    let mail = Mail::new();
    let (first, second) = (Arc::clone(&set), Arc::clone(&set));
    let outgoing = Arc::clone(&mail);
    let again = order.run([
        Box::new(move || {
            enter(&first, 101);
            outgoing.send(101);
            false
        }) as Box<dyn FnOnce() -> bool>,
        Box::new(move || {
            let Some(number) = mail.receive() else { return false };
            hold(&second, number).release();
            assert!(second.insert(address(number), [1, 2, 3]), "memory");
            true
        }),
    ]);
    let held = set.hold(address(101)).expect("it was entered");
    assert_eq!(held.words, if again[1] { [1, 2, 3] } else { [101, 1010, 7] });
    held.release();
    assert!(set.hold(address(101)).is_none(), "found twice");
}

/// Two threads sample blocks of one page, and each frees what it is handed by the other one.
fn known_by_page(order: Order) {
    let vicinity = Arc::new(Vicinity::<1>::new([AtomicU16::new(0)]));
    let mail = [Mail::new(), Mail::new()];
    let freed = order.run([0, 1].map(|side| -> Box<dyn FnOnce() -> bool> {
        let vicinity = Arc::clone(&vicinity);
        let (outgoing, incoming) = (Arc::clone(&mail[side]), Arc::clone(&mail[1 - side]));
        Box::new(move || {
            vicinity.enter(16 * (1 - side));
            outgoing.send(1);
            let Some(_) = incoming.receive() else { return false };
            assert!(vicinity.may_hold(16 * side, usize::MAX), "the block is not looked up");
            vicinity.leave(16 * side);
            true
        })
    }));
    for (address, is_freed) in [(0, freed[0]), (16, freed[1])] {
        assert_eq!(vicinity.may_hold(address, usize::MAX), !is_freed);
    }
}
