//! Every rule catches a planted fault, and a profile without one passes.

use super::*;
use crate::pprof::{Function, Label, Line, Location, Mapping, Sample, ValueType};

fn sound() -> Tables {
    let strings = [
        "",
        "delay",
        "nanoseconds",
        "/bin/shop",
        "ab12",
        "shop::buy",
        "_ZN4shop3buy",
        "/src/shop.rs",
        "lock",
        "stock",
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    Tables {
        sample_types: vec![ValueType { name: 1, unit: 2 }],
        samples: vec![Sample {
            locations: vec![1],
            values: vec![7],
            labels: vec![Label { key: 8, text: 9, number: 0, unit: 0 }],
        }],
        mappings: vec![Mapping {
            id: 1,
            start: 0x1000,
            limit: 0x9000,
            offset: 0,
            file: 3,
            build_id: 4,
            has_functions: true,
            has_filenames: true,
            has_line_numbers: true,
            has_inline_frames: true,
        }],
        locations: vec![Location {
            id: 1,
            mapping: 1,
            address: 0x1234,
            lines: vec![Line { function: 1, line: 12 }],
        }],
        functions: vec![Function { id: 1, name: 5, system_name: 6, file: 7, start_line: 10 }],
        strings: strings.map(str::to_owned).to_vec(),
        times: vec![i64::try_from(now).unwrap()],
        duration_nanos: 0,
        period_type: ValueType { name: 1, unit: 2 },
        period: 1,
        comments: Vec::new(),
        default_sample_type: 0,
        bytes: 100,
    }
}

#[track_caller]
fn check(expected: &str, plant: impl FnOnce(&mut Tables)) {
    let mut profile = sound();
    plant(&mut profile);
    let violations = violations(&profile);
    assert!(
        violations.iter().any(|violation| violation.contains(expected)),
        "{expected:?} is not among {violations:?}"
    );
}

#[test]
fn a_sound_profile_passes() {
    assert_eq!(violations(&sound()), [""; 0]);
}

#[test]
fn an_empty_profile_passes() {
    let empty = Tables {
        samples: Vec::new(),
        mappings: Vec::new(),
        locations: Vec::new(),
        functions: Vec::new(),
        ..sound()
    };
    assert_eq!(violations(&empty), [""; 0]);
}

#[test]
fn faults_of_strings_are_caught() {
    check("the first string is not empty", |profile| profile.strings[0].push('x'));
    check("no strings {99}", |profile| profile.functions[0].name = 99);
    check("no strings {-1}", |profile| profile.samples[0].labels[0].text = -1);
    check("no strings {10}", |profile| profile.comments.push(10));
}

#[test]
fn faults_of_the_header_are_caught() {
    check("time_nanos stands 2 times", |profile| profile.times.push(1));
    check("time_nanos stands 0 times", |profile| profile.times.clear());
    check("an hour old", |profile| profile.times[0] -= 3_700_000_000_000);
    check("ten minutes ahead", |profile| profile.times[0] += 700_000_000_000);
    check("sample type information", |profile| profile.sample_types.clear());
    check("5 sample types", |profile| {
        profile.sample_types = vec![ValueType { name: 1, unit: 2 }; 5]
    });
    check("sample types repeat", |profile| {
        profile.sample_types = vec![ValueType { name: 1, unit: 2 }; 2];
    });
    check("\"wait-time\" is no Prometheus name", |profile| profile.strings[1] = "wait-time".into());
    check("default sample type \"stock\"", |profile| profile.default_sample_type = 9);
}

#[test]
fn faults_of_ids_are_caught() {
    check("mapping 1 has id 0", |profile| profile.mappings[0].id = 0);
    check("location 1 has id 7", |profile| profile.locations[0].id = 7);
    check("function 2 has id 1", |profile| profile.functions.push(profile.functions[0]));
}

#[test]
fn faults_of_mappings_are_caught() {
    check("no mapping", |profile| profile.mappings.clear());
    check("ends before it starts", |profile| profile.mappings[0].limit = 0x10);
    check("not lower-case", |profile| profile.strings[4] = "AB12".into());
    check("location 1 has none", |profile| profile.locations[0].lines.clear());
    check("mappings 1 and 2 overlap", |profile| {
        profile.mappings.push(Mapping { id: 2, start: 0x8000, ..profile.mappings[0] });
    });
}

#[test]
fn faults_of_locations_are_caught() {
    check("address 0", |profile| profile.locations[0].address = 0);
    check("share address 0x1234", |profile| {
        profile.locations.push(Location { id: 2, ..profile.locations[0].clone() });
    });
    check("outside of its mapping", |profile| profile.locations[0].address = 0x9000);
    check("has no mapping", |profile| profile.locations[0].mapping = 0);
    check("in mapping 3, which does not exist", |profile| profile.locations[0].mapping = 3);
    check("function 4, which does not exist", |profile| profile.locations[0].lines[0].function = 4);
}

#[test]
fn faults_of_functions_are_caught() {
    check("no name", |profile| profile.functions[0].name = 0);
    check("as its system name too", |profile| profile.functions[0].system_name = 5);
    check("relative path", |profile| profile.strings[7] = "src/shop.rs".into());
}

#[test]
fn faults_of_samples_are_caught() {
    check("2 values for 1 types", |profile| profile.samples[0].values.push(1));
    check("location 5, which does not exist", |profile| profile.samples[0].locations.push(5));
    check("same stack and labels", |profile| {
        profile.samples.push(Sample { values: vec![1], ..profile.samples[0].clone() });
    });
}

#[test]
fn faults_of_labels_are_caught() {
    check("key \"\"", |profile| profile.samples[0].labels[0].key = 0);
    check("key \"a b\"", |profile| profile.strings[8] = "a b".into());
    check("\"lock\" twice", |profile| {
        let label = profile.samples[0].labels[0];
        profile.samples[0].labels.push(label);
    });
    check("text and number", |profile| profile.samples[0].labels[0].number = 3);
    check("no value", |profile| profile.samples[0].labels[0].text = 0);
    check("101 labels", |profile| {
        profile.samples[0].labels = vec![profile.samples[0].labels[0]; 101];
    });
    check("31 label names", |profile| {
        let first = i64::try_from(profile.strings.len()).unwrap();
        profile.strings.extend((0..31).map(|index| format!("label_{index}")));
        profile.samples[0].labels =
            (first..first + 31).map(|key| Label { key, text: 9, number: 0, unit: 0 }).collect();
    });
    check("5001 sets", |profile| {
        let first = i64::try_from(profile.strings.len()).unwrap();
        profile.strings.extend((0..5_001).map(|index| format!("stock {index}")));
        let sample = profile.samples[0].clone();
        profile.samples = (first..first + 5_001)
            .map(|text| Sample {
                labels: vec![Label { text, ..sample.labels[0] }],
                ..sample.clone()
            })
            .collect();
    });
}

#[test]
fn faults_of_size_are_caught() {
    check("16001 samples", |profile| profile.samples = vec![profile.samples[0].clone(); 16_001]);
    check("5000000 bytes", |profile| profile.bytes = 5_000_000);
    check("1001 frames", |profile| profile.samples[0].locations = vec![1; 1_001]);
}
