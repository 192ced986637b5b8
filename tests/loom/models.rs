//! The models: what must hold in every interleaving.

#![allow(unsafe_code, reason = "the writer's side of a tally is for one thread at a time")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use crate::buffer::registry::{Block, Owner, Registry};
use crate::buffer::row::{HEADER, RowKey};
use crate::buffer::slot::Slot;
use crate::buffer::table::Memory;
use crate::buffer::tally::Tally;
use crate::ledger::Ledger;
use crate::order::Order;
use crate::wide::AtomicU128;

/// A name and what to run.
pub(crate) type Model = (&'static str, fn(Order));

pub(crate) const ALL: &[Model] = &[
    ("a reader sees whole rows while the table grows", whole_rows),
    ("a reader sees no more than was added", no_more_than_added),
    ("what is taken away and what is left add up", nothing_lost_taken_away),
    ("what a holder added is seen by whoever finds the row unheld", held),
    ("one thread gets a block whose owner is gone", one_owner),
    ("a number that comes round again takes no block from another", number_again),
    ("a slot is read whole or not at all", whole_slot),
    ("what is charged is what was waited", conservation),
    ("a ledger that is settled owes nothing", settled),
];

fn key(frames: &[u64]) -> RowKey<'_> {
    RowKey { header: [7; HEADER], frames }
}

fn tally(first_slots: usize) -> Arc<Tally> {
    let null = || AtomicPtr::new(std::ptr::null_mut());
    Arc::new(Tally::new([null(), null()], first_slots, Memory::SYSTEM))
}

fn add(tally: &Tally, frames: &[u64], values: [i64; 4]) {
    // SAFETY: each model writes a tally from one thread.
    let taken = unsafe { tally.take() }.expect("nobody else takes it");
    taken.find(key(frames), false, true).expect("memory").0.add(values);
}

fn rows(tally: &Tally) -> Vec<(Vec<u64>, [i64; 4])> {
    let mut rows = Vec::new();
    tally.for_each(|row| {
        assert_eq!(row.key().header, [7; HEADER]);
        rows.push((row.key().frames.to_vec(), row.values()));
    });
    rows
}

fn whole_rows(order: Order) {
    // Two slots hold one row: the second makes the table grow.
    let tally = tally(2);
    let (writer, reader) = (Arc::clone(&tally), Arc::clone(&tally));
    order.run([
        Box::new(move || {
            add(&writer, &[1, 10], [1, 0, 0, 0]);
            add(&writer, &[2, 20], [1, 0, 0, 0]);
        }),
        Box::new(move || {
            for (frames, _) in rows(&reader) {
                assert_eq!(frames[1], 10 * frames[0]);
            }
        }),
    ]);
    assert_eq!(rows(&tally).len(), 2);
}

fn no_more_than_added(order: Order) {
    let tally = tally(4);
    let (writer, reader) = (Arc::clone(&tally), Arc::clone(&tally));
    order.run([
        Box::new(move || {
            add(&writer, &[1], [1, 5, 0, 0]);
            add(&writer, &[1], [1, 5, 0, 0]);
        }),
        Box::new(move || {
            let (first, second) = (rows(&reader), rows(&reader));
            assert!(first.len() <= second.len(), "a row is gone");
            for (before, after) in first.iter().zip(&second) {
                assert!(before.1[0] <= after.1[0] && before.1[1] <= after.1[1], "a sum went down");
                assert!(after.1[0] <= 2 && after.1[1] <= 10);
            }
        }),
    ]);
    assert_eq!(rows(&tally), [(vec![1], [2, 10, 0, 0])]);
}

fn nothing_lost_taken_away(order: Order) {
    let tally = tally(4);
    let (writer, taker) = (Arc::clone(&tally), Arc::clone(&tally));
    let [_, taken] = order.run([
        Box::new(move || {
            add(&writer, &[1], [1, 5, 0, 0]);
            add(&writer, &[1], [1, 5, 0, 0]);
            0
        }),
        Box::new(move || {
            let mut sum = 0;
            // SAFETY: nobody reads meanwhile, and this alone takes away.
            if let Some(table) = unsafe { taker.take_away() } {
                table.end(|row| {
                    sum += row.values()[1];
                    false
                });
            }
            sum
        }),
    ]);
    let left: i64 = rows(&tally).iter().map(|(_, values)| values[1]).sum();
    assert_eq!(taken + left, 10, "{taken} taken, {left} left");
}

fn held(order: Order) {
    let tally = tally(4);
    let (writer, taker) = (Arc::clone(&tally), Arc::clone(&tally));
    order.run([
        Box::new(move || {
            // SAFETY: this alone writes.
            let taken = unsafe { writer.take() }.expect("nobody else takes it");
            let row = taken.find(key(&[1]), false, true).expect("memory").0.hold();
            drop(taken);
            row.add([1, 5, 0, 0]);
        }),
        Box::new(move || {
            // SAFETY: nobody reads meanwhile, and this alone takes away.
            if let Some(table) = unsafe { taker.take_away() } {
                table.end(|row| {
                    let is_held = row.is_held();
                    assert!(is_held || row.values() == [1, 5, 0, 0]);
                    is_held
                });
            }
        }),
    ]);
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
    std::ptr::NonNull::from(Box::leak(Box::new(Plain { owner: Owner::new(owner, 0), next })))
}

fn registry() -> Registry<Plain> {
    let null = || AtomicPtr::new(std::ptr::null_mut());
    Registry::new(null(), null(), AtomicU64::new(0))
}

fn one_owner(order: Order) {
    let registry = Arc::new(registry());
    registry.push(block(1));
    order.run([2, 3].map(|number| -> Box<dyn FnOnce()> {
        let registry = Arc::clone(&registry);
        Box::new(move || {
            // Thread 1 is gone.
            let claimed = registry.claim(number, |thread, _| thread == 1);
            let mine = claimed.unwrap_or_else(|| registry.push(block(number)));
            assert_eq!(mine.owner.thread(), number);
        })
    }));
    let mut owners: Vec<_> = registry.iter().map(|block| block.owner.thread()).collect();
    owners.sort_unstable();
    assert_eq!(owners, [2, 3]);
}

fn number_again(order: Order) {
    let registry = Arc::new(registry());
    registry.push(block(1));
    // Thread 1 is gone, until a new one has got its number.
    let again = Arc::new(AtomicBool::new(false));
    let [first, second] = order.run([1, 2].map(|number| -> Box<dyn FnOnce() -> usize> {
        let (registry, again) = (Arc::clone(&registry), Arc::clone(&again));
        Box::new(move || {
            again.fetch_or(number == 1, Ordering::SeqCst);
            let is_free =
                |thread, _| thread == number || (thread == 1 && !again.load(Ordering::SeqCst));
            let claimed = registry.claim(number, is_free);
            std::ptr::from_ref(claimed.unwrap_or_else(|| registry.push(block(number)))).addr()
        })
    }));
    assert_ne!(first, second);
}

fn whole_slot(order: Order) {
    let words = std::array::from_fn(|_| AtomicU64::new(0));
    let slot = Arc::new(Slot::<2>::new(words, AtomicU64::new(0)));
    let (writer, reader) = (Arc::clone(&slot), Arc::clone(&slot));
    order.run([
        Box::new(move || {
            writer.store(Some([1, 10]));
            writer.store(Some([2, 20]));
            writer.store(None);
        }),
        Box::new(move || {
            if let Some(([first, second], _)) = reader.read() {
                assert_eq!(second, 10 * first);
            }
        }),
    ]);
    assert!(slot.read().is_none());
}

fn ledger() -> Arc<Ledger> {
    Arc::new(Ledger::new(AtomicU128::new(0), AtomicU64::new(0), AtomicBool::new(false)))
}

fn conservation(order: Order) {
    let ledger = ledger();
    let charged = order.run([(10, 30), (20, 50)].map(|(start, end)| -> Box<dyn FnOnce() -> i64> {
        let ledger = Arc::clone(&ledger);
        Box::new(move || {
            ledger.enter(start);
            ledger.leave(end);
            ledger.charge(end)
        })
    }));
    assert_eq!(charged.into_iter().sum::<i64>() + ledger.charge(60), 50);
    assert!(ledger.is_settled());
}

fn settled(order: Order) {
    let ledger = ledger();
    // What is owed from before makes the holder charge, even if it sees nobody wait.
    ledger.enter(1);
    ledger.leave(2);
    let (waiter, holder) = (Arc::clone(&ledger), Arc::clone(&ledger));
    let [_, charged] = order.run([
        Box::new(move || {
            waiter.enter(10);
            waiter.leave(30);
            0
        }),
        // A release: charges only if the flag says that there is something to charge.
        Box::new(move || if holder.is_settled() { 0 } else { holder.charge(20) }),
    ]);
    let rest = if ledger.is_settled() { 0 } else { ledger.charge(30) };
    assert_eq!(charged + rest, 21);
}
