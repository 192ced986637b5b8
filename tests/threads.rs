//! The goroutine profile counts threads where they wait, whoever else looks and comes and goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex as Turn, MutexGuard as TurnGuard, Once, PoisonError};
use std::thread::{self, Scope};

use profiler_core::{Config, Kind, Rates, snapshot, wait, with_labels, write_threads};
use profiler_tests::check;
use profiler_tests::keep;
use profiler_tests::parked::start_parked;
use profiler_tests::pprof::Profile;
use profiler_tests::text::Text;

/// One test at a time: they count the process's threads.
fn turn() -> TurnGuard<'static, ()> {
    static TURN: Turn<()> = Turn::new(());
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline(never)]
fn park_in_first(until: &Barrier) {
    wait("turn", || until.wait());
    keep!();
}

#[inline(never)]
fn park_in_second(until: &Barrier) {
    wait("turn", || until.wait());
    keep!();
}

#[inline(never)]
fn park_in_third(until: &Barrier) {
    wait("turn", || until.wait());
    keep!();
}

#[inline(never)]
fn park_in_fourth(until: &Barrier) {
    wait("turn", || until.wait());
    keep!();
}

/// Parks threads, most of them in the first function, under a label or none.
fn park<'scope>(
    scope: &'scope Scope<'scope, '_>,
    until: &'scope Barrier,
    count: usize,
    label: Option<&'static str>,
) {
    for number in 0..count {
        let function = match number {
            number if number % 10 == 0 => park_in_third,
            number if number % 2 == 0 => park_in_second,
            _ => park_in_first,
        };
        start_parked(scope, move || match label {
            Some(label) => with_labels([("label", label)], || function(until)),
            None => function(until),
        });
    }
}

fn read() -> Profile {
    let mut body = Vec::new();
    let profile = snapshot(Kind::Goroutine).expect("available");
    profile.write_to(&mut body).expect("memory takes all");
    check::valid(&body)
}

fn read_text() -> Text {
    let mut text = Vec::new();
    let profile = snapshot(Kind::Goroutine).expect("available");
    profile.write_text(&mut text).expect("memory takes all");
    Text::parse(std::str::from_utf8(&text).expect("text"))
}

/// Counts by function that waits and by label, of those that are parked by [`park`] and the like.
type Counts = BTreeMap<(String, Option<String>), i64>;

fn counts<'a>(
    rows: impl Iterator<Item = (&'a Vec<String>, &'a BTreeMap<String, String>, i64)>,
) -> Counts {
    let mut counts = Counts::new();
    for (names, labels, count) in rows {
        if labels.get("kind").is_some_and(|kind| kind == "turn") {
            let leaf = names[0].trim_start_matches("threads::").to_owned();
            let before = counts.insert((leaf, labels.get("label").cloned()), count);
            assert_eq!(before, None, "two rows of {names:#?}");
        }
    }
    counts
}

fn counts_of_profile(profile: &Profile) -> Counts {
    counts(profile.samples.iter().map(|sample| (&sample.names, &sample.labels, sample.values[0])))
}

fn counts_of_text(text: &Text) -> Counts {
    counts(text.records.iter().map(|record| (&record.names, &record.labels, record.values[0])))
}

#[test]
fn threads_are_counted_by_function_and_label() {
    let _turn = turn();
    let until = Barrier::new(50 + 40 + 10 + 44 + 36 + 9 + 1 + 1);
    thread::scope(|scope| {
        park(scope, &until, 100, None);
        start_parked(scope, || park_in_fourth(&until));
        park(scope, &until, 89, Some("value"));

        let (profile, text) = (read(), read_text());
        until.wait();

        let row = |function: &str, label: Option<&str>, count| {
            ((function.to_owned(), label.map(str::to_owned)), count)
        };
        let expected = Counts::from([
            row("park_in_first", None, 50),
            row("park_in_second", None, 40),
            row("park_in_third", None, 10),
            row("park_in_fourth", None, 1),
            row("park_in_first", Some("value"), 44),
            row("park_in_second", Some("value"), 36),
            row("park_in_third", Some("value"), 9),
        ]);
        assert_eq!(counts_of_profile(&profile), expected);
        assert_eq!(counts_of_text(&text), expected);

        let sizes: Vec<_> = text.records.iter().map(|record| record.values[0]).collect();
        assert_eq!(sizes[..6], [50, 44, 40, 36, 10, 9]);
        assert!(sizes.is_sorted_by(|one, other| one >= other), "{sizes:?}");
        assert_eq!(
            text.header,
            [format!("goroutine profile: total {}", sizes.iter().sum::<i64>())]
        );
        let of_profile: Vec<_> = profile.samples.iter().map(|sample| sample.values[0]).collect();
        assert!(of_profile.is_sorted_by(|one, other| one >= other), "{of_profile:?}");
    });
}

/// How many looks each reader takes.
const LOOKS: usize = 15;

/// Asserts that the thread that stays is counted once.
#[track_caller]
fn stays(counts: &Counts) {
    let row = ("park_in_fourth".to_owned(), Some("stays".to_owned()));
    assert_eq!(counts.get(&row), Some(&1), "{counts:?}");
}

fn look() {
    stays(&counts_of_profile(&read()));
}

fn look_at_text() {
    stays(&counts_of_text(&read_text()));
}

fn look_at_each() {
    let mut text = Vec::new();
    write_threads(&mut text).expect("memory takes all");
    let text = String::from_utf8(text).expect("text");
    let threads: Vec<_> = text.split("\n\n").collect();
    assert!(threads.iter().all(|thread| thread.starts_with("goroutine ")), "{text}");
    let stays: Vec<_> = threads.iter().filter(|thread| thread.contains("label: stays")).collect();
    let [stays] = stays[..] else { panic!("{text}") };
    assert!(stays.contains(" [turn] {"), "{stays}");
    assert!(stays.contains("\nthreads::park_in_fourth(...)\n"), "{stays}");
}

/// Starts and ends threads that wait a little.
fn come_and_go(until: &AtomicBool) {
    let wait = || with_labels([("label", "goes")], || wait("nothing", || ()));
    while !until.load(Ordering::Relaxed) {
        thread::scope(|scope| {
            scope.spawn(wait);
            scope.spawn(wait);
        });
    }
}

#[test]
fn many_may_look_while_threads_come_and_go() {
    let _turn = turn();
    let (until, is_done) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        start_parked(scope, || with_labels([("label", "stays")], || park_in_fourth(&until)));
        scope.spawn(|| come_and_go(&is_done));
        scope.spawn(|| come_and_go(&is_done));
        let looks: [fn(); 4] = [look, look, look_at_text, look_at_each];
        let readers = looks
            .map(|look| scope.spawn(move || std::iter::repeat_n(look, LOOKS).for_each(|l| l())));
        let results = readers.map(thread::ScopedJoinHandle::join);
        // First of all let everyone go: the scope waits for them.
        is_done.store(true, Ordering::Relaxed);
        until.wait();
        for result in results {
            result.expect("every look is right");
        }
    });
}
