//! `parking_lot`'s mutex and condition variable.

#![allow(
    clippy::mem_replace_option_with_none,
    clippy::arc_with_non_send_sync,
    reason = "a guard is dropped in every way that compiles"
)]

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profiler_core::parking_lot::{Condvar, MappedMutexGuard, MutexGuard, RawMutex, lock_api};

use crate::{Peer, cases, check};

const LONG: Duration = Duration::from_secs(30);

pub(crate) struct Lock {
    mutex: Arc<lock_api::Mutex<RawMutex, u32>>,
    condvar: Condvar,
}

fn named(name: &'static str) -> Lock {
    let raw = RawMutex::named(name, <parking_lot::RawMutex as lock_api::RawMutex>::INIT);
    Lock { mutex: Arc::new(lock_api::Mutex::from_raw(raw, 0)), condvar: Condvar::new() }
}

#[inline(never)]
fn peer_waits(lock: &Lock) {
    *lock.mutex.lock() += 1;
    profiler_tests::keep!();
}

#[inline(never)]
fn peer_holds(lock: &Lock, held: &dyn Fn()) {
    let guard = lock.mutex.lock();
    held();
    drop(guard);
    profiler_tests::keep!();
}

#[inline(never)]
fn peer_notifies(lock: &Lock) {
    let mut guard = lock.mutex.lock();
    *guard = 1;
    lock.condvar.notify_one();
    drop(guard);
    profiler_tests::keep!();
}

#[test]
fn the_leaf_is_the_users_function_whatever_method_of_parking_lots_mutex_it_calls() {
    check(CASES, named, &Peer { waits: peer_waits, holds: peer_holds, notifies: peer_notifies });
}

/// A guard in a value of the program's.
struct Held<'a>(#[expect(dead_code, reason = "it is held")] MutexGuard<'a, u32>);

cases! { Lock;
    Holds goes_out_of_scope(lock, step) {
        let _guard = lock.mutex.lock();
        step.held();
    }
    Holds drops(lock, step) {
        let guard = lock.mutex.lock();
        step.held();
        drop(guard);
    }
    Holds unlocks_fairly(lock, step) {
        let guard = lock.mutex.lock();
        step.held();
        MutexGuard::unlock_fair(guard);
    }
    Holds drops_of_try_lock(lock, step) {
        let guard = lock.mutex.try_lock().expect("nobody has it");
        step.held();
        drop(guard);
    }
    Holds gives_it_up_meanwhile(lock, step) {
        let mut guard = lock.mutex.lock();
        step.held();
        MutexGuard::unlocked(&mut guard, || ());
    }
    Holds gives_it_up_fairly_meanwhile(lock, step) {
        let mut guard = lock.mutex.lock();
        step.held();
        MutexGuard::unlocked_fair(&mut guard, || ());
    }
    Holds bumps(lock, step) {
        let mut guard = lock.mutex.lock();
        step.held();
        MutexGuard::bump(&mut guard);
    }
    Holds drops_a_part(lock, step) {
        let guard = MutexGuard::map(lock.mutex.lock(), |value| value);
        step.held();
        drop(guard);
    }
    Holds drops_a_part_of_a_part(lock, step) {
        let guard = MutexGuard::try_map(lock.mutex.lock(), |value| Some(value)).expect("some");
        let guard = MappedMutexGuard::map(guard, |value| value);
        step.held();
        drop(guard);
    }
    Holds unlocks_a_part_fairly(lock, step) {
        let guard = MutexGuard::map(lock.mutex.lock(), |value| value);
        step.held();
        MappedMutexGuard::unlock_fair(guard);
    }
    Holds unlocks_by_force(lock, step) {
        let guard = lock.mutex.lock();
        step.held();
        mem::forget(guard);
        // SAFETY: it is locked, and the guard is gone.
        unsafe { lock.mutex.force_unlock(Default::default()) };
    }
    Holds unlocks_fairly_by_force(lock, step) {
        let guard = lock.mutex.lock();
        step.held();
        mem::forget(guard);
        // SAFETY: it is locked, and the guard is gone.
        unsafe { lock.mutex.force_unlock_fair(Default::default()) };
    }
    Holds drops_an_arc_guard(lock, step) {
        let guard = lock.mutex.lock_arc();
        step.held();
        drop(guard);
    }
    Holds takes_the_arc_out(lock, step) {
        let guard = lock.mutex.lock_arc();
        step.held();
        drop(lock_api::ArcMutexGuard::into_arc(guard));
    }
    Holds takes_the_arc_out_fairly(lock, step) {
        let guard = lock.mutex.lock_arc();
        step.held();
        drop(lock_api::ArcMutexGuard::into_arc_fair(guard));
    }
    Holds unlocks_an_arc_guard_fairly(lock, step) {
        let guard = lock.mutex.lock_arc();
        step.held();
        lock_api::ArcMutexGuard::unlock_fair(guard);
    }
    Holds bumps_an_arc_guard(lock, step) {
        let mut guard = lock.mutex.lock_arc();
        step.held();
        lock_api::ArcMutexGuard::bump(&mut guard);
    }
    Holds drops_an_option(lock, step) {
        let mut guard = Some(lock.mutex.lock());
        step.held();
        guard.take();
    }
    Holds replaces(lock, step) {
        let mut guard = Some(lock.mutex.lock());
        step.held();
        drop(mem::replace(&mut guard, None));
    }
    Holds assigns(lock, step) {
        let mut guard = Some(lock.mutex.lock());
        step.held();
        assert!(guard.is_some());
        guard = None;
        assert!(guard.is_none());
    }
    Holds drops_a_box(lock, step) {
        let guard: Box<dyn std::any::Any> = Box::new(lock.mutex.lock_arc());
        step.held();
        drop(guard);
    }
    Holds drops_a_shared_one(lock, step) {
        let guard = Rc::new(lock.mutex.lock());
        step.held();
        drop(guard);
    }
    Holds drops_an_arc_of_one(lock, step) {
        let guard = Arc::new(lock.mutex.lock());
        step.held();
        drop(guard);
    }
    Holds clears_a_vector(lock, step) {
        let mut guards = vec![lock.mutex.lock()];
        step.held();
        guards.clear();
    }
    Holds drops_a_vector(lock, step) {
        let guards = vec![lock.mutex.lock()];
        step.held();
        drop(guards);
    }
    Holds truncates_a_vector(lock, step) {
        let mut guards = vec![lock.mutex.lock()];
        step.held();
        guards.truncate(0);
    }
    Holds drops_a_deque(lock, step) {
        let guards = std::collections::VecDeque::from([lock.mutex.lock()]);
        step.held();
        drop(guards);
    }
    Holds drops_a_map(lock, step) {
        let guards = std::collections::BTreeMap::from([(1, lock.mutex.lock())]);
        step.held();
        drop(guards);
    }
    Holds drops_a_hash_map(lock, step) {
        let guards = std::collections::HashMap::from([(1, lock.mutex.lock())]);
        step.held();
        drop(guards);
    }
    Holds drops_its_own_type(lock, step) {
        let held = Held(lock.mutex.lock());
        step.held();
        drop(held);
    }
    Holds calls_a_closure_that_has_it(lock, step) {
        let guard = lock.mutex.lock();
        let boxed: Box<dyn FnOnce()> = Box::new(move || drop(guard));
        step.held();
        boxed();
    }
    Holds drops_a_closure_that_has_it(lock, step) {
        let guard = lock.mutex.lock();
        let boxed: Box<dyn FnOnce() + '_> = Box::new(move || drop(guard));
        step.held();
        drop(boxed);
    }
    Holds panics(lock, step) {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.mutex.lock();
            step.held();
            // Without the message of a panic.
            resume_unwind(Box::new(()));
        }));
        assert!(caught.is_err());
    }
    Holds waits_for_a_notification(lock, step) {
        let mut guard = lock.mutex.lock();
        step.held();
        lock.condvar.wait_for(&mut guard, Duration::from_micros(1));
    }

    Waits locks(lock, _) {
        *lock.mutex.lock() += 1;
    }
    Waits locks_for_a_time(lock, _) {
        drop(lock.mutex.try_lock_for(LONG).expect("it is released"));
    }
    Waits locks_until(lock, _) {
        drop(lock.mutex.try_lock_until(Instant::now() + LONG).expect("it is released"));
    }
    Waits locks_by_and_by(lock, _) {
        while lock.mutex.try_lock_for(Duration::from_millis(5)).is_none() {}
    }
    Waits locks_an_arc(lock, _) {
        drop(lock.mutex.lock_arc());
    }
    Waits locks_an_arc_for_a_time(lock, _) {
        drop(lock.mutex.try_lock_arc_for(LONG).expect("it is released"));
    }
    Waits locks_an_arc_until(lock, _) {
        drop(lock.mutex.try_lock_arc_until(Instant::now() + LONG).expect("it is released"));
    }
    Waits locks_raw(lock, _) {
        // SAFETY: it is unlocked below.
        let raw = unsafe { lock.mutex.raw() };
        lock_api::RawMutex::lock(raw);
        // SAFETY: locked above.
        unsafe { lock_api::RawMutex::unlock(raw, Default::default()) };
    }

    WaitsAgain locks_again(lock, step) {
        let mut guard = lock.mutex.lock();
        MutexGuard::unlocked(&mut guard, || step.lent());
    }
    WaitsAgain locks_again_fairly(lock, step) {
        let mut guard = lock.mutex.lock();
        MutexGuard::unlocked_fair(&mut guard, || step.lent());
    }
    WaitsAgain locks_an_arc_again(lock, step) {
        let mut guard = lock.mutex.lock_arc();
        lock_api::ArcMutexGuard::unlocked(&mut guard, || step.lent());
    }
    WaitsAgain locks_an_arc_again_fairly(lock, step) {
        let mut guard = lock.mutex.lock_arc();
        lock_api::ArcMutexGuard::unlocked_fair(&mut guard, || step.lent());
    }
    WaitsAgain locks_again_in_a_panic(lock, step) {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = lock.mutex.lock();
            MutexGuard::unlocked(&mut guard, || {
                step.lent();
                resume_unwind(Box::new(()));
            });
        }));
        assert!(caught.is_err());
    }

    IsNotified waits(lock, _) {
        let mut guard = lock.mutex.lock();
        lock.condvar.wait(&mut guard);
    }
    IsNotified waits_while(lock, _) {
        let mut guard = lock.mutex.lock();
        lock.condvar.wait_while(&mut guard, |value| *value == 0);
    }
    IsNotified waits_for(lock, _) {
        let mut guard = lock.mutex.lock();
        assert!(!lock.condvar.wait_for(&mut guard, LONG).timed_out());
    }
    IsNotified waits_until(lock, _) {
        let mut guard = lock.mutex.lock();
        assert!(!lock.condvar.wait_until(&mut guard, Instant::now() + LONG).timed_out());
    }
    IsNotified waits_while_for(lock, _) {
        let mut guard = lock.mutex.lock();
        lock.condvar.wait_while_for(&mut guard, |value| *value == 0, LONG);
    }
    IsNotified waits_while_until(lock, _) {
        let mut guard = lock.mutex.lock();
        let end = Instant::now() + LONG;
        lock.condvar.wait_while_until(&mut guard, |value| *value == 0, end);
    }
}
