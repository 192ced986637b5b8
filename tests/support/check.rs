//! Whether the tools and the servers take a profile: Go's `CheckValid`, and the rules of Parca,
//! Alloy and Pyroscope.
//!
//! Each rule stands once, with what breaks when it is violated. All rules always run, so that one
//! report names every fault.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::pprof::{Mapping, Profile, Tables};

/// Alloy's delta panics on a fifth column.
const MOST_VALUES: usize = 4;
/// Pyroscope refuses more samples than this.
const MOST_SAMPLES: usize = 16_000;
/// Pyroscope refuses larger messages, measured before compression.
const MOST_BYTES: usize = 4 << 20;
/// Pyroscope refuses more labels on one sample.
const MOST_LABELS: usize = 100;
/// Pyroscope refuses more label names in one series.
const MOST_LABEL_NAMES: usize = 30;
/// Pyroscope refuses more series; each set of text labels is one.
const MOST_SERIES: usize = 5_000;
/// Pyroscope cuts deeper stacks, and at the leaf.
const DEEPEST: usize = 1_000;

/// Decodes a body and checks it against every rule.
///
/// # Panics
///
/// The body is no profile, or violates a rule; the message names every violation.
#[must_use]
#[track_caller]
pub fn valid(body: &[u8]) -> Profile {
    let profile = Profile::decode(body).expect("the body is a profile");
    let violations = violations(&profile.tables);
    assert!(violations.is_empty(), "the profile is not valid:\n{}", violations.join("\n"));
    profile
}

/// Returns a sentence for each rule that a profile violates.
#[must_use]
pub fn violations(profile: &Tables) -> Vec<String> {
    let mut found = Found(Vec::new());
    strings(profile, &mut found);
    header(profile, &mut found);
    ids(profile, &mut found);
    mappings(profile, &mut found);
    locations(profile, &mut found);
    functions(profile, &mut found);
    samples(profile, &mut found);
    labels(profile, &mut found);
    sizes(profile, &mut found);
    found.0
}

struct Found(Vec<String>);

impl Found {
    fn unless(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.0.push(violation());
        }
    }
}

/// Go falls through to the parsers of older formats when a string is missing.
fn strings(profile: &Tables, found: &mut Found) {
    found.unless(profile.strings.first().is_some_and(String::is_empty), || {
        "the first string is not empty".into()
    });
    let count = i64::try_from(profile.strings.len()).expect("fits");
    let value_types = profile.sample_types.iter().chain([&profile.period_type]);
    let indexes = value_types
        .flat_map(|value| [value.name, value.unit])
        .chain(
            profile
                .samples
                .iter()
                .flat_map(|sample| &sample.labels)
                .flat_map(|label| [label.key, label.text, label.unit]),
        )
        .chain(profile.mappings.iter().flat_map(|mapping| [mapping.file, mapping.build_id]))
        .chain(
            profile
                .functions
                .iter()
                .flat_map(|function| [function.name, function.system_name, function.file]),
        )
        .chain(profile.comments.iter().copied())
        .chain([profile.default_sample_type]);
    let outside: BTreeSet<_> = indexes.filter(|index| !(0..count).contains(index)).collect();
    found.unless(outside.is_empty(), || format!("there are no strings {outside:?}"));
}

/// Go: times and types. Parca makes a Prometheus name of each type, Pyroscope refuses a hyphen.
fn header(profile: &Tables, found: &mut Found) {
    found.unless(profile.times.len() == 1, || {
        format!("time_nanos stands {} times", profile.times.len())
    });
    if let [time] = profile.times[..] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let age = i128::try_from(now).expect("fits") - i128::from(time);
        let (hour, ten_minutes) = (3_600_000_000_000, 600_000_000_000);
        found.unless((-ten_minutes..=hour).contains(&age), || {
            format!("time_nanos {time} is more than an hour old or ten minutes ahead")
        });
    }
    found.unless(!profile.sample_types.is_empty(), || "sample type information is missing".into());
    found.unless(profile.sample_types.len() <= MOST_VALUES, || {
        format!("{} sample types are too many", profile.sample_types.len())
    });
    for value in profile.sample_types.iter().chain([&profile.period_type]) {
        for text in [profile.string(value.name), profile.string(value.unit)] {
            found.unless(is_name(text), || format!("type {text:?} is no Prometheus name"));
        }
    }
    let names: Vec<_> =
        profile.sample_types.iter().map(|value| profile.string(value.name)).collect();
    let default = profile.string(profile.default_sample_type);
    found.unless(default.is_empty() || names.contains(&default), || {
        format!("default sample type {default:?} is none of {names:?}")
    });
    let distinct: HashSet<_> = names.iter().collect();
    found.unless(distinct.len() == names.len(), || format!("sample types repeat: {names:?}"));
}

/// Go refuses 0 and doubles; Parca takes nothing but 1, 2, 3 … in the order of the table.
fn ids(profile: &Tables, found: &mut Found) {
    let tables: [(&str, Vec<u64>); 3] = [
        ("mapping", profile.mappings.iter().map(|mapping| mapping.id).collect()),
        ("location", profile.locations.iter().map(|location| location.id).collect()),
        ("function", profile.functions.iter().map(|function| function.id).collect()),
    ];
    for (table, ids) in tables {
        let wrong = ids.iter().zip(1..).find(|(found, expected)| *found != expected);
        found.unless(wrong.is_none(), || {
            let (id, expected) = wrong.expect("there is one");
            format!("{table} {expected} has id {id}")
        });
    }
}

/// Servers look up debug information by these.
fn mappings(profile: &Tables, found: &mut Found) {
    found.unless(!profile.mappings.is_empty() || profile.locations.is_empty(), || {
        "there are locations and no mapping".into()
    });
    for mapping in &profile.mappings {
        let id = mapping.id;
        found.unless(mapping.start < mapping.limit || mapping.limit == 0, || {
            format!("mapping {id} ends before it starts")
        });
        let build_id = profile.string(mapping.build_id);
        let is_hex = |digit: char| matches!(digit, '0'..='9' | 'a'..='f');
        found.unless(build_id.chars().all(is_hex), || {
            format!("mapping {id} has build id {build_id:?}, which is not lower-case hexadecimal")
        });
        if mapping.has_functions {
            let nameless = profile
                .locations
                .iter()
                .find(|location| location.mapping == id && location.lines.is_empty());
            found.unless(nameless.is_none(), || {
                let location = nameless.expect("there is one").id;
                format!("mapping {id} says that it has functions, location {location} has none")
            });
        }
    }
    let bounded = profile.mappings.iter().filter(|mapping| mapping.limit != 0);
    let mut ranges: Vec<_> =
        bounded.map(|mapping| (mapping.start, mapping.limit, mapping.id)).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        found.unless(pair[0].1 <= pair[1].0, || {
            format!("mappings {} and {} overlap", pair[0].2, pair[1].2)
        });
    }
}

/// Alloy tells stacks apart by address alone, so each location needs its own.
fn locations(profile: &Tables, found: &mut Found) {
    let mappings: HashMap<_, _> =
        profile.mappings.iter().map(|mapping| (mapping.id, mapping)).collect();
    let functions: HashSet<_> = profile.functions.iter().map(|function| function.id).collect();
    let mut addresses = HashMap::new();
    for location in &profile.locations {
        let (id, address) = (location.id, location.address);
        found.unless(address != 0, || format!("location {id} has address 0"));
        if let Some(other) = addresses.insert(address, id) {
            found.0.push(format!("locations {other} and {id} share address {address:#x}"));
        }
        match mappings.get(&location.mapping) {
            Some(mapping) => {
                let inside =
                    mapping.limit == 0 || (mapping.start..mapping.limit).contains(&address);
                found.unless(inside, || {
                    format!("location {id} at {address:#x} is outside of its mapping")
                });
            }
            None if location.mapping == 0 => {
                found.0.push(format!("location {id} has no mapping, of which flameshow dies"));
            }
            None => found.0.push(format!(
                "location {id} is in mapping {}, which does not exist",
                location.mapping
            )),
        }
        for line in &location.lines {
            found.unless(functions.contains(&line.function), || {
                format!(
                    "location {id} has a line with function {}, which does not exist",
                    line.function
                )
            });
        }
    }
}

/// `go tool pprof` cuts generics and `<T as Trait>` out of a name that equals its system name.
fn functions(profile: &Tables, found: &mut Found) {
    for function in &profile.functions {
        let id = function.id;
        let name = profile.string(function.name);
        found.unless(!name.is_empty(), || format!("function {id} has no name"));
        found.unless(name != profile.string(function.system_name), || {
            format!("function {id} has {name:?} as its system name too")
        });
    }
    // Where a program's own code knows its debug information, the paths are whole.
    let is_file = |mapping: &Mapping| profile.string(mapping.file).starts_with('/');
    let in_files: HashSet<_> =
        profile.mappings.iter().filter(|m| m.has_filenames && is_file(m)).map(|m| m.id).collect();
    let named: BTreeSet<_> = profile
        .locations
        .iter()
        .filter(|location| in_files.contains(&location.mapping))
        .flat_map(|location| location.lines.iter().map(|line| line.function))
        .collect();
    for function in profile.functions.iter().filter(|function| named.contains(&function.id)) {
        let file = profile.string(function.file);
        found.unless(file.is_empty() || file.starts_with('/'), || {
            format!("function {} has the relative path {file:?}", function.id)
        });
    }
}

/// Go refuses the whole profile when one sample is wrong.
fn samples(profile: &Tables, found: &mut Found) {
    let known: HashSet<_> = profile.locations.iter().map(|location| location.id).collect();
    let columns = profile.sample_types.len();
    let mut seen = HashMap::new();
    for (index, sample) in profile.samples.iter().enumerate() {
        found.unless(sample.values.len() == columns, || {
            format!("sample {index} has {} values for {columns} types", sample.values.len())
        });
        for location in sample.locations.iter().filter(|location| !known.contains(location)) {
            found.0.push(format!("sample {index} is at location {location}, which does not exist"));
        }
        let mut labels = sample.labels.clone();
        labels.sort_unstable();
        if let Some(other) = seen.insert((&sample.locations, labels), index) {
            found.0.push(format!("samples {other} and {index} have the same stack and labels"));
        }
    }
}

/// Parca needs a key, readers drop what has no value, Pyroscope renames and counts.
fn labels(profile: &Tables, found: &mut Found) {
    let (mut names, mut sets) = (BTreeSet::new(), HashSet::new());
    for (index, sample) in profile.samples.iter().enumerate() {
        let mut keys = BTreeSet::new();
        let mut set = BTreeSet::new();
        for label in &sample.labels {
            let key = profile.string(label.key);
            found.unless(is_label(key), || format!("sample {index} has a label with key {key:?}"));
            found.unless(keys.insert(key), || format!("sample {index} has label {key:?} twice"));
            found.unless(label.text == 0 || (label.number == 0 && label.unit == 0), || {
                format!("label {key:?} of sample {index} is text and number at once")
            });
            found.unless(label.text != 0 || label.number != 0 || label.unit != 0, || {
                format!("label {key:?} of sample {index} has no value")
            });
            if label.text != 0 {
                names.insert(key);
                set.insert((key, label.text));
            }
        }
        found.unless(sample.labels.len() <= MOST_LABELS, || {
            format!("sample {index} has {} labels", sample.labels.len())
        });
        sets.insert(set);
    }
    found.unless(names.len() <= MOST_LABEL_NAMES, || {
        format!("{} label names are too many", names.len())
    });
    found.unless(sets.len() <= MOST_SERIES, || {
        format!("{} sets of labels are too many", sets.len())
    });
}

/// What Pyroscope takes at most.
fn sizes(profile: &Tables, found: &mut Found) {
    found.unless(profile.samples.len() <= MOST_SAMPLES, || {
        format!("{} samples are too many", profile.samples.len())
    });
    found.unless(profile.bytes <= MOST_BYTES, || format!("{} bytes are too many", profile.bytes));
    let deepest = profile.samples.iter().map(|sample| sample.locations.len()).max().unwrap_or(0);
    found.unless(deepest <= DEEPEST, || format!("a stack of {deepest} frames is too deep"));
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// A label name that servers keep, dots becoming underscores.
fn is_label(text: &str) -> bool {
    text.split('.').all(|part| !part.is_empty()) && is_name(&text.replace('.', "_"))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
