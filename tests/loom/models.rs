//! The models: what must hold in every interleaving.

#![allow(unsafe_code, reason = "the writer's side of a tally is for one thread at a time")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use loom::thread;

use crate::buffer::registry::{Block, Owner, Registry};
use crate::buffer::row::{HEADER, RowKey};
use crate::buffer::slot::Slot;
use crate::buffer::tally::{Memory, Tally};
use crate::ledger::Ledger;
use crate::wide::AtomicU128;

/// A name and what to run.
pub(crate) type Model = (&'static str, fn());

pub(crate) const ALL: &[Model] = &[
    ("a reader sees whole rows while the table grows", whole_rows),
    ("a reader sees no more than was added", no_more_than_added),
    ("what is alive has objects where it has bytes", alive),
    ("one thread gets a block whose owner is gone", one_owner),
    ("a number that comes round again takes no block from another", number_again),
    ("a slot is read whole or not at all", whole_slot),
    ("what is charged is what was waited", conservation),
    ("a ledger that is settled owes nothing", settled),
];

fn key(frames: &[u64]) -> RowKey<'_> {
    RowKey { header: [7; HEADER], frames }
}

fn add(tally: &Tally, frames: &[u64], values: [i64; 4]) {
    // SAFETY: each model writes a tally from one thread.
    let row = unsafe { tally.find(key(frames), false, 100) };
    row.expect("memory").add(values);
}

fn rows(tally: &Tally) -> Vec<(Vec<u64>, [i64; 4])> {
    let mut rows = Vec::new();
    tally.for_each(|row| {
        assert_eq!(row.key().header, [7; HEADER]);
        rows.push((row.key().frames.to_vec(), row.values()));
    });
    rows
}

fn whole_rows() {
    // Two slots hold one row: the second makes the table grow.
    let tally = Arc::new(Tally::new(2, Memory::SYSTEM));
    let writer = Arc::clone(&tally);
    let writer = thread::spawn(move || {
        add(&writer, &[1, 10], [1, 0, 0, 0]);
        add(&writer, &[2, 20], [1, 0, 0, 0]);
    });
    for (frames, _) in rows(&tally) {
        assert_eq!(frames[1], 10 * frames[0]);
    }
    writer.join().expect("no panic");
    assert_eq!(rows(&tally).len(), 2);
}

fn no_more_than_added() {
    let tally = Arc::new(Tally::new(4, Memory::SYSTEM));
    let writer = Arc::clone(&tally);
    let writer = thread::spawn(move || {
        add(&writer, &[1], [1, 5, 0, 0]);
        add(&writer, &[1], [1, 5, 0, 0]);
    });
    let (first, second) = (rows(&tally), rows(&tally));
    for (before, after) in first.iter().zip(&second) {
        assert!(before.1[0] <= after.1[0] && before.1[1] <= after.1[1], "a sum went down");
        assert!(after.1[0] <= 2 && after.1[1] <= 10);
    }
    writer.join().expect("no panic");
    assert_eq!(rows(&tally), [(vec![1], [2, 10, 0, 0])]);
}

fn alive() {
    let tally = Tally::new(4, Memory::SYSTEM);
    // SAFETY: nobody else writes the tally.
    let row = unsafe { tally.find(key(&[1]), false, 100) }.expect("memory");
    let owner = thread::spawn(move || {
        row.add([1, 8, 0, 0]);
        row.add([1, 8, 0, 0]);
        let other = thread::spawn(move || row.add_shared([8, 1]));
        row.add_shared([8, 1]);
        other.join().expect("no panic");
    });
    let [freed_bytes, freed_objects] = row.shared_values();
    let [objects, bytes, _, _] = row.values();
    let (objects, bytes) = (objects - freed_objects, bytes - freed_bytes);
    assert!(objects >= 0 && bytes >= 0, "{objects} objects, {bytes} bytes");
    assert!(objects > 0 || bytes == 0, "{objects} objects, {bytes} bytes");
    owner.join().expect("no panic");
}

struct Plain {
    owner: Owner,
    next: AtomicPtr<Plain>,
}

impl Block for Plain {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

fn block(owner: u32) -> std::ptr::NonNull<Plain> {
    let next = AtomicPtr::new(std::ptr::null_mut());
    std::ptr::NonNull::from(Box::leak(Box::new(Plain { owner: Owner::new(owner), next })))
}

fn registry() -> Registry<Plain> {
    let null = || AtomicPtr::new(std::ptr::null_mut());
    Registry::new(null(), null(), AtomicU64::new(0))
}

fn one_owner() {
    let registry = Arc::new(registry());
    registry.push(block(1));
    let threads: Vec<_> = [2, 3]
        .into_iter()
        .map(|number| {
            let registry = Arc::clone(&registry);
            thread::spawn(move || {
                // Thread 1 is gone.
                let claimed = registry.claim(number, |thread| thread != 1);
                let mine = claimed.unwrap_or_else(|| registry.push(block(number)));
                assert_eq!(mine.owner.thread(), number);
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let mut owners: Vec<_> = registry.iter().map(|block| block.owner.thread()).collect();
    owners.sort_unstable();
    assert_eq!(owners, [2, 3]);
}

fn number_again() {
    let registry = Arc::new(registry());
    registry.push(block(1));
    // Thread 1 is gone, until a new one has got its number.
    let again = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = [1, 2]
        .into_iter()
        .map(|number| {
            let (registry, again) = (Arc::clone(&registry), Arc::clone(&again));
            thread::spawn(move || {
                again.fetch_or(number == 1, Ordering::SeqCst);
                let is_alive = |thread| thread != 1 || again.load(Ordering::SeqCst);
                let claimed = registry.claim(number, is_alive);
                std::ptr::from_ref(claimed.unwrap_or_else(|| registry.push(block(number)))).addr()
            })
        })
        .collect();
    let [first, second] = threads.try_into().expect("two");
    assert_ne!(first.join().expect("no panic"), second.join().expect("no panic"));
}

fn whole_slot() {
    let words = std::array::from_fn(|_| AtomicU64::new(0));
    let slot = Arc::new(Slot::<2>::new(words, AtomicU64::new(0)));
    let writer = Arc::clone(&slot);
    let writer = thread::spawn(move || {
        writer.store(Some([1, 10]));
        writer.store(Some([2, 20]));
        writer.store(None);
    });
    if let Some(([first, second], _)) = slot.read() {
        assert_eq!(second, 10 * first);
    }
    writer.join().expect("no panic");
    assert!(slot.read().is_none());
}

fn ledger() -> Arc<Ledger> {
    Arc::new(Ledger::new(AtomicU128::new(0), AtomicU64::new(0), AtomicBool::new(false)))
}

fn conservation() {
    let ledger = ledger();
    let waiters: Vec<_> = [(10, 30), (20, 50)]
        .into_iter()
        .map(|(start, end)| {
            let ledger = Arc::clone(&ledger);
            thread::spawn(move || {
                ledger.enter(start);
                ledger.leave(end);
                ledger.charge(end)
            })
        })
        .collect();
    let charged: i64 = waiters.into_iter().map(|waiter| waiter.join().expect("no panic")).sum();
    assert_eq!(charged + ledger.charge(60), 50);
    assert!(ledger.is_settled());
}

fn settled() {
    let ledger = ledger();
    let holder = Arc::clone(&ledger);
    let holder = thread::spawn(move || {
        // A release: charges only if the flag says that there is something to charge.
        if holder.is_settled() { 0 } else { holder.charge(20) }
    });
    ledger.enter(10);
    ledger.leave(30);
    let charged = holder.join().expect("no panic");
    let rest = if ledger.is_settled() { 0 } else { ledger.charge(30) };
    assert_eq!(charged + rest, 20);
}
