//! `parking_lot`'s readers-writer lock.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use profiler_core::parking_lot::{
    MappedRwLockReadGuard, MappedRwLockWriteGuard, RawRwLock, RwLockReadGuard,
    RwLockUpgradableReadGuard, RwLockWriteGuard, lock_api,
};

use crate::{Peer, cases, check};

const LONG: Duration = Duration::from_secs(30);

type Lock = Arc<lock_api::RwLock<RawRwLock, u32>>;

fn named(name: &'static str) -> Lock {
    let raw = RawRwLock::named(name, <parking_lot::RawRwLock as lock_api::RawRwLock>::INIT);
    Arc::new(lock_api::RwLock::from_raw(raw, 0))
}

#[inline(never)]
fn peer_waits(lock: &Lock) {
    *lock.write() += 1;
    profiler_tests::keep!();
}

#[inline(never)]
fn peer_holds(lock: &Lock, held: &dyn Fn()) {
    let guard = lock.write();
    held();
    drop(guard);
    profiler_tests::keep!();
}

#[test]
fn the_leaf_is_the_users_function_whatever_method_of_parking_lots_readers_writer_lock_it_calls() {
    let notifies = |_: &Lock| unreachable!("there is no condition variable");
    check(CASES, named, &Peer { waits: peer_waits, holds: peer_holds, notifies });
}

/// What others do whom only a reader keeps out, or whom a reader does not.
mod beside_readers {
    use super::*;

    #[inline(never)]
    fn peer_waits(lock: &Lock) {
        drop(lock.read());
        profiler_tests::keep!();
    }

    #[inline(never)]
    fn peer_holds(lock: &Lock, held: &dyn Fn()) {
        let guard = lock.read();
        held();
        drop(guard);
        profiler_tests::keep!();
    }

    #[test]
    fn the_leaf_is_the_users_function_whatever_it_calls_to_upgrade() {
        let notifies = |_: &Lock| unreachable!("there is no condition variable");
        check(CASES, named, &Peer { waits: peer_waits, holds: peer_holds, notifies });
    }

    cases! { Lock;
        Holds writes_meanwhile(lock, step) {
            let mut guard = lock.upgradable_read();
            guard.with_upgraded(|_| step.held());
        }
        Holds tries_to_write_meanwhile(lock, step) {
            let mut guard = lock.upgradable_read();
            guard.try_with_upgraded(|_| step.held()).expect("nobody reads");
        }
        Holds writes_meanwhile_for_a_time(lock, step) {
            let mut guard = lock.upgradable_read();
            guard.try_with_upgraded_for(LONG, |_| step.held()).expect("nobody reads");
        }
        Holds writes_meanwhile_until(lock, step) {
            let mut guard = lock.upgradable_read();
            guard.try_with_upgraded_until(Instant::now() + LONG, |_| step.held()).expect("nobody reads");
        }
        Holds writes_an_arc_meanwhile(lock, step) {
            let mut guard = lock.upgradable_read_arc();
            guard.with_upgraded(|_| step.held());
        }
        Holds downgrades(lock, step) {
            let guard = lock.write();
            step.held();
            drop(RwLockWriteGuard::downgrade(guard));
        }
        Holds downgrades_to_upgradable(lock, step) {
            let guard = lock.write();
            step.held();
            drop(RwLockWriteGuard::downgrade_to_upgradable(guard));
        }
        Waits upgrades(lock, _) {
            drop(RwLockUpgradableReadGuard::upgrade(lock.upgradable_read()));
        }
        Waits upgrades_for_a_time(lock, _) {
            let guard = lock.upgradable_read();
            let upgraded = RwLockUpgradableReadGuard::try_upgrade_for(guard, LONG);
            assert!(upgraded.is_ok());
        }
        Waits upgrades_until(lock, _) {
            let guard = lock.upgradable_read();
            let end = Instant::now() + LONG;
            assert!(RwLockUpgradableReadGuard::try_upgrade_until(guard, end).is_ok());
        }
        Waits waits_to_write_meanwhile(lock, _) {
            lock.upgradable_read().with_upgraded(|value| *value += 1);
        }
        Waits waits_to_write_meanwhile_for_a_time(lock, _) {
            let mut guard = lock.upgradable_read();
            guard.try_with_upgraded_for(LONG, |value| *value += 1).expect("it is released");
        }
        Waits waits_to_write_meanwhile_until(lock, _) {
            let mut guard = lock.upgradable_read();
            let end = Instant::now() + LONG;
            guard.try_with_upgraded_until(end, |value| *value += 1).expect("it is released");
        }
        Waits upgrades_an_arc(lock, _) {
            drop(lock_api::ArcRwLockUpgradableReadGuard::upgrade(lock.upgradable_read_arc()));
        }
        Waits waits_to_write_an_arc_meanwhile_for_a_time(lock, _) {
            let mut guard = lock.upgradable_read_arc();
            guard.try_with_upgraded_for(LONG, |value| *value += 1).expect("it is released");
        }
        Waits upgrades_an_arc_until(lock, _) {
            let guard = lock.upgradable_read_arc();
            let end = Instant::now() + LONG;
            assert!(lock_api::ArcRwLockUpgradableReadGuard::try_upgrade_until(guard, end).is_ok());
        }
        Waits waits_to_write_an_arc_meanwhile(lock, _) {
            lock.upgradable_read_arc().with_upgraded(|value| *value += 1);
        }
    }
}

cases! { Lock;
    Holds reads(lock, step) {
        let _guard = lock.read();
        step.held();
    }
    Holds reads_recursively(lock, step) {
        let guard = lock.try_read().expect("nobody has it");
        step.held();
        drop(guard);
    }
    Holds unlocks_a_reader_fairly(lock, step) {
        let guard = lock.read();
        step.held();
        RwLockReadGuard::unlock_fair(guard);
    }
    Holds gives_a_reader_up_meanwhile(lock, step) {
        let mut guard = lock.read();
        step.held();
        RwLockReadGuard::unlocked(&mut guard, || ());
    }
    Holds bumps_a_reader(lock, step) {
        let mut guard = lock.read();
        step.held();
        RwLockReadGuard::bump(&mut guard);
    }
    Holds drops_a_part_of_a_reader(lock, step) {
        let guard = RwLockReadGuard::map(lock.read(), |value| value);
        step.held();
        drop(MappedRwLockReadGuard::map(guard, |value| value));
    }
    Holds unlocks_a_part_of_a_reader_fairly(lock, step) {
        let guard = RwLockReadGuard::map(lock.read(), |value| value);
        step.held();
        MappedRwLockReadGuard::unlock_fair(guard);
    }
    Holds drops_a_reader_of_an_arc(lock, step) {
        let guard = lock.read_arc();
        step.held();
        drop(guard);
    }
    Holds unlocks_a_reader_of_an_arc_fairly(lock, step) {
        let guard = lock.read_arc();
        step.held();
        lock_api::ArcRwLockReadGuard::unlock_fair(guard);
    }
    Holds takes_the_arc_out_of_a_reader(lock, step) {
        let guard = lock.read_arc();
        step.held();
        drop(lock_api::ArcRwLockReadGuard::into_arc(guard));
    }
    Holds bumps_a_reader_of_an_arc(lock, step) {
        let mut guard = lock.read_arc();
        step.held();
        lock_api::ArcRwLockReadGuard::bump(&mut guard);
    }
    Holds bumps_a_writer_of_an_arc(lock, step) {
        let mut guard = lock.write_arc();
        step.held();
        lock_api::ArcRwLockWriteGuard::bump(&mut guard);
    }
    Holds takes_the_arc_out_of_a_writer_fairly(lock, step) {
        let guard = lock.write_arc();
        step.held();
        drop(lock_api::ArcRwLockWriteGuard::into_arc_fair(guard));
    }
    Holds bumps_an_upgradable_of_an_arc(lock, step) {
        let mut guard = lock.upgradable_read_arc();
        step.held();
        lock_api::ArcRwLockUpgradableReadGuard::bump(&mut guard);
    }
    Holds unlocks_a_reader_by_force(lock, step) {
        let guard = lock.read();
        step.held();
        mem::forget(guard);
        // SAFETY: it is locked, and the guard is gone.
        unsafe { lock.force_unlock_read(Default::default()) };
    }
    Holds writes(lock, step) {
        let _guard = lock.write();
        step.held();
    }
    Holds drops_of_try_write(lock, step) {
        let guard = lock.try_write().expect("nobody has it");
        step.held();
        drop(guard);
    }
    Holds unlocks_a_writer_fairly(lock, step) {
        let guard = lock.write();
        step.held();
        RwLockWriteGuard::unlock_fair(guard);
    }
    Holds gives_a_writer_up_meanwhile(lock, step) {
        let mut guard = lock.write();
        step.held();
        RwLockWriteGuard::unlocked(&mut guard, || ());
    }
    Holds bumps_a_writer(lock, step) {
        let mut guard = lock.write();
        step.held();
        RwLockWriteGuard::bump(&mut guard);
    }
    Holds drops_a_part_of_a_writer(lock, step) {
        let guard = RwLockWriteGuard::map(lock.write(), |value| value);
        step.held();
        drop(MappedRwLockWriteGuard::map(guard, |value| value));
    }
    Holds unlocks_a_part_of_a_writer_fairly(lock, step) {
        let guard = RwLockWriteGuard::map(lock.write(), |value| value);
        step.held();
        MappedRwLockWriteGuard::unlock_fair(guard);
    }
    Holds drops_a_writer_of_an_arc(lock, step) {
        let guard = lock.write_arc();
        step.held();
        drop(guard);
    }
    Holds unlocks_a_writer_by_force(lock, step) {
        let guard = lock.write();
        step.held();
        mem::forget(guard);
        // SAFETY: it is locked, and the guard is gone.
        unsafe { lock.force_unlock_write(Default::default()) };
    }
    Holds drops_after_a_downgrade(lock, step) {
        let guard = RwLockWriteGuard::downgrade(lock.write());
        step.held();
        drop(guard);
    }
    Holds drops_an_upgradable(lock, step) {
        let guard = lock.upgradable_read();
        step.held();
        drop(guard);
    }
    Holds unlocks_an_upgradable_fairly(lock, step) {
        let guard = lock.upgradable_read();
        step.held();
        RwLockUpgradableReadGuard::unlock_fair(guard);
    }
    Holds gives_an_upgradable_up_meanwhile(lock, step) {
        let mut guard = lock.upgradable_read();
        step.held();
        RwLockUpgradableReadGuard::unlocked(&mut guard, || ());
    }
    Holds bumps_an_upgradable(lock, step) {
        let mut guard = lock.upgradable_read();
        step.held();
        RwLockUpgradableReadGuard::bump(&mut guard);
    }
    Holds drops_what_it_upgraded(lock, step) {
        let guard = RwLockUpgradableReadGuard::upgrade(lock.upgradable_read());
        step.held();
        drop(guard);
    }

    Waits waits_to_read(lock, _) {
        drop(lock.read());
    }
    Waits waits_to_read_for_a_time(lock, _) {
        drop(lock.try_read_for(LONG).expect("it is released"));
    }
    Waits waits_to_read_until(lock, _) {
        drop(lock.try_read_until(Instant::now() + LONG).expect("it is released"));
    }
    Waits waits_to_read_an_arc(lock, _) {
        drop(lock.read_arc());
    }
    Waits waits_to_read_an_arc_for_a_time(lock, _) {
        drop(lock.try_read_arc_for(LONG).expect("it is released"));
    }
    Waits waits_to_write(lock, _) {
        drop(lock.write());
    }
    Waits waits_to_write_for_a_time(lock, _) {
        drop(lock.try_write_for(LONG).expect("it is released"));
    }
    Waits waits_to_write_until(lock, _) {
        drop(lock.try_write_until(Instant::now() + LONG).expect("it is released"));
    }
    Waits waits_to_write_an_arc(lock, _) {
        drop(lock.write_arc());
    }
    Waits waits_to_write_an_arc_for_a_time(lock, _) {
        drop(lock.try_write_arc_for(LONG).expect("it is released"));
    }
    Waits waits_to_read_upgradably(lock, _) {
        drop(lock.upgradable_read());
    }
    Waits waits_to_read_upgradably_for_a_time(lock, _) {
        drop(lock.try_upgradable_read_for(LONG).expect("it is released"));
    }
    Waits waits_to_read_upgradably_until(lock, _) {
        drop(lock.try_upgradable_read_until(Instant::now() + LONG).expect("it is released"));
    }
    Waits waits_to_read_an_arc_upgradably(lock, _) {
        drop(lock.upgradable_read_arc());
    }

    Waits waits_to_read_an_arc_until(lock, _) {
        drop(lock.try_read_arc_until(Instant::now() + LONG).expect("it is released"));
    }
    Waits waits_to_write_an_arc_until(lock, _) {
        drop(lock.try_write_arc_until(Instant::now() + LONG).expect("it is released"));
    }
    Waits waits_to_read_an_arc_upgradably_for_a_time(lock, _) {
        drop(lock.try_upgradable_read_arc_for(LONG).expect("it is released"));
    }
    Waits waits_to_read_an_arc_upgradably_until(lock, _) {
        drop(lock.try_upgradable_read_arc_until(Instant::now() + LONG).expect("it is released"));
    }

    WaitsAgain reads_again(lock, step) {
        let mut guard = lock.read();
        RwLockReadGuard::unlocked(&mut guard, || step.lent());
    }
    WaitsAgain reads_again_fairly(lock, step) {
        let mut guard = lock.read();
        RwLockReadGuard::unlocked_fair(&mut guard, || step.lent());
    }
    WaitsAgain writes_again(lock, step) {
        let mut guard = lock.write();
        RwLockWriteGuard::unlocked(&mut guard, || step.lent());
    }
    WaitsAgain writes_again_fairly(lock, step) {
        let mut guard = lock.write();
        RwLockWriteGuard::unlocked_fair(&mut guard, || step.lent());
    }
    WaitsAgain reads_upgradably_again(lock, step) {
        let mut guard = lock.upgradable_read();
        RwLockUpgradableReadGuard::unlocked(&mut guard, || step.lent());
    }
    WaitsAgain reads_upgradably_again_fairly(lock, step) {
        let mut guard = lock.upgradable_read();
        RwLockUpgradableReadGuard::unlocked_fair(&mut guard, || step.lent());
    }
    WaitsAgain reads_an_arc_again(lock, step) {
        let mut guard = lock.read_arc();
        lock_api::ArcRwLockReadGuard::unlocked(&mut guard, || step.lent());
    }
    WaitsAgain reads_an_arc_upgradably_again(lock, step) {
        let mut guard = lock.upgradable_read_arc();
        lock_api::ArcRwLockUpgradableReadGuard::unlocked(&mut guard, || step.lent());
    }
    WaitsAgain writes_an_arc_again(lock, step) {
        let mut guard = lock.write_arc();
        lock_api::ArcRwLockWriteGuard::unlocked(&mut guard, || step.lent());
    }
}
