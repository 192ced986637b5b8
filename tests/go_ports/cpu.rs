//! CPU samples: functions that were inlined, recursion, and labels.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use profiler_core::{Kind, thread, with_labels};
use profiler_tests::check;
use profiler_tests::cpu::{MILLISECOND, fastest, for_cpu_time, use_up};
use profiler_tests::keep;
use profiler_tests::pprof::{Profile, Stack};

use super::{is, is_one_location};

/// One capture at a time: their threads would share the cores.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    super::start();
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Captures while `body` runs on a thread of its own, and reads the profile as a client does.
fn capture(body: impl FnOnce() + Send + 'static) -> Profile {
    let capture = fastest();
    thread::spawn(body).join().expect("no panic");
    let profile = capture.finish();
    assert_eq!(profile.kind(), Kind::Profile);
    let mut bytes = Vec::new();
    profile.write_to(&mut bytes).expect("memory takes all");
    check::valid(&bytes)
}

/// Returns the samples that have the function of this file in their stack.
fn with<'a>(profile: &'a Profile, function: &str) -> Vec<&'a Stack> {
    let function = format!("cpu::{function}");
    let has = |sample: &&Stack| sample.names.iter().any(|name| is(name, &function));
    let samples: Vec<_> = profile.samples.iter().filter(has).collect();
    assert!(!samples.is_empty(), "{function}");
    samples
}

#[inline(always)]
fn inlinee(mut number: u64) -> u64 {
    for _ in 0..100_000 {
        number = number.wrapping_mul(31) ^ 7;
    }
    number
}

#[inline(never)]
fn inlined_caller() {
    let mut number = 1;
    for_cpu_time(300 * MILLISECOND, || number = inlinee_caller(number));
    std::hint::black_box(number);
}

#[inline(never)]
fn inlinee_caller(number: u64) -> u64 {
    let number = inlinee(number);
    keep!();
    number
}

/// Go's `TestCPUProfileInlining`.
#[test]
fn an_inlined_function_and_its_caller_share_a_location() {
    let _turn = turn();
    let profile = capture(inlined_caller);
    let samples = with(&profile, "inlinee");
    for sample in &samples {
        let inner = sample.names.iter().position(|name| is(name, "cpu::inlinee"));
        let inner = inner.expect("it is there");
        assert!(is(&sample.names[inner + 1], "cpu::inlinee_caller"), "{:#?}", sample.names);
    }
    let names = &samples[0].names;
    let inner = names.iter().position(|name| is(name, "cpu::inlinee")).expect("it is there");
    assert!(is_one_location(&profile, &names[inner], &names[inner + 1]), "{names:#?}");
}

#[inline(never)]
fn recursion(depth: usize) {
    if depth == 0 {
        use_up(2 * MILLISECOND);
    } else {
        recursion(depth - 1);
    }
    keep!();
}

#[inline(never)]
fn root_of_recursion() {
    for_cpu_time(200 * MILLISECOND, || recursion(std::hint::black_box(3)));
    keep!();
}

/// Go's `TestCPUProfileRecursion`.
#[test]
fn calls_of_itself_are_frames_of_their_own() {
    let _turn = turn();
    let profile = capture(root_of_recursion);
    let own: Vec<_> =
        with(&profile, "recursion").into_iter().filter(|sample| is_use_up(sample)).collect();
    assert!(!own.is_empty());
    for sample in own {
        let frames = sample.names.iter().filter(|name| is(name, "cpu::recursion")).count();
        assert_eq!(frames, 4, "{:#?}", sample.names);
    }
}

fn is_use_up(sample: &Stack) -> bool {
    sample.names.iter().any(|name| name.ends_with("::use_up"))
}

macro_rules! labelled {
    ($($labelled:ident, $plain:ident;)*) => {
        $(#[inline(never)]
        fn $labelled() {
            use_up(MILLISECOND / 5);
            keep!();
        }

        #[inline(never)]
        fn $plain() {
            use_up(MILLISECOND / 5);
            keep!();
        })*
        const WORKERS: [(&str, fn(), &str, fn()); 4] =
            [$((stringify!($labelled), $labelled as fn(), stringify!($plain), $plain as fn())),*];
    };
}

labelled! {
    labelled_a, plain_a;
    labelled_b, plain_b;
    labelled_c, plain_c;
    labelled_d, plain_d;
}

/// Asserts that the samples of each function have its label and no other, and those outside none.
fn check_labels(profile: &Profile) {
    for (labelled, _, plain, _) in WORKERS {
        for sample in with(profile, labelled) {
            let worker = sample.labels.get("worker").map(String::as_str);
            assert_eq!(worker, Some(labelled), "{sample:#?}");
        }
        for sample in with(profile, plain) {
            assert_eq!(sample.labels.get("worker"), None, "{sample:#?}");
        }
    }
}

/// Go's `TestCPUProfileLabel` and `TestLabelRace`.
#[test]
fn samples_have_the_labels_in_force_and_no_others() {
    let _turn = turn();
    let profile = capture(|| {
        let threads = WORKERS.map(|(name, labelled, _, plain)| {
            thread::spawn(move || {
                for_cpu_time(300 * MILLISECOND, || {
                    with_labels([("worker", name)], labelled);
                    plain();
                });
            })
        });
        for thread in threads {
            thread.join().expect("no panic");
        }
    });
    check_labels(&profile);
}

/// Works in turns with others, labelled, and between the turns without a label.
async fn task(name: &'static str, labelled: fn(), plain: fn()) {
    for _ in 0..300 {
        with_labels([("worker", name)], labelled);
        plain();
        let mut waited = false;
        let yielded = |_: &mut Context<'_>| match std::mem::replace(&mut waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        };
        poll_fn(yielded).await;
    }
}

/// The same with tasks on one thread.
#[test]
fn samples_of_tasks_have_the_labels_in_force_and_no_others() {
    let _turn = turn();
    let profile = capture(|| {
        let [a, b, c, d] = WORKERS.map(|(name, labelled, _, plain)| task(name, labelled, plain));
        let (mut a, mut b, mut c, mut d) = (pin!(a), pin!(b), pin!(c), pin!(d));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let ready = [
                a.as_mut().poll(&mut context),
                b.as_mut().poll(&mut context),
                c.as_mut().poll(&mut context),
                d.as_mut().poll(&mut context),
            ];
            if ready.iter().all(Poll::is_ready) {
                return;
            }
        }
    });
    check_labels(&profile);
}
