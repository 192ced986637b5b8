//! What holders are charged is what others waited: random holders, readers, upgrades, time-outs and
//! re-locks on both families of locks.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

use profiler_core::parking_lot::{self, MutexGuard, RwLockUpgradableReadGuard, RwLockWriteGuard};
use profiler_core::{Config, Kind, Profile, Rates, Symbols, View, snapshot_with, sync};

const THREADS: u64 = 4;
const SCHEDULES: u64 = 1_200;
const STEPS: usize = 8;

/// The locks of one schedule.
struct Locks {
    mutex: parking_lot::Mutex<u32>,
    condvar: parking_lot::Condvar,
    rwlock: parking_lot::RwLock<u32>,
    std_mutex: sync::Mutex<u32>,
    std_condvar: sync::Condvar,
    std_rwlock: sync::RwLock<u32>,
}

impl Locks {
    fn new() -> Self {
        Self {
            mutex: parking_lot::Mutex::named("mutex", 0),
            condvar: parking_lot::Condvar::new(),
            rwlock: parking_lot::RwLock::named("rwlock", 0),
            std_mutex: sync::Mutex::named("std mutex", 0),
            std_condvar: sync::Condvar::new(),
            std_rwlock: sync::RwLock::named("std rwlock", 0),
        }
    }

    /// Takes and releases each lock. Whoever times out between a holder's charge and its release
    /// leaves some nanoseconds to the next release.
    fn settle(&self) {
        drop(self.mutex.lock());
        drop(self.rwlock.write());
        drop(self.std_mutex.lock().expect("no panic"));
        drop(self.std_rwlock.write().expect("no panic"));
    }
}

/// Random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }

    fn micros(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound))
    }

    /// Spends up to 20 µs, sometimes off the processor, as a holder does.
    fn hold(&mut self) {
        match self.below(8) {
            0 => thread::yield_now(),
            1 => thread::sleep(self.micros(20)),
            _ => {
                let (start, time) = (Instant::now(), self.micros(20));
                while start.elapsed() < time {
                    hint::spin_loop();
                }
            }
        }
    }
}

fn parking_lot_mutex(locks: &Locks, random: &mut Random) {
    let Locks { mutex, condvar, .. } = locks;
    let guard = match random.below(4) {
        0 => mutex.try_lock_for(random.micros(40)),
        1 => mutex.try_lock(),
        _ => Some(mutex.lock()),
    };
    let Some(mut guard) = guard else { return };
    *guard += 1;
    random.hold();
    match random.below(8) {
        0 => MutexGuard::bump(&mut guard),
        1 => MutexGuard::unlocked(&mut guard, || random.hold()),
        2 => MutexGuard::unlock_fair(guard),
        3 | 4 => {
            condvar.wait_for(&mut guard, random.micros(200));
            random.hold();
        }
        5 => {
            condvar.notify_one();
            random.hold();
        }
        6 => {
            condvar.notify_all();
            random.hold();
        }
        _ => {
            drop(guard);
            condvar.notify_one();
        }
    }
}

fn parking_lot_rwlock(locks: &Locks, random: &mut Random) {
    let rwlock = &locks.rwlock;
    match random.below(8) {
        0..3 => {
            let _reader = rwlock.read();
            random.hold();
        }
        3 => {
            let reader = rwlock.try_read_for(random.micros(40));
            if reader.is_some() {
                random.hold();
            }
        }
        4 => {
            let writer = rwlock.try_write_for(random.micros(40));
            if writer.is_some() {
                random.hold();
            }
        }
        5 => {
            let upgradable = rwlock.upgradable_read();
            random.hold();
            match RwLockUpgradableReadGuard::try_upgrade_for(upgradable, random.micros(40)) {
                Ok(mut writer) => {
                    *writer += 1;
                    random.hold();
                    drop(RwLockWriteGuard::downgrade_to_upgradable(writer));
                }
                Err(upgradable) => *RwLockUpgradableReadGuard::upgrade(upgradable) += 1,
            }
        }
        6 => {
            let mut writer = rwlock.write();
            random.hold();
            RwLockWriteGuard::bump(&mut writer);
            *writer += 1;
        }
        _ => {
            let mut writer = rwlock.write();
            *writer += 1;
            random.hold();
            let _reader = RwLockWriteGuard::downgrade(writer);
            random.hold();
        }
    }
}

fn std_mutex(locks: &Locks, random: &mut Random) {
    let Locks { std_mutex: mutex, std_condvar: condvar, .. } = locks;
    let mut guard = mutex.lock().expect("no panic");
    *guard += 1;
    random.hold();
    match random.below(6) {
        0 | 1 => {
            let (guard, _) = condvar.wait_timeout(guard, random.micros(200)).expect("no panic");
            random.hold();
            drop(guard);
        }
        2 => {
            condvar.notify_one();
            random.hold();
        }
        3 => {
            condvar.notify_all();
            random.hold();
        }
        4 => {
            drop(guard);
            condvar.notify_all();
        }
        _ => {}
    }
}

fn std_rwlock(locks: &Locks, random: &mut Random) {
    let rwlock = &locks.std_rwlock;
    if random.below(3) > 0 {
        let _reader = rwlock.read().expect("no panic");
        random.hold();
    } else {
        let mut writer = rwlock.write().expect("no panic");
        *writer += 1;
        random.hold();
        let _reader = sync::RwLockWriteGuard::downgrade(writer);
        random.hold();
    }
}

/// One schedule: some threads, each with some steps on the locks of one or of all families.
fn run(seed: u64) {
    let locks = Locks::new();
    let families: [fn(&Locks, &mut Random); 4] =
        [parking_lot_mutex, parking_lot_rwlock, std_mutex, std_rwlock];
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let locks = &locks;
            scope.spawn(move || {
                let mut random = Random::seeded(seed * THREADS + thread + 1);
                for _ in 0..STEPS {
                    let family = if seed.is_multiple_of(5) { random.below(4) } else { seed % 4 };
                    families[family as usize](locks, &mut random);
                }
            });
        }
    });
    locks.settle();
}

fn read(kind: Kind) -> Profile {
    snapshot_with(kind, View::default().symbols(Symbols::None)).expect("available")
}

/// Nanoseconds charged to holders, and nanoseconds waited for locks.
fn charged_and_waited() -> (i64, i64) {
    let waited = read(Kind::Block)
        .samples()
        .filter(|sample| matches!(sample.label("kind"), Some("mutex" | "rwlock")))
        .map(|sample| sample.values()[1])
        .sum();
    (read(Kind::Mutex).totals()[1], waited)
}

#[test]
fn charges_are_waits() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let mut last = (0, 0);
    for seed in 0..SCHEDULES {
        run(seed);
        let now = charged_and_waited();
        let (charged, waited) = (now.0 - last.0, now.1 - last.1);
        assert_eq!(charged, waited, "schedule {seed}");
        last = now;
    }
    assert!(last.0 > 0, "nothing was contended");
    assert_eq!(profiler_core::stats().lost, 0);

    let rates = Rates::DEFAULT;
    profiler_core::set_rates(rates);
    for seed in SCHEDULES..2 * SCHEDULES {
        run(seed);
    }
    let now = charged_and_waited();
    let (charged, waited) = ((now.0 - last.0) as f64, (now.1 - last.1) as f64);
    // A wait of v < rate counts as `rate` with probability v/rate: its variance is v(rate − v), so
    // that of a sum is below rate times the sum; the same for charges. Six standard deviations of
    // the difference of the two.
    let rate = rates.block_ns.max(rates.mutex_ns) as f64;
    let allowed = 6.0 * (rate * (charged + waited)).sqrt();
    assert!((charged - waited).abs() < allowed, "charged {charged}, waited {waited}");
    assert!(allowed < 0.1 * waited, "too little was waited to tell: {waited}");
}
