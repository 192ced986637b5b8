use proptest::prelude::*;

use super::*;
use crate::buffer::table::lone_row;

fn key(number: u8) -> Key {
    let stack = Stack::Native(vec![u64::from(number) + 1].into());
    Keys::default().key(&Header::new(Source::Block), stack)
}

type Part = Vec<(u8, i32, i32)>;

fn sum(parts: &[&Part]) -> Rows {
    let mut rows = Rows::default();
    for &&(number, count, delay) in parts.iter().copied().flatten().collect::<Vec<_>>().iter() {
        let waits = [(i64::from(count), i64::from(delay)); WAIT_BUCKETS];
        add(&mut rows, key(number), [count.into(), delay.into(), 0, 0], Some(waits));
    }
    rows
}

proptest! {
    /// The order of tallies and of their rows does not matter.
    #[test]
    fn merging_is_commutative_and_associative(
        a in proptest::collection::vec((0..6_u8, any::<i32>(), any::<i32>()), 0..20),
        b in proptest::collection::vec((0..6_u8, any::<i32>(), any::<i32>()), 0..20),
        c in proptest::collection::vec((0..6_u8, any::<i32>(), any::<i32>()), 0..20),
    ) {
        let expected = sum(&[&a, &b, &c]);
        prop_assert_eq!(&sum(&[&c, &a, &b]), &expected);
        prop_assert_eq!(&sum(&[&b, &c, &a]), &expected);
        let total: i64 = expected.values().map(|sums| sums.values[1]).sum();
        let parts = [&a, &b, &c].into_iter().flatten();
        prop_assert_eq!(total, parts.map(|part| i64::from(part.2)).sum::<i64>());
    }
}

#[test]
fn a_row_without_values_is_no_row() {
    let mut rows = Rows::default();
    add(&mut rows, key(1), [0; VALUES], None);
    assert!(rows.is_empty());
}

/// A row of a thread for allocations of that size class, at one place for all.
fn alloc_row(size: u64) -> Row {
    lone_row(Header { size, ..Header::new(Source::Alloc) }.words(), &[7, 8])
}

/// Returns values by size class, `[lost]` as 0, smallest first.
fn read(rows: &[Row], emergency: &Emergency) -> Vec<(u64, [i64; VALUES])> {
    let heap = heap_of(|visit| rows.iter().copied().for_each(visit), emergency);
    let mut values: Vec<_> = heap.iter().map(|(key, sums)| (key.size, sums.values)).collect();
    values.sort_unstable();
    values
}

#[test]
fn parts_of_objects_from_several_threads_make_whole_ones_together() {
    let rows = [alloc_row(64), alloc_row(64), alloc_row(128)];
    let half = OBJECT / 2;
    rows[0].add([OBJECT + half, 100, 0, 0]);
    rows[1].add([OBJECT + half, 100, 0, 0]);
    rows[2].add([2 * OBJECT + half, 300, 0, 0]);
    rows[1].add_shared([100, OBJECT + half]);
    let values = [(64, [3, 200, 1, 100]), (128, [2, 300, 2, 300])];
    assert_eq!(read(&rows, &Emergency::new()), values);
}

#[test]
fn what_is_freed_stays_as_allocated() {
    let row = alloc_row(64);
    assert_eq!(read(&[row], &Emergency::new()), []);
    row.add([OBJECT, 64, 0, 0]);
    row.add_shared([64, OBJECT]);
    assert_eq!(read(&[row], &Emergency::new()), [(64, [1, 64, 0, 0])]);
}

#[test]
fn all_frees_are_read_before_any_allocation() {
    let emergency = Emergency::new();
    let header = Header { marker: Marker::Lost, ..Header::new(Source::Alloc) };
    let rows = [alloc_row(64), alloc_row(128)];
    let heap = heap_of(
        |visit| {
            for row in rows {
                visit(row);
                // What other threads do now, behind the reader's back.
                for row in rows {
                    row.add([OBJECT, 10, 0, 0]);
                    row.add_shared([10, OBJECT]);
                }
                emergency.add(&header, [OBJECT, 10, 0, 0]);
            }
        },
        &emergency,
    );
    let values = |size| heap.iter().find(|(key, _)| key.size == size).unwrap().1.values;
    assert_eq!(values(64), [2, 20, 2, 20]);
    assert_eq!(values(128), [2, 20, 1, 10], "one free was read, with its allocation");
    assert_eq!(values(0), [2, 20, 2, 20]);
}

#[test]
fn what_has_no_row_is_lost_in_one_place_and_other_sources_are_not_read() {
    let emergency = Emergency::new();
    let lost = Header { marker: Marker::Lost, ..Header::new(Source::Alloc) };
    emergency.add(&lost, [3 * OBJECT, 30, 10, OBJECT]);
    // When the slots are taken, the rest of a source goes to its last row.
    let name = "x".repeat(100).leak();
    for end in 0..name.len() {
        let other = Header { name: Some(&name[..end]), ..Header::new(Source::Block) };
        emergency.add(&other, [1, 1, 1, 1]);
    }
    emergency.add(&Header { size: 8, ..lost }, [OBJECT, 10, 0, 0]);
    let block = lone_row(Header::new(Source::Block).words(), &[1]);
    block.add([1, 1, 0, 0]);
    assert_eq!(read(&[block], &emergency), [(0, [4, 40, 3, 30])]);
}

#[test]
fn lost_records_are_counted_by_source_and_weight() {
    let mut counted = Counted::default();
    let lost = |source| Header { marker: Marker::Lost, ..Header::new(source) };
    let overflow = |source| Header { marker: Marker::Overflow, ..Header::new(source) };
    counted.add(&Header::new(Source::Block), 5);
    counted.add(&lost(Source::Mutex), 2);
    counted.add(&Header::new(Source::Alloc), 3 * OBJECT + OBJECT / 2);
    counted.add(&overflow(Source::Alloc), OBJECT + OBJECT / 2);
    counted.add(&lost(Source::Alloc), OBJECT / 2);
    counted.add(&overflow(Source::Custom), 7);
    assert_eq!(counted.sums(), [12, 4]);
}
