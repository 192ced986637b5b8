//! The locks are drop-in: what compiles and holds with `std::sync` does with `profiler_core::sync`.

use std::fmt::Debug;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread;
use std::time::Duration;

use profiler_core::sync::{
    Arc, Barrier, Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
    TryLockError, mpsc,
};
use profiler_tests::parked::ThreadId;

static NAMED: Mutex<Vec<u32>> = Mutex::named("named", Vec::new());
static NAMED_RW: RwLock<u32> = RwLock::named("named", 1);
static CONDVAR: Condvar = Condvar::new();

#[test]
fn locks_stand_in_statics() {
    NAMED.lock().unwrap().push(1);
    assert_eq!(NAMED.lock().unwrap().len(), 1);
    *NAMED_RW.write().unwrap() += 1;
    assert_eq!(*NAMED_RW.read().unwrap(), 2);
    CONDVAR.notify_all();
    let _: (OnceLock<u32>, Barrier, Arc<u32>) = (OnceLock::new(), Barrier::new(1), Arc::new(1));
}

#[test]
fn values_go_in_and_out() {
    let mut mutex = Mutex::from(1);
    *mutex.get_mut().unwrap() += 1;
    assert_eq!(mutex.into_inner().unwrap(), 2);
    assert_eq!(Mutex::<u32>::default().into_inner().unwrap(), 0);
    let mut rwlock = RwLock::from(1);
    *rwlock.get_mut().unwrap() += 1;
    assert_eq!(rwlock.into_inner().unwrap(), 2);
    assert_eq!(RwLock::<u32>::default().into_inner().unwrap(), 0);
}

#[test]
fn debug_texts_are_stds() {
    fn same(ours: &dyn Debug, theirs: &dyn Debug) {
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert_eq!(format!("{ours:#?}"), format!("{theirs:#?}"));
    }
    let (ours, theirs) = (Mutex::named("debug", 1), std::sync::Mutex::new(1));
    same(&ours, &theirs);
    let guards = (ours.lock().unwrap(), theirs.lock().unwrap());
    same(&ours, &theirs);
    same(&guards.0, &guards.1);
    assert_eq!(guards.0.to_string(), guards.1.to_string());
    same(&ours.try_lock(), &theirs.try_lock());
    let (ours, theirs) = (RwLock::named("debug", 1), std::sync::RwLock::new(1));
    same(&ours, &theirs);
    let guards = (ours.read().unwrap(), theirs.read().unwrap());
    same(&guards.0, &guards.1);
    assert_eq!(guards.0.to_string(), guards.1.to_string());
    drop(guards);
    let guards = (ours.write().unwrap(), theirs.write().unwrap());
    same(&ours, &theirs);
    same(&guards.0, &guards.1);
    assert_eq!(guards.0.to_string(), guards.1.to_string());
    same(&Condvar::new(), &std::sync::Condvar::new());
}

/// Panics while it holds the lock that `lock` acquires.
fn poison<G>(lock: impl FnOnce() -> G + Send) {
    thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let _guard = lock();
            panic!("on purpose");
        });
        assert!(holder.join().is_err());
    });
}

#[test]
fn a_mutex_is_poisoned_and_cleared() {
    let mut mutex = Mutex::new(1);
    poison(|| mutex.lock().unwrap());
    assert!(mutex.is_poisoned());
    assert_eq!(*mutex.lock().unwrap_err().into_inner(), 1);
    assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
    assert!(mutex.get_mut().is_err());
    mutex.clear_poison();
    assert!(!mutex.is_poisoned());
    assert!(mutex.lock().is_ok());
    poison(|| mutex.lock().unwrap());
    assert_eq!(mutex.into_inner().unwrap_err().into_inner(), 1);
}

#[test]
fn a_rwlock_is_poisoned_by_writers_only() {
    let mut rwlock = RwLock::new(1);
    poison(|| rwlock.read().unwrap());
    assert!(!rwlock.is_poisoned());
    poison(|| rwlock.write().unwrap());
    assert!(rwlock.is_poisoned());
    assert_eq!(*rwlock.read().unwrap_err().into_inner(), 1);
    assert_eq!(*rwlock.write().unwrap_err().into_inner(), 1);
    assert!(matches!(rwlock.try_read(), Err(TryLockError::Poisoned(_))));
    assert!(matches!(rwlock.try_write(), Err(TryLockError::Poisoned(_))));
    assert!(rwlock.get_mut().is_err());
    rwlock.clear_poison();
    assert!(rwlock.read().is_ok());
    poison(|| rwlock.write().unwrap());
    assert!(rwlock.into_inner().is_err());
}

#[test]
fn a_guard_taken_while_unwinding_does_not_poison() {
    struct Last<'a>(&'a Mutex<u32>);
    impl Drop for Last<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let mutex = Mutex::new(1);
    poison(|| Last(&mutex));
    assert_eq!(*mutex.lock().unwrap(), 2);
}

#[test]
fn what_is_held_would_block() {
    let (mutex, rwlock) = (Mutex::new(()), RwLock::new(()));
    let _guard = mutex.lock().unwrap();
    assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)));
    let reader = rwlock.read().unwrap();
    assert!(rwlock.try_read().is_ok());
    assert!(matches!(rwlock.try_write(), Err(TryLockError::WouldBlock)));
    drop(reader);
    let writer = rwlock.write().unwrap();
    assert!(matches!(rwlock.try_read(), Err(TryLockError::WouldBlock)));
    let _reader = RwLockWriteGuard::downgrade(writer);
    assert!(rwlock.try_read().is_ok());
    assert!(rwlock.try_write().is_err());
}

#[test]
fn locks_exclude() {
    let (mutex, rwlock) = (Mutex::new(0), RwLock::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1_000 {
                    *mutex.lock().unwrap() += 1;
                    let before = *rwlock.read().unwrap();
                    let mut value = rwlock.write().unwrap();
                    assert!(*value >= before);
                    *value += 1;
                }
            });
        }
    });
    assert_eq!(mutex.into_inner().unwrap(), 4_000);
    assert_eq!(rwlock.into_inner().unwrap(), 4_000);
}

#[test]
fn locks_protect_what_has_no_size() {
    let mutex: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
    mutex.lock().unwrap()[0] = 4;
    assert_eq!(*mutex.lock().unwrap(), [4, 2, 3]);
    let rwlock: Arc<RwLock<dyn Debug + Send + Sync>> = Arc::new(RwLock::new(7));
    assert_eq!(format!("{:?}", rwlock.read().unwrap()), "7");
}

#[test]
fn a_condvar_wakes_those_who_wait() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    let (say, said) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..3 {
            let say = say.clone();
            let (mutex, condvar) = (&mutex, &condvar);
            scope.spawn(move || {
                say.send(ThreadId::current()).unwrap();
                let waiting = condvar.wait_while(mutex.lock().unwrap(), |value| *value == 0);
                *waiting.unwrap() += 1;
            });
        }
        for waiter in said.iter().take(3) {
            waiter.wait_until_parked();
        }
        *mutex.lock().unwrap() = 1;
        condvar.notify_one();
        condvar.notify_all();
    });
    assert_eq!(mutex.into_inner().unwrap(), 4);
}

#[test]
fn a_condvar_times_out() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    let short = Duration::from_millis(1);
    let guard = mutex.lock().unwrap();
    let (guard, result) = condvar.wait_timeout_while(guard, short, |value| *value == 0).unwrap();
    assert!(result.timed_out());
    let (guard, result) = condvar.wait_timeout_while(guard, short, |value| *value == 1).unwrap();
    assert!(!result.timed_out());
    let (mut guard, mut timed_out) = (guard, false);
    // std allows for waking by chance.
    while !timed_out {
        let result;
        (guard, result) = condvar.wait_timeout(guard, short).unwrap();
        timed_out = result.timed_out();
    }
    let mut notified = true;
    while notified {
        #[expect(deprecated, reason = "it is there, as in std")]
        let next = condvar.wait_timeout_ms(guard, 1).unwrap();
        (guard, notified) = next;
    }
    drop(guard);
}

#[test]
fn a_condvar_tells_of_poison() {
    let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    thread::scope(|scope| {
        let (say, said) = mpsc::channel();
        let (mutex, condvar) = (&mutex, &condvar);
        let waiter = scope.spawn(move || {
            let guard = mutex.lock().unwrap();
            say.send(ThreadId::current()).unwrap();
            condvar.wait_while(guard, |value| *value == 0).is_err()
        });
        said.recv().unwrap().wait_until_parked();
        poison(|| {
            let mut guard = mutex.lock().unwrap();
            *guard = 1;
            condvar.notify_one();
            guard
        });
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn threads_may_do_with_locks_what_they_may_with_stds() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    fn unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    send::<Mutex<std::cell::Cell<u32>>>();
    sync::<Mutex<std::cell::Cell<u32>>>();
    send::<RwLock<u32>>();
    sync::<RwLock<u32>>();
    send::<Condvar>();
    sync::<Condvar>();
    // Shared with `T: Sync` alone.
    sync::<MutexGuard<'_, std::sync::MutexGuard<'_, u32>>>();
    sync::<RwLockReadGuard<'_, std::sync::MutexGuard<'_, u32>>>();
    sync::<RwLockWriteGuard<'_, u32>>();
    unwind_safe::<Mutex<std::cell::Cell<u32>>>();
    unwind_safe::<RwLock<std::cell::Cell<u32>>>();
    unwind_safe::<MutexGuard<'_, std::cell::Cell<u32>>>();
    unwind_safe::<Condvar>();
}
