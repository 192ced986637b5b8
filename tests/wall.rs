//! Wall-clock time: each thread is somewhere all the time, and who waits is not disturbed for it.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as Turn, MutexGuard as TurnGuard, Once, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use profiler_core::sync::Mutex;
use profiler_core::{
    Capture, Config, Kind, LabelView, Profile, Sample, View, default_view, profiled, with_labels,
};
use profiler_tests::check;
use profiler_tests::epoll::interruptions;
use profiler_tests::keep;
use profiler_tests::parked::{Finally, ThreadId, start_parked};
use profiler_tests::tool::Tool;

/// One test at a time: each looks at all threads.
fn turn() -> TurnGuard<'static, ()> {
    static TURN: Turn<()> = Turn::new(());
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn view() -> View {
    default_view().labels(LabelView::ALL)
}

fn has(sample: &Sample<'_>, function: &str) -> bool {
    sample.frames().any(|frame| frame.function.is_some_and(|name| name.ends_with(function)))
}

/// What is asked of a sample: the end of a function in its stack, and labels.
fn seconds(profile: &Profile, function: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = profile.samples().filter(|sample| {
        has(sample, function) && labels.iter().all(|&(key, value)| sample.label(key) == Some(value))
    });
    samples.map(|sample| sample.values()[1] as f64 / 1e9).sum()
}

/// Asserts that a function was on a thread's stack all the time, but for so many ticks of 10 ms: so long as
/// the thread took to get there, or the machine to let it run.
#[track_caller]
fn all_the_time(profile: &Profile, function: &str, labels: &[(&str, &str)]) {
    let (seconds, duration) =
        (seconds(profile, function, labels), profile.duration().as_secs_f64());
    assert!(seconds > 0.8 * duration, "{function} {labels:?}: {seconds} of {duration} s");
    assert!(seconds < 1.01 * duration, "{function} {labels:?}: {seconds} of {duration} s");
}

#[inline(never)]
fn parks() {
    thread::park();
    keep!();
}

#[profiled]
#[inline(never)]
fn waits_for_the_lock(lock: &Mutex<()>) {
    drop(lock.lock());
    keep!();
}

#[inline(never)]
fn runs(until: &AtomicBool) {
    while !until.load(Ordering::Relaxed) {
        black_box(0);
    }
}

#[test]
fn threads_are_somewhere_all_the_time() {
    let _turn = turn();
    let lock = Mutex::named("wall", ());
    let until = &AtomicBool::new(false);
    thread::scope(|scope| {
        let held = lock.lock();
        let parked = start_parked(scope, || with_labels([("part", "parked")], parks));
        start_parked(scope, || waits_for_the_lock(&lock));
        let (tell, told) = mpsc::channel();
        let builder = thread::Builder::new().name("runner".to_owned());
        let runner = builder.spawn_scoped(scope, move || {
            tell.send(()).expect("somebody listens");
            runs(until);
        });
        told.recv().expect("it has started");
        let end = Finally(|| {
            until.store(true, Ordering::Relaxed);
            parked.thread().unpark();
        });

        let capture = Capture::start(Kind::Wall).expect("Linux has it");
        let idle_too = Capture::start_with(Kind::Wall, 50).expect("two do not collide");
        thread::sleep(Duration::from_secs(1));
        let profile = capture.finish_with(view());
        let idle_too = idle_too.finish_with(view().idle(true));
        drop(held);
        drop(end);
        runner.expect("the system has threads").join().expect("no panic");

        for profile in [&profile, &idle_too] {
            let mut body = Vec::new();
            profile.write_to(&mut body).expect("memory takes all");
            let _ = check::valid(&body);
            all_the_time(profile, "wall::parks", &[("state", "waiting"), ("part", "parked")]);
            all_the_time(
                profile,
                "wall::waits_for_the_lock",
                &[
                    ("state", "waiting"),
                    ("lock", "wall"),
                    ("kind", "mutex"),
                    ("span", "wall::waits_for_the_lock"),
                ],
            );
            all_the_time(profile, "wall::runs", &[("state", "running"), ("thread", "runner")]);
        }
        for profile in [&profile, &idle_too] {
            assert!(profile.comments()[0].starts_with("looked at all threads "), "{profile:?}");
            let mut names = profile.samples().filter_map(|sample| sample.label("thread"));
            // Those of the profiler's threads.
            let is_own = |name: &str| name.starts_with("profiler");
            assert!(names.all(|name| !is_own(name)), "it looks at itself: {profile:?}");
        }
    });
}

#[test]
fn a_capture_has_its_own_interval() {
    let _turn = turn();
    thread::scope(|scope| {
        let early = Capture::start_with(Kind::Wall, 1000).expect("Linux has it");
        thread::sleep(Duration::from_millis(300));
        let parked = start_parked(scope, parks);
        let _end = Finally(|| parked.thread().unpark());
        let late = Capture::start(Kind::Wall).expect("two do not collide");
        drop(Capture::start(Kind::Wall).expect("cancelled at once"));
        let early = early.finish();
        thread::sleep(Duration::from_millis(300));
        let late = late.finish();

        // A thread that comes later is there from the next tick on.
        assert!(seconds(&early, "wall::parks", &[]) < 0.5 * early.duration().as_secs_f64());
        all_the_time(&late, "wall::parks", &[]);
        assert!(late.duration() >= Duration::from_millis(300));
    });
}

#[test]
fn the_go_tool_fetches_it_where_scrapers_look_for_it() {
    let _turn = turn();
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    thread::scope(|scope| {
        let parked = start_parked(scope, parks);
        let _end = Finally(|| parked.thread().unpark());
        let source =
            format!("http://{}/debug/fgprof?seconds=1", endpoint.local_addr().expect("it listens"));
        let top = Tool::new().top(&[&source]);
        assert!(top.header.join("\n").contains("Type: wall"), "{top:?}");
        let row = top.row("wall::parks").unwrap_or_else(|| panic!("{top:?}"));
        assert!(row.cum > 800_000_000, "{row:?}");
    });
    endpoint.shutdown();
}

#[test]
fn who_waits_is_interrupted_about_once() {
    let _turn = turn();
    let until = &AtomicBool::new(false);
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let waiter = scope.spawn(move || {
            tell.send(ThreadId::current()).expect("somebody listens");
            interruptions(until, 500)
        });
        let end = Finally(|| until.store(true, Ordering::Relaxed));
        told.recv().expect("it has started").wait_until_asleep();
        let capture = Capture::start_with(Kind::Wall, 1000).expect("Linux has it");
        thread::sleep(Duration::from_secs(2));
        let profile = capture.finish();
        drop(end);
        let interrupted = waiter.join().expect("no panic");
        // At its first tick, and a few times more for what it runs between its waits: at some 5 µs each, of
        // which 20 µs make one question.
        let ticks: i64 = profile
            .samples()
            .filter(|sample| has(sample, "epoll::interruptions"))
            .map(|sample| sample.values()[0])
            .sum();
        assert!(interrupted >= 1 && 4 * interrupted < ticks as usize, "{interrupted} of {ticks}");
        all_the_time(&profile, "epoll::interruptions", &[]);
    });
}
