//! Two functions share CPU time 50 to 50, 80 to 20 and 99 to 1: the profile says so, across threads,
//! across async tasks, and inside one function that both are inlined into.
//!
//! Each sample weighs what has passed since the one before, to the kernel's tick. So turns are many
//! ticks long: what a change misplaces is a tick at the most, and small against the whole.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::{Child, Command};
use std::task::{Context, Poll, Waker};

use profiler_core::{Config, Profile, StackView, Symbols, View, profiled};
use profiler_tests::clock::thread_cpu;
use profiler_tests::cpu::{MILLISECOND, cumulative, fastest, use_up};
use profiler_tests::keep;

/// CPU time of a scene, in nanoseconds.
const WHOLE: u64 = 2500 * MILLISECOND;
/// Percent of it that the larger part has.
const SHARES: [u64; 3] = [50, 80, 99];
/// How often tasks and inlined functions take turns.
const TURNS: u64 = 2;

/// Asserts that of two functions the first has so many percent, within two.
#[track_caller]
fn check(profile: &Profile, larger: &str, smaller: &str, percent: u64) {
    let [larger, smaller] = [larger, smaller].map(|name| cumulative(profile, name) as f64);
    let share = 100.0 * larger / (larger + smaller);
    println!("{share:.2} of {percent}");
    assert!((share - percent as f64).abs() <= 2.0, "{share} in place of {percent}");
    let whole = (larger + smaller) / WHOLE as f64;
    assert!((0.97..1.03).contains(&whole), "{larger} and {smaller} of {WHOLE}");
}

#[inline(never)]
fn thread_of_the_larger(nanoseconds: u64) {
    use_up(nanoseconds);
    keep!();
}

#[inline(never)]
fn thread_of_the_smaller(nanoseconds: u64) {
    use_up(nanoseconds);
    keep!();
}

fn across_threads(percent: u64) {
    let capture = fastest();
    let larger = WHOLE / 100 * percent;
    let threads = [
        profiler_core::thread::spawn(move || thread_of_the_larger(larger)),
        profiler_core::thread::spawn(move || thread_of_the_smaller(WHOLE - larger)),
    ];
    for thread in threads {
        thread.join().expect("no panic");
    }
    check(&capture.finish(), "thread_of_the_larger", "thread_of_the_smaller", percent);
}

/// Lets others run once.
async fn yield_now() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

#[profiled(name = "the larger task")]
async fn larger_task(nanoseconds: u64) {
    for _ in 0..TURNS {
        use_up(nanoseconds / TURNS);
        yield_now().await;
    }
}

#[profiled(name = "the smaller task")]
async fn smaller_task(nanoseconds: u64) {
    for _ in 0..TURNS {
        use_up(nanoseconds / TURNS);
        yield_now().await;
    }
}

/// Polls both in turns until they are done.
fn run_both(first: impl Future<Output = ()>, second: impl Future<Output = ()>) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let mut context = Context::from_waker(Waker::noop());
    let mut done = [false; 2];
    while done != [true; 2] {
        done[0] = done[0] || first.as_mut().poll(&mut context).is_ready();
        done[1] = done[1] || second.as_mut().poll(&mut context).is_ready();
    }
}

fn across_tasks(percent: u64) {
    let (by_machine, by_span) = (fastest(), fastest());
    let larger = WHOLE / 100 * percent;
    let executor = move || run_both(larger_task(larger), smaller_task(WHOLE - larger));
    profiler_core::thread::spawn(executor).join().expect("no panic");
    let (by_machine, logical) = (by_machine.finish(), View::default().symbols(Symbols::None));
    let by_span = by_span.finish_with(logical.stack(StackView::Logical));
    let closure = |name: &str| format!("{name}::{{{{closure}}}}");
    check(&by_machine, &closure("larger_task"), &closure("smaller_task"), percent);
    check(&by_span, "the larger task", "the smaller task", percent);
}

#[inline(always)]
fn inlined_larger(nanoseconds: u64) -> u64 {
    let end = thread_cpu() + nanoseconds;
    let mut number = 1_u64;
    while thread_cpu() < end {
        number = number.wrapping_mul(31);
    }
    number
}

#[inline(always)]
fn inlined_smaller(nanoseconds: u64) -> u64 {
    let end = thread_cpu() + nanoseconds;
    let mut number = 1_u64;
    while thread_cpu() < end {
        number = number.wrapping_mul(31);
    }
    number
}

#[inline(never)]
fn holder_of_both(larger: u64) -> u64 {
    let mut sum = 0_u64;
    for _ in 0..TURNS {
        sum = sum.wrapping_add(inlined_larger(larger / TURNS));
        sum = sum.wrapping_add(inlined_smaller((WHOLE - larger) / TURNS));
    }
    sum
}

fn inside_one_function(percent: u64) {
    let capture = fastest();
    let larger = WHOLE / 100 * percent;
    profiler_core::thread::spawn(move || holder_of_both(larger)).join().expect("no panic");
    let profile = capture.finish();
    check(&profile, "inlined_larger", "inlined_smaller", percent);
    let both = cumulative(&profile, "inlined_larger") + cumulative(&profile, "inlined_smaller");
    let holder = cumulative(&profile, "holder_of_both");
    // What is inlined has its holder above it, which uses nothing itself.
    assert!((0.98..=1.0).contains(&(both as f64 / holder as f64)), "{both} of {holder}");
}

/// Other processes that want all processors, until dropped.
struct Crowd(Vec<Child>);

impl Crowd {
    fn new() -> Self {
        let burn = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Self((0..4).map(|_| burn().expect("a shell")).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for other in &mut self.0 {
            other.kill().and_then(|()| other.wait()).expect("it runs");
        }
    }
}

/// One after another, since a capture is of the whole process and a core is one's own then.
#[test]
fn shares_are_within_two_points() {
    profiler_core::start(Config::default()).expect("the first start");
    for percent in SHARES {
        across_threads(percent);
        across_tasks(percent);
        inside_one_function(percent);
    }
    // The kernel's ticks may come between two turns of a thread for long then.
    let _crowd = Crowd::new();
    across_tasks(50);
    inside_one_function(80);
}
