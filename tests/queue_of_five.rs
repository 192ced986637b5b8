//! What the profiles say of small scenes whose truth the test measures itself.

use std::sync::{Mutex as Turn, MutexGuard as TurnGuard, Once, PoisonError, mpsc};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use profiler_core::parking_lot::{Condvar, Mutex, RwLock};
use profiler_core::{Config, Kind, LabelView, Rates, View, snapshot_with, sync, with_labels};
use profiler_tests::parked::ThreadId;

/// One scene at a time: they share the process's profiles.
fn turn() -> TurnGuard<'static, ()> {
    static TURN: Turn<()> = Turn::new(());
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread under the label `actor`, and returns once it is parked. Its value is the moment
/// at which it was about to wait, and that of `body`.
fn start_parked<'scope, R: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    actor: &'static str,
    body: impl FnOnce() -> R + Send + 'scope,
) -> ScopedJoinHandle<'scope, (Instant, R)> {
    let (say, said) = mpsc::channel();
    let handle = scope.spawn(move || {
        with_labels([("actor", actor)], || {
            say.send(ThreadId::current()).expect("the test listens");
            (Instant::now(), body())
        })
    });
    said.recv().expect("the thread is there").wait_until_parked();
    handle
}

/// Sums over the rows of a lock: by actor, or by marker where there is no actor.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    count: i64,
    seconds: f64,
}

fn row(kind: Kind, lock: &str, of: &str, actor: &str) -> Row {
    let view = View::default().labels(LabelView::NONE);
    let profile = snapshot_with(kind, view).expect("available");
    let mut row = Row::default();
    for sample in profile.samples() {
        let leaf = sample.frames().next().and_then(|frame| frame.function).unwrap_or_default();
        // Neither the profiler's nor the lock's own functions: this test's, which locked.
        assert!(leaf.contains("queue_of_five") || leaf.starts_with('['), "the leaf is {leaf}");
        if sample.label("lock") == Some(lock)
            && sample.label("kind") == Some(of)
            && (sample.label("actor") == Some(actor) || leaf == actor)
        {
            row.count += sample.values()[0];
            row.seconds += sample.values()[1] as f64 / 1e9;
        }
    }
    row
}

/// Asserts that the row is what the test measured, within 1 % and half a millisecond. `doubt` is
/// how much the test does not know, since it was stopped between two of its own readings.
#[track_caller]
fn near(row: Row, seconds: f64, doubt: f64) {
    let allowed = seconds * 0.01 + 0.0005 + doubt;
    assert!((row.seconds - seconds).abs() <= allowed, "{row:?}, measured {seconds} s ± {doubt} s");
}

fn since(from: Instant, to: Instant) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// What a queue needs of a lock.
trait Lock: Sync {
    fn hold(&self, body: impl FnOnce());
}

impl Lock for Mutex<()> {
    fn hold(&self, body: impl FnOnce()) {
        let _guard = self.lock();
        body();
    }
}

impl Lock for sync::Mutex<()> {
    fn hold(&self, body: impl FnOnce()) {
        let _guard = self.lock().expect("no panic");
        body();
    }
}

/// Five holders of 100 to 500 ms, each queued behind the one before.
fn queue_of_five(name: &'static str, lock: &impl Lock) {
    const ACTORS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];
    // When each asked; when it had the lock, was about to release it, and had released it.
    let mut asked = Vec::new();
    let mut held: Vec<[Instant; 3]> = Vec::new();
    thread::scope(|scope| {
        let hold = |milliseconds: u64| {
            let mut times = None;
            lock.hold(|| {
                let from = Instant::now();
                thread::sleep(Duration::from_millis(milliseconds));
                times = Some((from, Instant::now()));
            });
            let (from, to) = times.expect("held");
            [from, to, Instant::now()]
        };
        let mut queue = Vec::new();
        held.push(with_labels([("actor", ACTORS[0])], || {
            let mut times = None;
            lock.hold(|| {
                let from = Instant::now();
                for (actor, milliseconds) in
                    ACTORS.into_iter().zip([100, 200, 300, 400, 500]).skip(1)
                {
                    queue.push(start_parked(scope, actor, move || hold(milliseconds)));
                }
                thread::sleep(Duration::from_millis(100).saturating_sub(from.elapsed()));
                times = Some((from, Instant::now()));
            });
            let (from, to) = times.expect("held");
            [from, to, Instant::now()]
        }));
        for waiter in queue {
            let (at, times) = waiter.join().expect("no panic");
            asked.push(at);
            held.push(times);
        }
    });
    // They came in order, and so were they served: both locks are fair to those who are parked.
    assert!(held.windows(2).all(|pair| pair[0][1] <= pair[1][0]), "served out of order");
    // From one's last reading before its release until the next one's first: what was charged, and
    // to whom, changed somewhere between.
    let between = |holder: usize| match (held.get(holder), held.get(holder + 1)) {
        (Some(&[_, to, _]), Some(&[from, ..])) => since(to, from),
        _ => 0.0,
    };
    for (holder, &[from, to, gone]) in held.iter().enumerate() {
        // Everyone who asked and has not been served yet waited while this one held.
        let caused: f64 = (holder..4).map(|waiter| since(from.max(asked[waiter]), to)).sum();
        let before = if holder == 0 { 0.0 } else { between(holder - 1) };
        let doubt = (4 - holder) as f64 * (before + since(to, gone));
        near(row(Kind::Mutex, name, "mutex", ACTORS[holder]), caused, doubt);
    }
    for (waiter, &at) in asked.iter().enumerate() {
        let waited = row(Kind::Block, name, "mutex", ACTORS[waiter + 1]);
        assert_eq!(waited.count, 1);
        near(waited, since(at, held[waiter + 1][0]), between(waiter));
    }
    // Waking takes time that no holder caused.
    let waking: f64 = (0..4).map(|holder| (4 - holder) as f64 * between(holder)).sum();
    near(row(Kind::Mutex, name, "mutex", "[handoff]"), waking, waking);
}

#[test]
fn a_queue_of_five_on_parking_lot() {
    let _turn = turn();
    queue_of_five("five", &Mutex::named("five", ()));
}

#[test]
fn a_queue_of_five_on_std() {
    let _turn = turn();
    queue_of_five("std five", &sync::Mutex::named("std five", ()));
}

#[test]
fn three_readers_wait_for_a_writer() {
    let _turn = turn();
    let rwlock = RwLock::named("readers", ());
    let (mut waited, mut doubt) = (0.0, 0.0);
    with_labels([("actor", "writer")], || {
        thread::scope(|scope| {
            let writer = rwlock.write();
            let readers: Vec<_> =
                (0..3).map(|_| start_parked(scope, "reader", || drop(rwlock.read()))).collect();
            thread::sleep(Duration::from_millis(100));
            let released = Instant::now();
            drop(writer);
            doubt = 3.0 * released.elapsed().as_secs_f64();
            for reader in readers {
                waited += since(reader.join().expect("no panic").0, released);
            }
        });
    });
    let charged = row(Kind::Mutex, "readers", "rwlock", "writer");
    assert_eq!(charged.count, 1);
    near(charged, waited, doubt);
    let readers = row(Kind::Block, "readers", "rwlock", "reader");
    assert_eq!(readers.count, 3);
    let handoff = row(Kind::Mutex, "readers", "rwlock", "[handoff]");
    near(Row { count: 3, seconds: readers.seconds - handoff.seconds }, waited, doubt);
}

#[test]
fn a_writer_waits_for_a_reader() {
    let _turn = turn();
    let rwlock = sync::RwLock::named("one reader", ());
    let (mut waited, mut doubt) = (0.0, 0.0);
    with_labels([("actor", "reader")], || {
        thread::scope(|scope| {
            let reader = rwlock.read().expect("no panic");
            let writer = start_parked(scope, "writer", || drop(rwlock.write().expect("no panic")));
            thread::sleep(Duration::from_millis(100));
            let released = Instant::now();
            drop(reader);
            doubt = released.elapsed().as_secs_f64();
            waited = since(writer.join().expect("no panic").0, released);
        });
    });
    let charged = row(Kind::Mutex, "one reader", "rwlock", "reader");
    assert_eq!(charged.count, 1);
    near(charged, waited, doubt);
    assert_eq!(row(Kind::Block, "one reader", "rwlock", "writer").count, 1);
}

/// What a scene with a condition needs of both families.
trait Scene: Sync {
    fn wait(&self);
    /// Notifies while holding the lock, and keeps it for as long as `keep` takes.
    fn notify(&self, all: bool, keep: impl FnOnce());
}

struct ParkingLot(Mutex<bool>, Condvar);

impl Scene for ParkingLot {
    fn wait(&self) {
        self.1.wait_while(&mut self.0.lock(), |ready| !*ready);
    }

    fn notify(&self, all: bool, keep: impl FnOnce()) {
        let mut ready = self.0.lock();
        *ready = true;
        if all {
            self.1.notify_all()
        } else {
            usize::from(self.1.notify_one())
        };
        keep();
    }
}

struct Std(sync::Mutex<bool>, sync::Condvar);

impl Scene for Std {
    fn wait(&self) {
        let guard = self.0.lock().expect("no panic");
        drop(self.1.wait_while(guard, |ready| !*ready).expect("no panic"));
    }

    fn notify(&self, all: bool, keep: impl FnOnce()) {
        let mut ready = self.0.lock().expect("no panic");
        *ready = true;
        if all {
            self.1.notify_all()
        } else {
            self.1.notify_one()
        }
        keep();
    }
}

/// Some wait for a condition; the notifier keeps the lock for 50 ms after it has told them.
fn notified_with_the_lock_held(name: &'static str, waiters: i64, scene: &impl Scene) {
    let (mut waited, mut kept, mut doubt) = (0.0, 0.0, 0.0);
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..waiters).map(|_| start_parked(scope, "waiter", || scene.wait())).collect();
        thread::sleep(Duration::from_millis(100));
        let notifying = Instant::now();
        let mut notified = notifying;
        with_labels([("actor", "notifier")], || {
            scene.notify(waiters > 1, || {
                notified = Instant::now();
                thread::sleep(Duration::from_millis(50));
                kept = notified.elapsed().as_secs_f64();
            });
        });
        doubt = (notifying.elapsed().as_secs_f64() - kept) * waiters as f64;
        kept *= waiters as f64;
        for thread in threads {
            waited += since(thread.join().expect("no panic").0, notified);
        }
    });
    let conditions = row(Kind::Block, name, "condvar", "waiter");
    assert_eq!(conditions.count, waiters);
    near(conditions, waited, doubt);
    let relocks = row(Kind::Block, name, "mutex", "waiter");
    assert_eq!(relocks.count, waiters);
    let charged = row(Kind::Mutex, name, "mutex", "notifier");
    assert_eq!(charged.count, 1);
    near(charged, kept, doubt);
    // The rest of the re-locks is the waking, and the waiters' waiting for each other.
    let among_waiters = row(Kind::Mutex, name, "mutex", "waiter").seconds;
    let handoff = row(Kind::Mutex, name, "mutex", "[handoff]").seconds;
    let rest = relocks.seconds - among_waiters - handoff - charged.seconds;
    assert!(rest.abs() < 1e-6, "{rest} s of re-locks are charged to nobody");
}

#[test]
fn a_signal_on_parking_lot_with_the_lock_held() {
    let _turn = turn();
    let scene = ParkingLot(Mutex::named("signal", false), Condvar::new());
    notified_with_the_lock_held("signal", 1, &scene);
}

#[test]
fn a_signal_on_std_with_the_lock_held() {
    let _turn = turn();
    let scene = Std(sync::Mutex::named("std signal", false), sync::Condvar::new());
    notified_with_the_lock_held("std signal", 1, &scene);
}

#[test]
fn a_broadcast_on_parking_lot_with_the_lock_held() {
    let _turn = turn();
    let scene = ParkingLot(Mutex::named("broadcast", false), Condvar::new());
    notified_with_the_lock_held("broadcast", 4, &scene);
}

#[test]
fn a_broadcast_on_std_with_the_lock_held() {
    let _turn = turn();
    let scene = Std(sync::Mutex::named("std broadcast", false), sync::Condvar::new());
    notified_with_the_lock_held("std broadcast", 4, &scene);
}

#[test]
fn who_times_out_is_charged_to_the_holder() {
    let _turn = turn();
    let mutex = Mutex::named("time-out", ());
    let mut waited = 0.0;
    with_labels([("actor", "holder")], || {
        thread::scope(|scope| {
            let guard = mutex.lock();
            let waiter = start_parked(scope, "waiter", || {
                assert!(mutex.try_lock_for(Duration::from_millis(50)).is_none());
                Instant::now()
            });
            let (from, to) = waiter.join().expect("no panic");
            waited = since(from, to);
            drop(guard);
        });
    });
    near(row(Kind::Mutex, "time-out", "mutex", "holder"), waited, 0.0);
    near(row(Kind::Block, "time-out", "mutex", "waiter"), waited, 0.0);
}
