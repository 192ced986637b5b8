//! The collections of std on a profiled global allocator: what they hold, and what the heap profile
//! says of each function that makes one.

use std::any::type_name;
use std::collections::{BTreeMap, BinaryHeap, HashMap, LinkedList, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;

use profiler_core::{Kind, Rates, set_rates, snapshot};

use crate::keep;
use crate::shadow::Sums;

/// Returns the sums of all samples that have a function in their stack, by its type.
///
/// # Panics
///
/// There is no heap profile.
#[must_use]
#[track_caller]
pub fn sums_under<F>(_: &F) -> Sums {
    let mut sums = [0; 4];
    for sample in snapshot(Kind::Heap).expect("available").samples() {
        if sample.frames().any(|frame| frame.function == Some(type_name::<F>())) {
            for (sum, value) in sums.iter_mut().zip(sample.values()) {
                *sum += value;
            }
        }
    }
    sums
}

/// What a value takes: objects and bytes.
struct Takes(RangeInclusive<i64>, RangeInclusive<i64>);

/// So much and nothing else.
fn exactly(objects: i64, bytes: i64) -> Takes {
    Takes(objects..=objects, bytes..=bytes)
}

/// Runs something at a rate.
pub fn at<R>(rate: u64, body: impl FnOnce() -> R) -> R {
    set_rates(Rates::ALL.heap_bytes(rate));
    body()
}

/// Makes a value, and checks what is in use of it before and after it is dropped; before only if
/// everything is sampled.
#[track_caller]
fn check<T, F: Fn() -> T>(rate: u64, make: F, takes: &Takes) {
    let name = type_name::<F>();
    // Reading is not sampled: it allocates much.
    let sums_under = |make| at(0, || sums_under(make));
    let before = sums_under(&make);
    assert_eq!(before[2..], [0, 0], "in use before {name}");
    let value = at(rate, &make);
    let Takes(objects, bytes) = takes;
    if rate == 1 {
        let sums = sums_under(&make);
        assert!(objects.contains(&sums[2]) && bytes.contains(&sums[3]), "{name}: {sums:?}");
    }
    at(rate, || drop(value));
    assert_eq!(sums_under(&make)[2..], [0, 0], "in use after {name}, at rate {rate}");
}

/// Checks every collection at a rate.
///
/// # Panics
///
/// One is not as it must be.
#[track_caller]
pub fn check_all(rate: u64) {
    check(rate, nothing, &exactly(0, 0));
    assert_eq!(at(0, || sums_under(&nothing)), [0; 4], "allocated for nothing");
    check(rate, boxes, &exactly(4, 8 + 1 + 1000 + 100_000));
    check(rate, aligned_boxes, &exactly(3, 16 + 64 + 4096));
    check(rate, aligned_vectors, &exactly(3, 3 * 16 + 300 * 64 + 30 * 4096));
    check(rate, counted, &exactly(4, 16 + 24 + 24 + 8016));
    check(rate, pushed, &exactly(1, 131_072 * 8));
    check(rate, shrunk, &exactly(4, 80 + 80 + 400_000 + 80));
    check(rate, text, &Takes(3..=3, 35..=80));
    check(rate, reserved_in_vain, &exactly(1, 8));
    check(rate, nested, &exactly(101, 101 * 24 + 5050));
    check(rate, linked, &exactly(10, 10 * 24));
    check(rate, hashed, &Takes(1..=1, 16_000..=64_000));
    check(rate, ordered, &Takes(90..=400, 16_000..=64_000));
    check(rate, queued, &Takes(2..=2, 16_000..=64_000));
    check(rate, sent, &exactly(0, 0));
}

#[inline(never)]
fn nothing() -> impl Sized {
    let all = (Box::new(()), Vec::<u64>::new(), vec![(); 1000], String::new(), [0_u8; 0].to_vec());
    keep!();
    all
}

#[inline(never)]
fn boxes() -> impl Sized {
    let all = (Box::new(7_u64), Box::new(7_u8), Box::new([7_u8; 1000]), Box::new([7_u8; 100_000]));
    assert!(*all.0 == 7 && *all.1 == 7 && all.2.iter().chain(&*all.3).all(|byte| *byte == 7));
    keep!();
    all
}

#[derive(Clone, Copy)]
#[repr(align(16))]
struct Sixteen(u8);
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(u8);
#[derive(Clone, Copy)]
#[repr(align(4096))]
struct Page(u8);

fn is_aligned<T>(slice: &[T]) -> bool {
    slice.as_ptr().is_aligned()
}

#[inline(never)]
fn aligned_boxes() -> impl Sized {
    let all = (Box::new(Sixteen(1)), Box::new(Line(2)), Box::new(Page(3)));
    assert_eq!((all.0.0, all.1.0, all.2.0), (1, 2, 3));
    assert!(is_aligned(&[*all.0]) && (&raw const *all.1).is_aligned());
    assert!((&raw const *all.0).is_aligned() && (&raw const *all.2).is_aligned());
    keep!();
    all
}

#[inline(never)]
fn aligned_vectors() -> impl Sized {
    let all = (vec![Sixteen(1); 3], vec![Line(2); 300], vec![Page(3); 30]);
    assert!(is_aligned(&all.0) && is_aligned(&all.1) && is_aligned(&all.2));
    assert!(all.0.iter().all(|it| it.0 == 1) && all.1.iter().all(|it| it.0 == 2));
    assert!(all.2.iter().all(|it| it.0 == 3));
    keep!();
    all
}

#[inline(never)]
fn counted() -> impl Sized {
    let rc = Rc::new(7_u64);
    let all = (Arc::new(()), Arc::new(7_u64), rc.clone(), Arc::<[u64]>::from([7; 1000]), rc);
    assert!(all.3.iter().all(|number| *number == 7) && *all.1 == *all.2);
    keep!();
    all
}

/// From 32 bytes to a MiB, by doubling.
#[inline(never)]
fn pushed() -> Vec<u64> {
    let mut numbers = Vec::new();
    for number in 0..100_000 {
        numbers.push(number);
    }
    assert!(numbers.iter().copied().eq(0..100_000));
    keep!();
    numbers
}

/// A layout at the free that was not that of the allocation: small, from large to small, large.
#[inline(never)]
fn shrunk() -> impl Sized {
    let of_capacity = |capacity: usize, numbers: u64| {
        let mut vector = Vec::with_capacity(capacity);
        vector.extend(0..numbers);
        vector
    };
    let mut fitting = of_capacity(1000, 10);
    fitting.shrink_to_fit();
    let slice = of_capacity(100_000, 10).into_boxed_slice();
    let large = of_capacity(100_000, 50_000).into_boxed_slice();
    let mut none = of_capacity(1000, 0);
    none.shrink_to_fit();
    let queue = VecDeque::from(of_capacity(1000, 10));
    let queue = Vec::from(queue).into_boxed_slice();
    assert!(fitting.iter().copied().eq(0..10) && slice.iter().copied().eq(0..10));
    assert!(large.iter().copied().eq(0..50_000) && queue.iter().copied().eq(0..10));
    keep!();
    (fitting, slice, large, none, queue)
}

#[inline(never)]
fn text() -> impl Sized {
    let mut string = String::from("a");
    (0..20).for_each(|_| string.push('b'));
    let all = (string, String::from("seven").into_boxed_str(), format!("{}", 123_456_789));
    assert_eq!((all.0.len(), &*all.1, &*all.2), (21, "seven", "123456789"));
    keep!();
    all
}

/// What fails is not counted, and the next allocation is sampled.
#[inline(never)]
fn reserved_in_vain() -> Box<u64> {
    let mut vector = Vec::<u8>::new();
    assert!(vector.try_reserve_exact(1 << 60).is_err());
    let seven = Box::new(7);
    keep!();
    seven
}

#[inline(never)]
fn nested() -> Vec<Vec<u8>> {
    // The first is empty and takes nothing.
    let all: Vec<_> = (0..=100).map(|length| vec![length; usize::from(length)]).collect();
    assert!(all.iter().enumerate().all(|(length, vector)| vector.len() == length));
    keep!();
    all
}

#[inline(never)]
fn linked() -> LinkedList<u64> {
    let list: LinkedList<u64> = (0..10).collect();
    assert!(list.iter().copied().eq(0..10));
    keep!();
    list
}

#[inline(never)]
fn hashed() -> HashMap<u64, u64> {
    let mut map: HashMap<u64, u64> = (0..1000).map(|number| (number, number * 2)).collect();
    map.retain(|number, _| number % 2 == 0);
    map.extend((0..1000).map(|number| (number, number * 2)));
    assert!((0..1000).all(|number| map.get(&number) == Some(&(2 * number))));
    keep!();
    map
}

#[inline(never)]
fn ordered() -> BTreeMap<u64, u64> {
    let map: BTreeMap<u64, u64> = (0..1000).rev().map(|number| (number, number)).collect();
    assert!(map.values().copied().eq(0..1000));
    keep!();
    map
}

#[inline(never)]
fn queued() -> impl Sized {
    let mut queue: VecDeque<u64> = (0..500).collect();
    for number in 500..2000 {
        queue.push_back(number);
        if number % 2 == 0 {
            queue.pop_front();
        }
    }
    let heap: BinaryHeap<u64> = (0..1000).collect();
    assert!(queue.iter().copied().eq(750..2000) && heap.peek() == Some(&999));
    keep!();
    (queue, heap)
}

/// Allocated here, dropped by another thread.
#[inline(never)]
fn sent() {
    let (give, take) = mpsc::channel::<Vec<u64>>();
    let receiver = thread::spawn(move || take.into_iter().map(|vector| vector.len()).sum());
    for length in 1..100 {
        give.send((0..length).collect()).expect("the thread is there");
    }
    drop(give);
    let sum: usize = receiver.join().expect("no panic");
    assert_eq!(sum, 99 * 100 / 2);
    keep!();
}
