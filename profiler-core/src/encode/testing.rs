//! What the tests of profiles share: rows and names from short texts, profiles as text.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prost::Message;

use super::check::check_valid;
use super::pprof::encode;
use super::proto;
use crate::kind::Kind;
use crate::memory::{Allocations, Memory};
use crate::merge::{Key, Rows, Stack, Sums, VALUES};
use crate::profile::{
    Cut, Found, Function, LabelValue, Line, Mapping, Profile, Reading, Resolved, build_with,
};
use crate::view::{LabelView, StackView, Symbols, ThreadView, View};

/// The one mapping of [`profile`]; addresses from here on lie in it.
pub(crate) const START: u64 = 0x10_0000;

/// Machine stacks, no labels on request, debug information.
pub(crate) const NATIVE: View = View {
    stack: StackView::Native,
    labels: LabelView::NONE,
    symbols: Symbols::Dwarf,
    threads: ThreadView::Published,
    idle: false,
};

/// A reading in 2001, 128 frames deep.
pub(crate) fn reading(kind: Kind, view: View) -> Reading {
    Reading {
        kind,
        view,
        depth: 128,
        period: 1,
        time: UNIX_EPOCH + Duration::from_secs(1_000_000_000),
    }
}

/// A key with nothing but a stack.
pub(crate) fn key(stack: Stack) -> Key {
    Key {
        closings: 0,
        stack,
        path: Arc::new([]),
        labels: Arc::new([]),
        waiting_for: None,
        lock: None,
        size: 0,
        acquired_at: None,
        thread: None,
        on_cpu: None,
    }
}

/// A key with a machine stack.
pub(crate) fn native(addresses: &[u64]) -> Key {
    key(Stack::Native(addresses.to_vec().into()))
}

/// The same with labels of the application.
pub(crate) fn labelled(addresses: &[u64], labels: &[(&str, &str)]) -> Key {
    let labels = labels.iter().map(|&(key, value)| (key.into(), value.into())).collect();
    Key { labels, ..native(addresses) }
}

/// Sums of a count and nanoseconds.
pub(crate) fn sums(count: i64, nanoseconds: i64) -> Sums {
    let mut values = [0; VALUES];
    [values[0], values[1]] = [count, nanoseconds];
    Sums { values, waits: None }
}

/// Sums of an allocation site: objects and bytes that were allocated, and those in use.
pub(crate) fn allocated(objects: i64, bytes: i64, live_objects: i64, live_bytes: i64) -> Sums {
    Sums { values: [objects, bytes, live_objects, live_bytes], waits: None }
}

/// What a process held.
pub(crate) const MEMORY: Memory = Memory {
    allocations: Some(Allocations {
        allocated_bytes: 5000,
        allocated_objects: 50,
        freed_bytes: 2000,
        freed_objects: 30,
    }),
    resident_bytes: Some(1 << 20),
    peak_resident_bytes: Some(2 << 20),
};

/// Builds a profile and checks that every reader would take it. `names` gives the names at an
/// address, innermost first, with bars between; an address that is not listed has none.
pub(crate) fn profile(reading: Reading, rows: &Rows, names: &[(u64, &str)]) -> Profile {
    let profile = build_with(
        reading,
        rows,
        |address, _| address,
        |addresses| {
            let mapping = Mapping {
                start: START,
                end: 2 * START,
                file: "/srv/shop".into(),
                build_id: "0123abcd".into(),
                program: true,
                ..Mapping::default()
            };
            (vec![mapping], addresses.iter().map(|&address| find(address, names)).collect())
        },
    );
    decode(&profile);
    profile
}

fn find(address: u64, names: &[(u64, &str)]) -> Found {
    let names = names.iter().filter(|(named, _)| *named == address);
    let lines = names.flat_map(|(_, names)| names.split(" | ")).zip(1..).map(|(name, line)| {
        let function = Arc::new(Function::named(name, "/srv/shop.rs"));
        Line { function, line }
    });
    let resolved = Arc::new(Resolved { lines: lines.collect(), offset: 5, inlines: true });
    Found { mapping: (START..2 * START).contains(&address).then_some(0), resolved }
}

/// Writes the samples as text, a line each: values, frames, labels.
pub(crate) fn text(profile: &Profile) -> Vec<String> {
    let sample = |sample: crate::Sample<'_>| {
        let values: Vec<_> = sample.values().iter().map(i64::to_string).collect();
        let frames: Vec<_> = sample
            .frames()
            .map(|frame| frame.function.map_or(format!("{:#x}", frame.address), str::to_owned))
            .collect();
        let labels: String = sample
            .labels()
            .map(|(key, value)| match value {
                LabelValue::Text(text) => format!(" {key}={text}"),
                LabelValue::Number(number, "") => format!(" {key}={number}"),
                LabelValue::Number(number, unit) => format!(" {key}={number} {unit}"),
            })
            .collect();
        format!("{}: {}{labels}", values.join(" "), frames.join("; "))
    };
    profile.samples().map(sample).collect()
}

/// Encodes, decodes and checks.
pub(crate) fn decode(profile: &Profile) -> proto::Profile {
    let mut bytes = Vec::new();
    encode(profile, &mut bytes).expect("a vector grows");
    let message = proto::Profile::decode(&*bytes).expect("what we encode is a message");
    assert_eq!(check_valid(&message), Ok(()));
    message
}

/// Checks what is left of a stack that is cut. Locations are lines of text, leaf first, and the lines
/// of a location stand between bars, innermost first; `-` is a location without a name.
#[track_caller]
pub(crate) fn check_cut(stack: &[&str], left: &[&str], cut: impl FnOnce(&[Vec<&str>]) -> Cut) {
    let lines: Vec<Vec<&str>> = stack
        .iter()
        .map(|location| location.split(" | ").filter(|name| *name != "-").collect())
        .collect();
    let cut = cut(&lines);
    let shown: Vec<String> = lines
        .iter()
        .enumerate()
        .skip(cut.locations)
        .map(|(at, lines)| {
            let hidden = if at == cut.locations { cut.lines } else { 0 };
            if lines.is_empty() { "-".to_owned() } else { lines[hidden..].join(" | ") }
        })
        .collect();
    assert_eq!(shown, left);
}
