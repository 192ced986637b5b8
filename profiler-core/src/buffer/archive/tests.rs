use std::sync::Arc;

use super::super::table::lone_row;
use super::coarser::without_stack;
use super::*;
use crate::buffer::record::OBJECT;
use crate::loaded::Library;
use crate::merge::At;

const INSIDE: u64 = 0x1234;
const ELSEWHERE: u64 = 0x9999;

/// A row with one record, made after so many closings.
fn row(closings: u64, address: u64) -> Row {
    let header = Header { closings, ..Header::new(Source::Block) };
    let row = lone_row(header.words(), &[address]);
    row.add([1, 10, 0, 0]);
    row
}

fn closed(number: u64, file: &str) -> Closed {
    let range = 0x1000..0x2000;
    let library = Library { file: file.into(), base: 0, build_id: "ab".into(), parts: [].into() };
    Closed { number, ranges: Box::from([range]), library: Some(Arc::new(library)) }
}

/// The records of each row that the archive has, by the number of closings.
fn rows(archive: &Archive) -> Vec<(u64, i64)> {
    let rows = archive.rows.keys().map(|ByKey(row)| (row.header().closings, row.values()[0]));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

fn keep(archive: &mut Archive, row: Row) {
    if !archive.keep(row) {
        // SAFETY: made here, and `keep` has found that nobody holds it.
        unsafe { end(row) };
    }
}

#[test]
fn rows_of_a_library_that_is_loaded_time_and_again_are_one() {
    let mut archive = Archive::default();
    for time in 1..=20 {
        // The last closing of the same library in the same place is remembered alone.
        archive.note_closings((vec![closed(time, "a")], 0));
        keep(&mut archive, row(time, INSIDE));
        keep(&mut archive, row(time, ELSEWHERE));
        assert!(archive.rows.len() <= 3, "{:?}", rows(&archive));
    }
    archive.note_closings((vec![closed(21, "a")], 0));
    assert_eq!(rows(&archive), [(0, 20), (0, 20)]);
    assert_eq!(archive.bytes, archive.rows.keys().map(|ByKey(row)| row.size()).sum::<usize>());
}

#[test]
fn rows_of_different_libraries_stay_apart() {
    let mut archive = Archive::default();
    archive.note_closings((vec![closed(1, "a"), closed(2, "b")], 0));
    for closings in [0, 1, 2, 2] {
        keep(&mut archive, row(closings, INSIDE));
    }
    archive.note_closings((vec![closed(1, "a"), closed(2, "b"), closed(3, "a")], 0));
    assert_eq!(rows(&archive), [(0, 1), (1, 1), (2, 2)]);
}

/// A move tells parts of objects, which make whole ones with those of other rows only.
#[test]
fn objects_of_many_rows_that_move_are_as_many() {
    let mut archive = Archive::default();
    let before = archive.now();
    for address in 0..10 {
        let header = Header { size: 64, ..Header::new(Source::Alloc) };
        let row = lone_row(header.words(), &[address]);
        row.add([OBJECT * 3 / 2, 96, 0, 0]);
        keep(&mut archive, row);
    }
    let rows: Vec<_> = archive.rows.keys().map(|&ByKey(row)| row).collect();
    rows.into_iter().for_each(|row| archive.move_on(row, without_stack(&row.header())));
    archive.tell_moves();
    let moved = At::new(before).moved_until(&At::new(archive.now()), Source::Alloc, None);
    let (to, from): (Vec<_>, Vec<_>) =
        moved.values().map(|sums| sums.values).partition(|values| values[0] < 0);
    assert_eq!(to, [[-15, -960, -15, -960]]);
    assert_eq!(from, [[1, 96, 1, 96]; 10]);
}

#[test]
fn moves_of_other_custom_profiles_are_none() {
    let mut archive = Archive::default();
    let before = archive.now();
    for (name, address) in [("a", 1), ("b", 1)] {
        let header = Header { name: Some(name), ..Header::new(Source::Custom) };
        let row = lone_row(header.words(), &[address]);
        row.add([1, 0, 0, 0]);
        keep(&mut archive, row);
    }
    let rows: Vec<_> = archive.rows.keys().map(|&ByKey(row)| row).collect();
    rows.into_iter().for_each(|row| archive.move_on(row, without_stack(&row.header())));
    archive.tell_moves();
    let now = At::new(archive.now());
    let moved = |name| At::new(Arc::clone(&before)).moved_until(&now, Source::Custom, name);
    for (name, expected) in [(Some("a"), [-1, 1].as_slice()), (Some("c"), &[])] {
        let mut values: Vec<_> = moved(name).values().map(|sums| sums.values[0]).collect();
        values.sort_unstable();
        assert_eq!(values, expected, "{name:?}");
    }
}

/// As while a reading has them: they take more than there is room for, and nothing can be done about it.
#[test]
fn rows_are_not_made_coarser_in_the_place_of_those_that_are_held() {
    let mut archive = Archive::default();
    let long = |start: u64| (start..start + 1000).collect::<Vec<_>>();
    let mut held = Vec::new();
    while archive.bytes < budget::for_archive() + (1 << 20) {
        let header = Header::new(Source::Block);
        let row = lone_row(header.words(), &long(1_000_000 * (held.len() as u64 + 1)));
        row.add([1, 10, 0, 0]);
        keep(&mut archive, row);
        held.push(row.hold());
    }
    keep(&mut archive, row(0, ELSEWHERE));
    archive.make_coarser();
    assert_eq!(archive.rows.len(), held.len() + 1);
    // Positive control.
    drop(held);
    archive.make_coarser();
    assert!(archive.bytes < budget::for_archive());
    assert!(archive.rows.keys().any(|ByKey(row)| row.header().marker == Marker::Overflow));
}
