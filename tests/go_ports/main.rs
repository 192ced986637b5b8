//! What Go's own tests ask of the block, mutex, goroutine and CPU profiles, asked of ours.
//!
//! Each scene has locks of its own, so the scenes do not see each other.

mod aggregate;
mod blockers;
mod cpu;
mod crowd;
mod depth;
mod inline;

use std::sync::Once;

use profiler_core::{Config, Kind, Rates, snapshot};
use profiler_tests::check;
use profiler_tests::pprof::{Profile, Stack};
use profiler_tests::text::Text;

/// Starts the profiler with everything recorded.
fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    });
}

/// Reads a profile as a client does, through its binary form.
#[track_caller]
fn read(kind: Kind) -> Profile {
    let mut body = Vec::new();
    snapshot(kind).expect("available").write_to(&mut body).expect("memory takes all");
    check::valid(&body)
}

/// Reads a profile through its text form.
#[track_caller]
fn read_text(kind: Kind) -> Text {
    let mut text = Vec::new();
    snapshot(kind).expect("available").write_text(&mut text).expect("memory takes all");
    Text::parse(std::str::from_utf8(&text).expect("text"))
}

/// Returns the samples of a lock.
fn of_lock<'a>(profile: &'a Profile, lock: &str) -> Vec<&'a Stack> {
    let is_of_lock = |sample: &&Stack| sample.labels.get("lock").is_some_and(|name| name == lock);
    profile.samples.iter().filter(is_of_lock).collect()
}

/// Returns the one sample of a lock whose leaf is a function.
#[track_caller]
fn the_sample<'a>(profile: &'a Profile, lock: &str) -> &'a Stack {
    let mut samples = of_lock(profile, lock);
    samples.retain(|sample| !sample.names[0].starts_with('['));
    let [sample] = samples[..] else { panic!("{samples:#?}") };
    sample
}

/// Returns on how many frames of the machine a sample's stack stands: functions that were inlined
/// into one another share one.
fn depth(profile: &Profile, sample: &Stack) -> usize {
    let of_sample = profile.samples.iter().zip(&profile.tables.samples);
    let found = of_sample.filter(|(known, _)| *known == sample).map(|(_, raw)| raw.locations.len());
    found.sum()
}

/// Returns whether a frame is that function of these tests, or an instance of it.
fn is(frame: &str, function: &str) -> bool {
    let rest = frame.strip_prefix("go_ports::").and_then(|name| name.strip_prefix(function));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('<') || rest.starts_with("::<"))
}

/// Returns whether a location has these two functions, one behind the other, the second last: it is
/// the one that the address is in.
fn is_one_location(profile: &Profile, inner: &str, outer: &str) -> bool {
    let tables = &profile.tables;
    let name = |id: u64| {
        let function = tables.functions.iter().find(|function| function.id == id);
        function.map_or("", |function| tables.string(function.name))
    };
    tables.locations.iter().any(|location| {
        let names: Vec<_> = location.lines.iter().map(|line| name(line.function)).collect();
        names.ends_with(&[inner, outer])
    })
}
