//! Everything that a thread can wait for is named in both profiles, in both forms.

use std::sync::{Barrier, LazyLock};
use std::thread;

use profiler_core::parking_lot::{Condvar, Mutex, RwLock};
use profiler_core::{Kind, sync, wait};
use profiler_tests::keep;
use profiler_tests::parked::start_parked;

use super::{read, read_text};

/// A function that waits, and one that makes it wait while its argument runs.
struct Blocker {
    waiter: &'static str,
    block: fn(),
    /// Nothing where nobody holds what is waited for.
    holder: Option<&'static str>,
    hold: fn(&dyn Fn()),
    kind: &'static str,
    lock: Option<&'static str>,
}

static MUTEX: Mutex<()> = Mutex::named("blocking mutex", ());
static READ: RwLock<()> = RwLock::named("blocking reader", ());
static WRITE: RwLock<()> = RwLock::named("blocking writer", ());
static CONDITION: (Mutex<bool>, Condvar) = (Mutex::named("condition", false), Condvar::new());
static STD_MUTEX: sync::Mutex<()> = sync::Mutex::named("std mutex", ());
static STD_READ: sync::RwLock<()> = sync::RwLock::named("std reader", ());
static STD_WRITE: sync::RwLock<()> = sync::RwLock::named("std writer", ());
static STD_CONDITION: (sync::Mutex<bool>, sync::Condvar) =
    (sync::Mutex::named("std condition", false), sync::Condvar::new());
static REPLY: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(2));

/// Makes a waiter and a holder of a lock: how each takes it.
macro_rules! lock {
    ($waiter:ident: $wait:expr, $holder:ident: $hold:expr) => {
        #[inline(never)]
        fn $waiter() {
            drop($wait);
            keep!();
        }

        #[inline(never)]
        fn $holder(body: &dyn Fn()) {
            let guard = $hold;
            body();
            drop(guard);
            keep!();
        }
    };
}

lock!(wait_for_mutex: MUTEX.lock(), hold_mutex: MUTEX.lock());
lock!(wait_to_read: READ.read(), hold_from_readers: READ.write());
lock!(wait_to_write: WRITE.write(), hold_from_writers: WRITE.read());
lock!(wait_for_std_mutex: STD_MUTEX.lock().unwrap(), hold_std_mutex: STD_MUTEX.lock().unwrap());
lock!(wait_to_read_std: STD_READ.read().unwrap(), hold_from_std_readers: STD_READ.write().unwrap());
lock!(wait_to_write_std: STD_WRITE.write().unwrap(), hold_from_std_writers: STD_WRITE.read().unwrap());

#[inline(never)]
fn wait_for_condition() {
    CONDITION.1.wait_while(&mut CONDITION.0.lock(), |is_met| !*is_met);
    keep!();
}

fn meet_condition(body: &dyn Fn()) {
    body();
    *CONDITION.0.lock() = true;
    CONDITION.1.notify_one();
}

#[inline(never)]
fn wait_for_std_condition() {
    let (mutex, condvar) = &STD_CONDITION;
    drop(condvar.wait_while(mutex.lock().unwrap(), |is_met| !*is_met).unwrap());
    keep!();
}

fn meet_std_condition(body: &dyn Fn()) {
    body();
    *STD_CONDITION.0.lock().unwrap() = true;
    STD_CONDITION.1.notify_one();
}

#[inline(never)]
fn wait_for_reply() {
    wait("reply", || REPLY.wait());
    keep!();
}

fn reply(body: &dyn Fn()) {
    body();
    REPLY.wait();
}

macro_rules! blocker {
    ($kind:literal, $block:ident, $hold:ident, $lock:literal) => {
        Blocker {
            holder: Some(stringify!($hold)),
            lock: Some($lock),
            ..blocker!($kind, $block, $hold)
        }
    };
    ($kind:literal, $block:ident, $hold:ident) => {
        Blocker {
            waiter: stringify!($block),
            block: $block,
            holder: None,
            hold: $hold,
            kind: $kind,
            lock: None,
        }
    };
}

const BLOCKERS: &[Blocker] = &[
    blocker!("mutex", wait_for_mutex, hold_mutex, "blocking mutex"),
    blocker!("rwlock", wait_to_read, hold_from_readers, "blocking reader"),
    blocker!("rwlock", wait_to_write, hold_from_writers, "blocking writer"),
    Blocker { lock: Some("condition"), ..blocker!("condvar", wait_for_condition, meet_condition) },
    blocker!("mutex", wait_for_std_mutex, hold_std_mutex, "std mutex"),
    blocker!("rwlock", wait_to_read_std, hold_from_std_readers, "std reader"),
    blocker!("rwlock", wait_to_write_std, hold_from_std_writers, "std writer"),
    Blocker {
        lock: Some("std condition"),
        ..blocker!("condvar", wait_for_std_condition, meet_std_condition)
    },
    blocker!("reply", wait_for_reply, reply),
];

/// Waits on a thread of its own; the function stands above the waiting one in every stack.
#[inline(never)]
fn block(blocker: &Blocker) {
    (blocker.block)();
    keep!();
}

/// Asserts that a profile has the function as the leaf of one stack, below its caller, with these
/// labels, and that both forms say the same.
#[track_caller]
fn check(kind: Kind, blocker: &Blocker, function: &str, caller: &str) {
    let leaf = format!("go_ports::blockers::{function}");
    let (profile, text) = (read(kind), read_text(kind));

    let is_it = |names: &[String]| names.first() == Some(&leaf);
    let of_kind = |kind: Option<&String>| kind.is_some_and(|kind| kind == blocker.kind);
    let samples = profile.samples.iter().filter(|sample| is_it(&sample.names));
    let samples: Vec<_> = samples.filter(|sample| of_kind(sample.labels.get("kind"))).collect();
    let [sample] = samples[..] else { panic!("{leaf} in {kind}: {samples:#?}") };
    assert!(sample.names[1].ends_with(caller), "{:#?}", sample.names);
    assert_eq!(sample.labels.get("lock").map(String::as_str), blocker.lock);
    assert_eq!(sample.values[0], 1, "{leaf}");
    assert!(sample.values[1] > 0, "{leaf}");

    let records = text.with_leaf(&leaf).filter(|record| of_kind(record.labels.get("kind")));
    let records: Vec<_> = records.collect();
    let [record] = records[..] else { panic!("{leaf} in {kind} as text: {records:#?}") };
    assert_eq!(record.values, [sample.values[1], sample.values[0]]);
    assert_eq!(record.names, sample.names);
    assert_eq!(record.labels, sample.labels);
}

#[test]
fn every_blocker_is_named_in_both_profiles_and_both_forms() {
    super::start();
    for blocker in BLOCKERS {
        thread::scope(|scope| {
            (blocker.hold)(&|| {
                start_parked(scope, || block(blocker));
            });
        });
    }
    for blocker in BLOCKERS {
        check(Kind::Block, blocker, blocker.waiter, "::block");
        if let Some(holder) = blocker.holder {
            let caller = "::every_blocker_is_named_in_both_profiles_and_both_forms::{{closure}}";
            check(Kind::Mutex, blocker, holder, caller);
        }
    }
    assert_eq!(read_text(Kind::Block).header, ["--- contention:", "cycles/second=1000000000"]);
    assert_eq!(
        read_text(Kind::Mutex).header,
        ["--- mutex:", "cycles/second=1000000000", "sampling period=1"]
    );
}
