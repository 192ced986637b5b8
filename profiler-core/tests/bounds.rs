//! Totals stay exact when distinct stacks and paths exceed their bounds, and what is new is seen.

#![cfg(profiler_native)]

use profiler_core::{
    Config, CustomProfile, Kind, Profile, Rates, Sample, snapshot, span, wait, with_labels,
};

static THINGS: CustomProfile = CustomProfile::new("things");

fn block() -> Profile {
    snapshot(Kind::Block).expect("available")
}

/// Returns the count of samples in which a frame or a label has that text.
fn count(profile: &Profile, text: &str) -> i64 {
    let samples = profile.samples().filter(|sample| {
        let mut frames = sample.frames().filter_map(|frame| frame.function);
        frames.any(|name| name.contains(text))
            || sample.labels().any(|label| format!("{label:?}").contains(text))
    });
    samples.map(|sample| sample.values()[0]).sum()
}

fn is_overflow(sample: &Sample<'_>) -> bool {
    sample.frames().any(|frame| frame.function == Some("[overflow]"))
}

/// Waits at the end of a path of calls that so many bits of the number decide.
#[allow(clippy::if_same_then_else, reason = "two call sites make two stacks")]
fn path(number: u32, bits: u32) {
    if bits == 0 {
        return wait("thing", || ());
    }
    // Two call sites.
    if number & 1 == 0 {
        path(number >> 1, bits - 1)
    } else {
        path(number >> 1, bits - 1)
    }
    std::hint::black_box(());
}

/// Enters a path of so many spans and one more, each of which a bit of the number decides.
fn spans(number: u32, depth: u32) {
    let _span = if number & 1 == 0 { span!("left") } else { span!("right") };
    if depth > 0 {
        spans(number >> 1, depth - 1);
    }
}

#[inline(never)]
fn labelled_first(value: &str) {
    with_labels([("value", value)], || wait("labelled", || ()));
}

#[inline(never)]
fn labelled_later(value: &str) {
    with_labels([("value", value)], || wait("labelled", || ()));
}

#[inline(never)]
fn new_wait() {
    wait("new", || ());
}

fn things() -> i64 {
    snapshot(Kind::Custom("things")).expect("available").totals()[0]
}

#[test]
fn what_is_new_is_seen_and_totals_stay() {
    let config = Config::default().rates(Rates::ALL).memory(8 << 20);
    profiler_core::start(config).expect("the first start");
    let entered: Vec<_> = (0..1000).map(|_| THINGS.enter()).collect();

    // Far more than fits, of stacks and of labels.
    let mut before = block();
    let (mut made, mut since) = (0, 0);
    for round in 0..12 {
        for number in 0..1_000 {
            path(round * 1_000 + number, 16);
            made += 1;
        }
        let now = block();
        let difference = now.since(&before);
        since += difference.totals()[0];
        let sum = |sample: Sample<'_>| sample.values()[0];
        assert!(difference.samples().all(|sample| sum(sample) >= 0), "nothing has gone");
        let moved: i64 = difference.samples().filter(is_overflow).map(sum).sum();
        assert_eq!(moved, 0, "what moves to a coarser row is no difference");
        before = now;
    }
    for round in 0..24 {
        let labelled = if round < 12 { labelled_first } else { labelled_later };
        for value in 0..1_000 {
            // Long, so that sets end time and again.
            labelled(&format!("{round:>200} {value}"));
            made += 1;
        }
        let now = block();
        since += now.since(&before).totals()[0];
        before = now;
        let stats = profiler_core::stats();
        assert!(stats.bytes <= stats.budget + (1 << 20), "{stats:?}");
    }
    assert_eq!((block().totals()[0], since), (made, made));
    let profile = block();
    assert!(profile.samples().any(|sample| is_overflow(&sample)), "it was not too much");
    assert!(count(&profile, "[other]") > 0, "it was not too much");
    for site in ["labelled_first", "labelled_later"] {
        assert_eq!(count(&profile, site), 12_000, "labels take no stacks: {site}");
    }

    // Paths of threads that are gone are added up, and end.
    for round in 0..250 {
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|n| scope.spawn(move || spans(8 * round + n, 11))).collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        });
    }
    let stats = profiler_core::stats();
    assert!(stats.bytes <= stats.budget + (1 << 20), "{stats:?}");
    let spans = snapshot(Kind::Spans).expect("available");
    assert_eq!(spans.totals()[0], 250 * 8 * 12);

    // What is new has its name, whatever came before, on this thread and on another.
    new_wait();
    std::thread::spawn(new_wait).join().expect("no panic");
    assert_eq!(count(&block(), "new_wait"), 2);
    assert_eq!(block().totals()[0], made + 2);

    // Entries leave the row that they came from, on any thread.
    assert_eq!(things(), 1000);
    std::thread::spawn(move || drop(entered)).join().expect("no panic");
    assert_eq!(things(), 0);
    assert!(snapshot(Kind::Custom("things")).expect("available").is_empty());
}
