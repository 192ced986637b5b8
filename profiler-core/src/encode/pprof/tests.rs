use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;

use super::super::testing::{
    NATIVE, START, allocated, decode, key, labelled, native, profile, reading, sums,
};
use super::*;
use crate::kind::Kind;
use crate::merge::{Key, Rows, Stack};
use crate::profile::{Reading, build_with};

const NAMES: &[(u64, &str)] = &[(START + 1, "inner | outer"), (START + 2, "main")];

fn example() -> Profile {
    let rows = Rows::from_iter([
        (labelled(&[START + 1, START + 2], &[("tenant", "a")]), sums(3, 100)),
        (native(&[START + 2]), sums(1, 10)),
        (key(Stack::Marker("[handoff]")), sums(1, 1)),
    ]);
    profile(reading(Kind::Mutex, NATIVE), &rows, NAMES)
}

#[test]
fn what_is_written_is_gzip_of_one_message() {
    let mut zipped = Vec::new();
    example().write_to(&mut zipped).unwrap();
    // No name and no time of modification: equal profiles are equal files.
    assert_eq!(zipped[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    GzDecoder::new(&*zipped).read_to_end(&mut bytes).unwrap();
    assert_eq!(proto::Profile::decode(&*bytes).unwrap(), decode(&example()));
}

#[test]
fn stacks_names_and_labels_are_found_again() {
    let message = decode(&example());
    let text = |position: i64| &*message.string_table[usize::try_from(position).unwrap()];
    let samples: Vec<String> = message
        .sample
        .iter()
        .map(|sample| {
            let frames: Vec<String> = sample
                .location_id
                .iter()
                .flat_map(|id| &message.location[usize::try_from(*id).unwrap() - 1].line)
                .map(|line| {
                    let id = usize::try_from(line.function_id).unwrap();
                    let function = message.function[id - 1];
                    format!("{} {}:{}", text(function.name), text(function.filename), line.line)
                })
                .collect();
            let labels = sample.label.iter();
            let labels: Vec<_> =
                labels.map(|label| format!("{}={}", text(label.key), text(label.str))).collect();
            format!("{:?} {} {}", sample.value, frames.join("; "), labels.join(" "))
        })
        .collect();
    assert_eq!(
        samples,
        [
            "[3, 100] inner /srv/shop.rs:1; outer /srv/shop.rs:2; main /srv/shop.rs:1 tenant=a",
            "[1, 10] main /srv/shop.rs:1 ",
            "[1, 1] [handoff] :0 ",
        ]
    );
    assert_eq!(message.sample[0].location_id, [1, 2], "in the order of first use");
    let mapping = message.mapping[0];
    assert_eq!((text(mapping.filename), text(mapping.build_id)), ("/srv/shop", "0123abcd"));
}

/// Returns the file, the bounds and `has_functions` of each mapping.
fn mapping_texts(message: &proto::Profile) -> Vec<String> {
    let text = |position: i64| &*message.string_table[usize::try_from(position).unwrap()];
    let mapping = |mapping: &proto::Mapping| {
        let (start, limit) = (mapping.memory_start, mapping.memory_limit);
        format!("{} {start:#x} {limit:#x} {}", text(mapping.filename), mapping.has_functions)
    };
    message.mapping.iter().map(mapping).collect()
}

const OWN: &str = "[profiler] 0x10000000000000 0x11000000000000 true";

#[test]
fn what_is_no_code_and_code_of_no_file_have_mappings_of_their_own_behind_the_others() {
    let message = decode(&example());
    assert_eq!(mapping_texts(&message), ["/srv/shop 0x100000 0x200000 true", OWN]);
    assert_eq!(message.location[2].mapping_id, 2);
    let rows = Rows::from_iter([
        (native(&[7, START + 2]), sums(3, 100)),
        // No name is known there, so it is no place of ours.
        (native(&[(1 << 52) + 0x1000]), sums(3, 90)),
        (key(Stack::Marker("[handoff]")), sums(1, 1)),
    ]);
    let message = decode(&profile(reading(Kind::Mutex, NATIVE), &rows, NAMES));
    let expected = ["/srv/shop 0x100000 0x200000 true", "//anon 0x0 0x0 false", OWN];
    assert_eq!(mapping_texts(&message), expected);
    let mappings: Vec<u64> = message.location.iter().map(|location| location.mapping_id).collect();
    assert_eq!(mappings, [2, 1, 2, 3]);
}

#[test]
fn differences_have_these_mappings_once() {
    let only = |name, count| {
        let rows = Rows::from_iter([(key(Stack::Marker(name)), sums(count, 1))]);
        profile(reading(Kind::Mutex, NATIVE), &rows, NAMES)
    };
    let difference = decode(&only("[lost]", 3).since(&only("[handoff]", 2)));
    // The first is the program's, which tools take the first for.
    assert_eq!(mapping_texts(&difference), ["/srv/shop 0x100000 0x200000 false", OWN]);
    assert_eq!(difference.location.len(), 2);
}

#[test]
fn the_name_of_the_default_column_stands_where_the_column_does() {
    // flameshow takes the position of the text for that of the column.
    for kind in Kind::ALL.iter().copied().filter(|kind| kind.description().default_value.is_some())
    {
        let message = decode(&profile(reading(kind, NATIVE), &Rows::default(), &[]));
        let column = i64::try_from(kind.default_column()).unwrap();
        assert_eq!(message.default_sample_type, column, "{kind}");
    }
}

#[test]
fn the_header_is_that_of_the_kind() {
    for kind in Kind::ALL.iter().copied().chain([Kind::Custom("connections")]) {
        let message = decode(&profile(reading(kind, NATIVE), &Rows::default(), &[]));
        let text = |position: i64| &*message.string_table[usize::try_from(position).unwrap()];
        let types: Vec<_> =
            message.sample_type.iter().map(|t| (text(t.r#type), text(t.unit))).collect();
        let expected: Vec<_> = kind.values().iter().map(|t| (t.name, t.unit)).collect();
        assert_eq!(types, expected);
        let period = message.period_type.unwrap();
        assert_eq!(text(period.r#type), kind.period_type().name);
        assert_eq!(message.period, 1);
        let default = kind.description().default_value.unwrap_or("");
        assert_eq!(text(message.default_sample_type), default);
        assert_eq!(message.time_nanos, 1_000_000_000_000_000_000);
        assert_eq!(message.duration_nanos, 0);
    }
}

#[test]
fn only_a_difference_has_a_duration() {
    let earlier = example();
    let mut reading = reading(Kind::Mutex, NATIVE);
    reading.time += Duration::from_millis(1500);
    let later = profile(reading, &Rows::from_iter([(native(&[START + 2]), sums(2, 20))]), NAMES);
    let message = decode(&later.since(&earlier));
    assert_eq!(message.duration_nanos, 1_500_000_000);
    assert_eq!(message.time_nanos, 1_000_000_001_500_000_000);
}

/// Returns the four `has_…` of the mapping when these addresses are in the profile.
fn has(addresses: &[u64], names: &[(u64, &str)]) -> [bool; 4] {
    let rows = Rows::from_iter([(native(addresses), sums(1, 1))]);
    let mapping = decode(&profile(reading(Kind::Mutex, NATIVE), &rows, names)).mapping[0];
    [
        mapping.has_functions,
        mapping.has_filenames,
        mapping.has_line_numbers,
        mapping.has_inline_frames,
    ]
}

#[test]
fn a_mapping_has_names_only_if_all_were_found() {
    assert_eq!(has(&[START + 1, START + 2], NAMES), [true; 4]);
    assert_eq!(has(&[START + 9, START + 2], NAMES)[..3], [false; 3]);
    // Nothing in it was asked for.
    assert_eq!(has(&[START - 1], NAMES), [false; 4]);
}

#[test]
fn without_mappings_one_stands_for_all() {
    let rows = Rows::from_iter([(native(&[7]), sums(1, 1))]);
    let profile = build_with(
        reading(Kind::Block, NATIVE),
        &rows,
        |address, _| address,
        |addresses| (Vec::new(), vec![crate::profile::Found::default(); addresses.len()]),
    );
    let message = decode(&profile);
    assert_eq!(message.mapping[0], proto::Mapping { id: 1, ..Default::default() });
    assert_eq!(mapping_texts(&message)[1..], ["//anon 0x0 0x0 false"]);
    assert_eq!(message.location[0].address, 7);
}

#[test]
fn an_error_of_the_writer_is_returned() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.0.min(bytes.len());
            self.0 -= room;
            if room == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(room) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for room in [0, 5, 100] {
        let error = example().write_to(Full(room)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = example().write_text(Full(room)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

#[test]
fn the_period_of_the_heap_is_the_mean_distance_of_samples() {
    // 0 as Go's, if nothing is sampled.
    for period in [512 << 10, 1, 0] {
        let reading = Reading { period, ..reading(Kind::Heap, NATIVE) };
        assert_eq!(decode(&profile(reading, &Rows::default(), &[])).period, period);
    }
}

#[test]
fn sizes_are_numbers_without_a_unit() {
    let row = Key { size: 64, ..native(&[START + 2]) };
    let rows = Rows::from_iter([(row, allocated(4, 256, 2, 128))]);
    let message = decode(&profile(reading(Kind::Heap, NATIVE), &rows, NAMES));
    let sample = &message.sample[0];
    assert_eq!(sample.value, [4, 256, 2, 128]);
    let [label] = sample.label[..] else { panic!("{sample:?}") };
    assert_eq!(message.string_table[usize::try_from(label.key).unwrap()], "bytes");
    assert_eq!((label.num, label.num_unit, label.str), (64, 0, 0));
}
