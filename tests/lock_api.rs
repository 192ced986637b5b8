//! The locks are drop-in: what compiles and holds with `parking_lot` does with
//! `profiler_core::parking_lot`, and the sizes are those that the documentation tells.

#![allow(unsafe_code, reason = "unlocking by force is unsafe")]

use std::fmt::Debug;
use std::mem::size_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

use profiler_core::parking_lot::{
    Condvar, MappedMutexGuard, MappedRwLockReadGuard, MappedRwLockWriteGuard, Mutex, MutexGuard,
    Once, RawMutex, RawRwLock, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard,
    RwLockWriteGuard, lock_api,
};
use profiler_tests::parked::start_parked;

static NAMED: Mutex<Vec<u32>> = Mutex::named("named", Vec::new());
static PLAIN: RwLock<u32> = RwLock::new(1);
static NAMED_RW: RwLock<u32> = RwLock::named("named", 1);
static CONDVAR: Condvar = Condvar::new();

#[test]
fn locks_stand_in_statics() {
    NAMED.lock().push(1);
    assert_eq!(NAMED.lock().len(), 1);
    *NAMED_RW.write() += *PLAIN.read();
    assert_eq!(*NAMED_RW.read(), 2);
    CONDVAR.notify_all();
}

#[test]
fn the_rest_of_parking_lot_is_there() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| ());
    let reentrant = profiler_core::parking_lot::ReentrantMutex::new(1);
    let _outer = reentrant.lock();
    assert_eq!(*reentrant.lock(), 1);
}

#[test]
fn values_go_in_and_out() {
    let mut mutex = Mutex::from(1);
    *mutex.get_mut() += 1;
    assert_eq!(mutex.into_inner(), 2);
    assert_eq!(Mutex::<u32>::default().into_inner(), 0);
    let mut rwlock = RwLock::from(1);
    *rwlock.get_mut() += 1;
    assert_eq!(rwlock.into_inner(), 2);
    assert_eq!(RwLock::<u32>::default().into_inner(), 0);
}

#[test]
fn debug_texts_are_parking_lots() {
    fn same(ours: &dyn Debug, theirs: &dyn Debug) {
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert_eq!(format!("{ours:#?}"), format!("{theirs:#?}"));
    }
    let (ours, theirs) = (Mutex::named("debug", 1), parking_lot::Mutex::new(1));
    same(&ours, &theirs);
    let guards = (ours.lock(), theirs.lock());
    same(&ours, &theirs);
    same(&guards.0, &guards.1);
    let (ours, theirs) = (RwLock::named("debug", 1), parking_lot::RwLock::new(1));
    same(&ours, &theirs);
    let guards = (ours.write(), theirs.write());
    same(&ours, &theirs);
    same(&guards.0, &guards.1);
    same(&Condvar::new(), &parking_lot::Condvar::new());
}

#[test]
fn a_mutex_excludes() {
    let mutex = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    let mut value = mutex.lock();
                    let read = *value;
                    std::hint::spin_loop();
                    *value = read + 1;
                }
            });
        }
    });
    assert_eq!(mutex.into_inner(), 4_000);
}

#[test]
fn a_mutex_that_is_held_is_refused_and_times_out() {
    let mutex = Mutex::new(());
    let guard = mutex.lock();
    assert!(mutex.is_locked());
    let start = Instant::now();
    assert!(mutex.try_lock().is_none());
    assert!(mutex.try_lock_for(Duration::from_millis(2)).is_none());
    assert!(mutex.try_lock_until(start + Duration::from_millis(4)).is_none());
    assert!(start.elapsed() >= Duration::from_millis(4));
    MutexGuard::unlock_fair(guard);
    assert!(!mutex.is_locked());
    assert!(mutex.try_lock_for(Duration::ZERO).is_some());
    assert!(mutex.try_lock_until(start).is_some());
}

#[test]
fn guards_are_mapped_and_give_the_lock_back() {
    let mutex = Mutex::new((1, "two"));
    let mapped: MappedMutexGuard<'_, i32> = MutexGuard::map(mutex.lock(), |pair| &mut pair.0);
    let mut inner = MappedMutexGuard::map(mapped, |number| number);
    *inner += 1;
    drop(inner);
    let Err(guard) = MutexGuard::try_map(mutex.lock(), |_| None::<&mut i32>) else {
        panic!("there is nothing to map to")
    };
    assert_eq!(*guard, (2, "two"));
    drop(guard);

    let rwlock = RwLock::new((1, "two"));
    let mut writer: MappedRwLockWriteGuard<'_, i32> =
        RwLockWriteGuard::map(rwlock.write(), |pair| &mut pair.0);
    *writer += 1;
    drop(writer);
    let reader: MappedRwLockReadGuard<'_, i32> =
        RwLockReadGuard::map(rwlock.read(), |pair| &pair.0);
    assert_eq!(*reader, 2);
    drop(reader);
    assert!(!rwlock.is_locked());
}

#[test]
fn unlocked_lets_others_in() {
    let mutex = Mutex::new(1);
    let mut guard = mutex.lock();
    MutexGuard::unlocked(&mut guard, || *mutex.lock() += 1);
    assert_eq!(*guard, 2);
    MutexGuard::unlocked_fair(&mut guard, || *mutex.lock() += 1);
    assert_eq!(*guard, 3);
    drop(guard);
    let rwlock = RwLock::new(1);
    let mut writer = rwlock.write();
    RwLockWriteGuard::unlocked(&mut writer, || *rwlock.write() += 1);
    assert_eq!(*writer, 2);
}

#[test]
fn a_forgotten_guard_is_unlocked_by_force() {
    let mutex = Mutex::new(());
    std::mem::forget(mutex.lock());
    assert!(mutex.try_lock().is_none());
    // SAFETY: held by the guard that was forgotten.
    unsafe { mutex.force_unlock(lock_api::GuardNoSend::new()) };
    assert!(mutex.try_lock().is_some());
    std::mem::forget(mutex.lock());
    // SAFETY: as above.
    unsafe { mutex.force_unlock_fair(lock_api::GuardNoSend::new()) };
    assert!(mutex.try_lock().is_some());
}

#[test]
fn bump_gives_a_waiting_thread_its_turn() {
    let mutex = Mutex::new(0);
    let mut guard = mutex.lock();
    MutexGuard::bump(&mut guard);
    thread::scope(|scope| {
        start_parked(scope, || *mutex.lock() += 1);
        MutexGuard::bump(&mut guard);
        assert_eq!(*guard, 1);
    });
    drop(guard);

    let rwlock = RwLock::new(0);
    let mut writer = rwlock.write();
    thread::scope(|scope| {
        start_parked(scope, || *rwlock.write() += 1);
        RwLockWriteGuard::bump(&mut writer);
        assert_eq!(*writer, 1);
    });
    drop(writer);
    let mut reader = rwlock.read();
    thread::scope(|scope| {
        start_parked(scope, || *rwlock.write() += 1);
        RwLockReadGuard::bump(&mut reader);
        assert_eq!(*reader, 2);
    });
    drop(reader);
    let mut upgradable = rwlock.upgradable_read();
    thread::scope(|scope| {
        start_parked(scope, || *rwlock.write() += 1);
        RwLockUpgradableReadGuard::bump(&mut upgradable);
        assert_eq!(*upgradable, 3);
    });
}

#[test]
fn readers_share_and_writers_exclude() {
    let rwlock = RwLock::new(());
    let readers = (rwlock.read(), rwlock.try_read().expect("shared"));
    assert!(rwlock.is_locked() && !rwlock.is_locked_exclusive());
    assert!(rwlock.try_write().is_none());
    assert!(rwlock.try_write_for(Duration::from_millis(1)).is_none());
    drop(readers);
    let writer = rwlock.try_write_until(Instant::now()).expect("free");
    assert!(rwlock.is_locked_exclusive());
    assert!(rwlock.try_read_for(Duration::from_millis(1)).is_none());
    assert!(rwlock.try_read_until(Instant::now()).is_none());
    RwLockWriteGuard::unlock_fair(writer);
    RwLockReadGuard::unlock_fair(rwlock.read());
}

#[test]
fn upgrades_wait_for_readers_and_downgrades_let_them_in() {
    let rwlock = RwLock::new(0);
    let upgradable = rwlock.upgradable_read();
    assert!(rwlock.try_upgradable_read().is_none());
    assert!(rwlock.try_upgradable_read_for(Duration::from_millis(1)).is_none());
    let reader = rwlock.read();
    let Err(upgradable) = RwLockUpgradableReadGuard::try_upgrade(upgradable) else {
        panic!("there is a reader")
    };
    let timeout = Duration::from_millis(1);
    let Err(upgradable) = RwLockUpgradableReadGuard::try_upgrade_for(upgradable, timeout) else {
        panic!("there is a reader")
    };
    drop(reader);
    let Ok(mut writer) = RwLockUpgradableReadGuard::try_upgrade(upgradable) else {
        panic!("there is no reader")
    };
    *writer += 1;
    let upgradable = RwLockWriteGuard::downgrade_to_upgradable(writer);
    assert_eq!((*upgradable, *rwlock.read()), (1, 1));
    let writer = RwLockUpgradableReadGuard::upgrade(upgradable);
    let reader = RwLockWriteGuard::downgrade(writer);
    assert_eq!((*reader, *rwlock.read()), (1, 1));
    drop(reader);
    let reader = RwLockUpgradableReadGuard::downgrade(rwlock.upgradable_read());
    assert!(rwlock.try_upgradable_read().is_some());
    drop(reader);
    RwLockUpgradableReadGuard::unlock_fair(rwlock.upgradable_read());

    thread::scope(|scope| {
        let reader = rwlock.read();
        let upgrade = || *RwLockUpgradableReadGuard::upgrade(rwlock.upgradable_read()) += 1;
        let upgraded = start_parked(scope, upgrade);
        drop(reader);
        upgraded.join().expect("no panic");
    });
    assert_eq!(rwlock.into_inner(), 2);
}

#[test]
fn locks_protect_what_has_no_size() {
    let mutex: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
    mutex.lock()[0] = 4;
    assert_eq!(*mutex.lock(), [4, 2, 3]);
    let rwlock: Box<RwLock<dyn Debug + Send + Sync>> = Box::new(RwLock::new(7));
    assert_eq!(format!("{:?}", rwlock.read()), "7");
}

#[test]
fn a_condvar_wakes_and_times_out() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    assert!(!condvar.notify_one());
    assert_eq!(condvar.notify_all(), 0);
    let mut guard = mutex.lock();
    assert!(condvar.wait_for(&mut guard, Duration::from_millis(1)).timed_out());
    assert!(condvar.wait_until(&mut guard, Instant::now()).timed_out());
    let timeout = Duration::from_millis(1);
    assert!(condvar.wait_while_for(&mut guard, |value| *value == 0, timeout).timed_out());
    drop(guard);
    thread::scope(|scope| {
        for _ in 0..2 {
            start_parked(scope, || {
                let mut value = mutex.lock();
                condvar.wait_while(&mut value, |value| *value == 0);
                *value += 1;
            });
        }
        *mutex.lock() = 1;
        assert!(condvar.notify_one());
        assert_eq!(condvar.notify_all(), 1);
    });
    assert_eq!(mutex.into_inner(), 3);
}

#[test]
fn a_condvar_with_two_mutexes_panics_and_stays_usable() {
    let (first, second, condvar) = (Mutex::new(()), Mutex::new(()), Condvar::new());
    thread::scope(|scope| {
        let waiting = start_parked(scope, || condvar.wait(&mut first.lock()));
        let mistaken = scope.spawn(|| condvar.wait(&mut second.lock())).join();
        assert!(mistaken.is_err());
        assert!(!second.is_locked());
        assert!(condvar.notify_one());
        waiting.join().expect("no panic");
    });
    assert!(condvar.wait_for(&mut second.lock(), Duration::ZERO).timed_out());
}

#[test]
fn sizes_are_as_documented() {
    use profiler_core::sync;
    assert_eq!(size_of::<RawMutex>(), 80);
    assert_eq!(size_of::<RawRwLock>(), 80);
    assert_eq!(size_of::<Mutex<[u64; 2]>>(), 96);
    assert_eq!(size_of::<RwLock<[u64; 2]>>(), 96);
    assert_eq!(size_of::<Condvar>(), 48);
    assert_eq!(size_of::<sync::Mutex<u64>>(), 80);
    assert_eq!(size_of::<sync::RwLock<u32>>(), 80);
    assert_eq!(size_of::<sync::Condvar>(), 48);
}

#[test]
fn threads_may_do_with_locks_what_they_may_with_parking_lots() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    fn unwind_safe<T: UnwindSafe>() {}
    fn ref_unwind_safe<T: RefUnwindSafe>() {}
    send::<Mutex<u32>>();
    sync::<Mutex<std::cell::Cell<u32>>>();
    send::<RwLock<u32>>();
    sync::<RwLock<u32>>();
    send::<Condvar>();
    sync::<Condvar>();
    sync::<MutexGuard<'_, u32>>();
    sync::<RwLockReadGuard<'_, u32>>();
    unwind_safe::<Mutex<u32>>();
    unwind_safe::<RwLock<u32>>();
    unwind_safe::<Condvar>();
    ref_unwind_safe::<Condvar>();
}
