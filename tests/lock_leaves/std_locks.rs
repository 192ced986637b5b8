//! Locks with the interface of std.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::PoisonError;
use std::time::Duration;

use profiler_core::sync::{Condvar, Mutex, RwLock, RwLockWriteGuard};

use crate::{Peer, cases, check, wrong_leaves};

const LONG: Duration = Duration::from_secs(30);

#[test]
fn the_leaf_is_the_users_function_whatever_method_of_stds_mutex_it_calls() {
    mutex::checks();
}

#[test]
fn the_leaf_is_the_users_function_whatever_method_of_stds_readers_writer_lock_it_calls() {
    rwlock::checks();
}

mod mutex {
    use super::*;

    struct Lock {
        mutex: Mutex<u32>,
        condvar: Condvar,
    }

    pub(super) fn checks() {
        let named = |name| Lock { mutex: Mutex::named(name, 0), condvar: Condvar::new() };
        let peer = Peer { waits: peer_waits, holds: peer_holds, notifies: peer_notifies };
        check(CASES, named, &peer);
    }

    #[inline(never)]
    fn peer_waits(lock: &Lock) {
        drop(lock.mutex.lock());
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
        let mut guard = lock.mutex.lock().expect("no panic");
        *guard = 1;
        lock.condvar.notify_all();
        drop(guard);
        profiler_tests::keep!();
    }

    cases! { Lock;
        Holds std_goes_out_of_scope(lock, step) {
            let _guard = lock.mutex.lock();
            step.held();
        }
        Holds std_drops(lock, step) {
            let guard = lock.mutex.lock().expect("no panic");
            step.held();
            drop(guard);
        }
        Holds std_drops_of_try_lock(lock, step) {
            let guard = lock.mutex.try_lock().expect("nobody has it");
            step.held();
            drop(guard);
        }
        Holds std_drops_the_result(lock, step) {
            let guard = lock.mutex.lock();
            step.held();
            drop(guard);
        }
        Holds std_takes(lock, step) {
            let mut guard = lock.mutex.lock().ok();
            step.held();
            drop(mem::take(&mut guard));
        }
        Holds std_clears_a_vector(lock, step) {
            let mut guards = vec![lock.mutex.lock().expect("no panic")];
            step.held();
            guards.clear();
        }
        Holds std_panics(lock, step) {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _guard = lock.mutex.lock();
                step.held();
                resume_unwind(Box::new(()));
            }));
            assert!(caught.is_err());
        }
        Holds std_waits_for_a_notification(lock, step) {
            let guard = lock.mutex.lock().expect("no panic");
            step.held();
            drop(lock.condvar.wait_timeout(guard, Duration::from_micros(1)));
        }
        Waits std_locks(lock, _) {
            *lock.mutex.lock().expect("no panic") += 1;
        }
        Waits std_locks_poisoned_or_not(lock, _) {
            *lock.mutex.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        }
        IsNotified std_waits(lock, _) {
            let guard = lock.mutex.lock().expect("no panic");
            drop(lock.condvar.wait(guard));
        }
        IsNotified std_waits_while(lock, _) {
            let guard = lock.mutex.lock().expect("no panic");
            drop(lock.condvar.wait_while(guard, |value| *value == 0));
        }
        IsNotified std_waits_for(lock, _) {
            let guard = lock.mutex.lock().expect("no panic");
            drop(lock.condvar.wait_timeout(guard, LONG));
        }
        IsNotified std_waits_milliseconds(lock, _) {
            let guard = lock.mutex.lock().expect("no panic");
            #[expect(deprecated, reason = "it is there")]
            drop(lock.condvar.wait_timeout_ms(guard, 30_000));
        }
        IsNotified std_waits_while_for(lock, _) {
            let guard = lock.mutex.lock().expect("no panic");
            drop(lock.condvar.wait_timeout_while(guard, LONG, |value| *value == 0));
        }
    }
}

mod rwlock {
    use super::*;

    type Lock = RwLock<u32>;

    pub(super) fn checks() {
        let notifies = |_: &Lock| unreachable!("there is no condition variable");
        check(
            CASES,
            |name| RwLock::named(name, 0),
            &Peer { waits: peer_waits, holds: peer_holds, notifies },
        );
    }

    #[inline(never)]
    fn peer_waits(lock: &Lock) {
        drop(lock.write());
        profiler_tests::keep!();
    }

    #[inline(never)]
    fn peer_holds(lock: &Lock, held: &dyn Fn()) {
        let guard = lock.write();
        held();
        drop(guard);
        profiler_tests::keep!();
    }

    /// A leaf of another name is found: a function between the case and the lock.
    mod control {
        use super::*;

        #[inline(never)]
        fn between(guard: impl Sized) {
            drop(guard);
            profiler_tests::keep!();
        }

        #[test]
        fn another_leaf_is_found() {
            let notifies = |_: &Lock| unreachable!("there is no condition variable");
            let peer = Peer { waits: peer_waits, holds: peer_holds, notifies };
            let wrong = wrong_leaves(CASES, |name| RwLock::named(name, 0), &peer).join("\n");
            assert!(wrong.contains("mutex of has_it_dropped, Dwarf: lock_leaves::"), "{wrong}");
            assert!(wrong.contains("has_it_dropped is no leaf among"), "{wrong}");
        }

        cases! { Lock;
            Holds has_it_dropped(lock, step) {
                let guard = lock.write();
                step.held();
                between(guard);
            }
        }
    }

    cases! { Lock;
        Holds std_reads(lock, step) {
            let _guard = lock.read();
            step.held();
        }
        Holds std_drops_a_reader(lock, step) {
            let guard = lock.try_read().expect("nobody has it");
            step.held();
            drop(guard);
        }
        Holds std_writes(lock, step) {
            let _guard = lock.write();
            step.held();
        }
        Holds std_drops_a_writer(lock, step) {
            let guard = lock.try_write().expect("nobody has it");
            step.held();
            drop(guard);
        }
        Holds std_downgrades(lock, step) {
            let guard = RwLockWriteGuard::downgrade(lock.write().expect("no panic"));
            step.held();
            drop(guard);
        }
        Holds std_panics_with_a_writer(lock, step) {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _guard = lock.write();
                step.held();
                resume_unwind(Box::new(()));
            }));
            assert!(caught.is_err());
        }
        Waits std_waits_to_read(lock, _) {
            drop(lock.read());
        }
        Waits std_waits_to_write(lock, _) {
            drop(lock.write());
        }
    }
}
