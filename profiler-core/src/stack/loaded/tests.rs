use super::*;

fn library(file: &str, start: u64) -> Library {
    let parts = [(start..start + 0x1000, 0x1000)].into();
    Library { file: file.into(), base: start, build_id: "ab".into(), parts }
}

/// Libraries that nobody hears, at these addresses.
fn found(libraries: &[(&str, u64)]) -> Vec<Found> {
    let found =
        |&(file, start): &(&str, u64)| Found { library: library(file, start), handles: Vec::new() };
    libraries.iter().map(found).collect()
}

/// What is remembered, as `file start` or `? ranges`.
fn told(libraries: &mut Libraries) -> Vec<String> {
    let tell = |closed: Closed| match closed.library {
        Some(library) => format!("{} {:x}", library.file, closed.ranges[0].start),
        None => format!("? {:x?}", closed.ranges),
    };
    libraries.closed().0.into_iter().map(tell).collect()
}

#[test]
fn one_that_is_missing_was_closed() {
    let mut libraries = Libraries::new();
    libraries.look(found(&[("a", 0x1000), ("b", 0x4000)]), (2, 0));
    libraries.look(found(&[("b", 0x4000)]), (2, 1));
    assert_eq!(told(&mut libraries), ["a 1000"]);
    libraries.look(found(&[]), (2, 2));
    assert_eq!(told(&mut libraries), ["a 1000", "b 4000"]);
}

/// What is seen of it in memory is what is in its file now.
#[test]
fn one_whose_file_is_rewritten_is_not_closed() {
    let rewritten = |unloaded| {
        let mut libraries = Libraries::new();
        libraries.look(found(&[("a", 0x1000)]), (1, 0));
        let mut found = found(&[("a", 0x1000), ("b", 0x4000)]);
        found[0].library.build_id = Box::default();
        found[0].library.parts = Box::default();
        libraries.look(found, (2, unloaded));
        told(&mut libraries)
    };
    assert!(rewritten(0).is_empty());
    // Positive control.
    assert_eq!(rewritten(1), ["? [1000..2000]"]);
}

#[test]
fn what_came_meanwhile_may_have_been_in_its_place() {
    let mut libraries = Libraries::new();
    libraries.look(found(&[("a", 0x1000)]), (1, 0));
    libraries.look(found(&[("b", 0x1000)]), (2, 1));
    assert_eq!(told(&mut libraries), ["? [1000..2000]"]);
}

#[test]
fn what_came_and_went_between_two_looks_was_where_strange_code_was() {
    let mut libraries = Libraries::new();
    let stays = [("a", 0x2000)];
    libraries.take_note(found(&stays), (1, 0), 0..0);
    // Code was met, but nothing was closed.
    libraries.take_note(found(&stays), (2, 0), 0x1000..0x5000);
    assert!(told(&mut libraries).is_empty());
    libraries.take_note(found(&stays), (3, 1), 0x1000..0x5000);
    assert_eq!(told(&mut libraries), ["? [1000..2000, 3000..5000]"]);
    // Nothing of it was met: no record has its addresses.
    libraries.take_note(found(&stays), (4, 2), 0..0);
    assert_eq!(told(&mut libraries).len(), 1);
}

#[test]
fn the_same_library_in_the_same_place_is_remembered_once() {
    let mut libraries = Libraries::new();
    let mut closings = 0;
    let mut open_and_close = |libraries: &mut Libraries, file| {
        libraries.look(found(&[(file, 0x1000)]), (closings + 1, closings));
        closings += 1;
        libraries.look(found(&[]), (closings, closings));
    };
    for file in ["a", "a", "a", "b", "b", "a"] {
        open_and_close(&mut libraries, file);
    }
    assert_eq!(told(&mut libraries), ["a 1000", "b 1000", "a 1000"]);
    assert_eq!(libraries.forgotten, 0);
    for number in 0..REMEMBERED {
        open_and_close(&mut libraries, if number % 2 == 0 { "c" } else { "d" });
    }
    let (closed, forgotten) = libraries.closed();
    assert_eq!(closed.len(), REMEMBERED);
    assert!(forgotten != 0 && forgotten < closed[0].number);
}

#[test]
fn a_closing_that_is_heard_is_sure_whatever_came_meanwhile() {
    let mut libraries = Libraries::new();
    let mut heard = found(&[("a", 0x7000)]);
    // No library has this handle, so nobody calls but this test.
    heard[0].handles = vec![1];
    libraries.look(heard, (1, 0));
    let name = libraries.open[0].name;
    let inside = [0x7800];
    let before = closings_under(&inside);
    is_unloaded(std::ptr::without_provenance_mut(name as usize));
    assert!(is_stale(0x7800) && !is_stale(0x8800));
    let after = closings_under(&inside);
    // A second call, and one with an old name, say nothing new.
    is_unloaded(std::ptr::without_provenance_mut(name as usize));
    libraries.look(found(&[("b", 0x7000)]), (2, 1));
    is_unloaded(std::ptr::without_provenance_mut(name as usize));
    assert_eq!(told(&mut libraries), ["a 7000"]);
    // What other tests close in the same region meanwhile may come after it.
    let number = libraries.closed().0[0].number;
    assert!(before < number && number <= after, "{before} {number} {after}");
    assert!(!is_stale(0x7800));
}

#[test]
fn stacks_that_no_closing_has_touched_have_no_number() {
    touch(&(0x10_0000_0000..0x10_0000_1000), 7);
    touch(&(0x10_0000_2000..0x10_0000_3000), 9);
    assert_eq!(closings_under(&[0xf_ffff_ffff, 0x10_1000_0000]), 0);
    assert!(closings_under(&[0xf_ffff_ffff, 0x10_0000_0000]) >= 9);
}
