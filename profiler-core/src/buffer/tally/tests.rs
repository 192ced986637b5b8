use super::*;
use crate::buffer::row::{BUCKETS, HeldRow};
use crate::buffer::table::lone_row;

fn key(frames: &[u64]) -> RowKey<'_> {
    RowKey { header: [1, 0, 0, 0, 0, 0], frames }
}

fn tally(memory: Memory) -> Tally {
    Tally::new([0; 2].map(|_| AtomicPtr::new(ptr::null_mut())), 4, memory)
}

/// Fetched from the system, in chunks.
const CHUNKS: Memory = Memory { chunk: 1 << 10, ..Memory::SYSTEM };

fn take(tally: &Tally) -> Taken<'_> {
    // SAFETY: the tests are each one thread.
    unsafe { tally.take() }.expect("nobody has it")
}

fn find(tally: &Tally, frames: &[u64], room: bool) -> Option<Row> {
    take(tally).find(key(frames), false, room).map(|(row, _)| row)
}

fn take_away(tally: &Tally) -> Option<TakenAway> {
    // SAFETY: the tests are each one thread.
    unsafe { tally.take_away() }
}

#[test]
fn equal_keys_share_a_row_and_sums_add_up() {
    for memory in [Memory::SYSTEM, CHUNKS] {
        let tally = tally(memory);
        for round in 0..10_u64 {
            for stack in 0..100_u64 {
                let row = find(&tally, &[stack, 7], true).expect("room");
                row.add([1, round as i64, 0, 0]);
            }
        }
        assert_eq!(tally.len(), 100);
        let mut rows = 0;
        tally.for_each(|row| {
            rows += 1;
            assert_eq!(row.values(), [10, 45, 0, 0]);
        });
        assert_eq!(rows, 100);
    }
}

#[test]
fn without_room_there_are_no_new_rows() {
    let tally = tally(Memory::SYSTEM);
    assert!(find(&tally, &[0], false).is_none());
    assert!(find(&tally, &[0], true).is_some());
    assert!(find(&tally, &[1], false).is_none());
    assert!(find(&tally, &[0], false).is_some());
}

#[test]
fn keys_that_differ_in_any_word_differ() {
    let tally = tally(Memory::SYSTEM);
    let base = find(&tally, &[1, 2, 3], true).expect("room");
    for frames in [&[1_u64, 2][..], &[1, 2, 4], &[3, 2, 1], &[1, 2, 3, 0], &[]] {
        assert_ne!(find(&tally, frames, true).expect("room"), base);
    }
    let other = RowKey { header: [2, 0, 0, 0, 0, 0], frames: &[1, 2, 3] };
    assert_ne!(take(&tally).find(other, false, true).expect("room").0, base);
}

#[test]
fn buckets_are_kept_where_asked_for() {
    let tally = tally(CHUNKS);
    let (row, is_new) = take(&tally).find(key(&[9; 500]), true, true).expect("room");
    assert!(is_new);
    row.add_to_bucket(3, 1, 70);
    row.add_to_bucket(1000, 2, 5);
    let buckets = row.bucket_values().expect("kept");
    assert_eq!((buckets[3], buckets[BUCKETS - 1], buckets[0]), ((1, 70), (2, 5), (0, 0)));
    assert_eq!(find(&tally, &[1], true).expect("room").bucket_values(), None);
}

#[test]
fn what_is_taken_away_is_gone_and_another_begins() {
    for memory in [Memory::SYSTEM, CHUNKS] {
        let tally = tally(memory);
        assert!(take_away(&tally).is_none(), "there is none");
        for stack in 0..100 {
            find(&tally, &[stack], true).expect("room").add([1, 0, 0, 0]);
        }
        let writer = take(&tally);
        assert!(take_away(&tally).is_none(), "it is out");
        // SAFETY: one thread.
        assert!(unsafe { tally.take() }.is_none(), "it is out");
        drop(writer);
        let away = take_away(&tally).expect("it is in");
        assert_eq!((tally.len(), tally.bytes()), (0, 0));
        find(&tally, &[1], true).expect("room").add([5, 0, 0, 0]);
        let mut rows = 0;
        away.end(|row| {
            rows += 1;
            assert_eq!(row.values(), [1, 0, 0, 0]);
            false
        });
        assert_eq!((rows, tally.len()), (100, 1));
    }
}

#[test]
fn a_held_row_says_so() {
    let row = lone_row([1; 6], &[1]);
    let held = row.hold();
    let again = held.clone();
    drop(held);
    assert!(row.is_held());
    // SAFETY: given once, taken back once.
    drop(unsafe { HeldRow::from_raw(again.into_raw()) });
    assert!(!row.is_held());
}
