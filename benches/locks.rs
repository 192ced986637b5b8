//! What the wrapped locks cost: uncontended, lightly contended, saturated.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use profiler_benches::{Case, compare, instructions};
use profiler_core::{Config, Rates, set_rates};

/// Sections of a round with two threads: starting them must not count.
const THREADED: u64 = 40_000;

/// Locks, counts up, does `work` under the lock, unlocks.
trait Lock: Sync {
    fn section(&self, work: u32);
}

macro_rules! lock {
    ($type:ty, $lock:ident => $guard:expr) => {
        impl Lock for $type {
            #[inline]
            fn section(&self, work: u32) {
                let $lock = self;
                let mut guard = $guard;
                *guard += 1;
                spin(work);
            }
        }
    };
}

lock!(parking_lot::Mutex<u64>, lock => lock.lock());
lock!(profiler_core::parking_lot::Mutex<u64>, lock => lock.lock());
lock!(std::sync::Mutex<u64>, lock => lock.lock().expect("no panic"));
lock!(profiler_core::sync::Mutex<u64>, lock => lock.lock().expect("no panic"));

#[inline]
fn spin(rounds: u32) {
    for round in 0..rounds {
        black_box(round);
    }
}

/// Rounds of `spin` that take about so many nanoseconds, by the fastest of some tries.
fn rounds(nanoseconds: u32) -> u32 {
    const ROUNDS: u32 = 1_000_000;
    let tries = (0..20).map(|_| {
        let start = Instant::now();
        spin(black_box(ROUNDS));
        start.elapsed().as_nanos() as u32
    });
    (u64::from(nanoseconds) * u64::from(ROUNDS) / u64::from(tries.min().expect("some tries")))
        as u32
}

/// Two threads, each half of the sections.
fn two<L: Lock>(lock: &L, inside: u32, between: u32) -> impl FnMut(u64) {
    move |n| {
        let together = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    together.wait();
                    for _ in 0..n / 2 {
                        lock.section(inside);
                        spin(between);
                    }
                });
            }
        });
    }
}

/// A lock in lines of its own: where it lies relative to others must not matter.
#[repr(align(256))]
struct Apart<T>(T);

fn main() {
    let plain = Apart(parking_lot::Mutex::new(0));
    let ours = Apart(profiler_core::parking_lot::Mutex::new(0));
    let plain_std = Apart(std::sync::Mutex::new(0));
    let ours_std = Apart(profiler_core::sync::Mutex::new(0));
    let (plain, ours, plain_std, ours_std) = (&plain.0, &ours.0, &plain_std.0, &ours_std.0);
    profiler_core::start(Config::default()).expect("the first start");
    let section = rounds(100);
    let micro = rounds(1_000);

    for (title, plain, ours) in
        [("parking_lot", &plain as &dyn Load, &ours as &dyn Load), ("std", &plain_std, &ours_std)]
    {
        compare(
            &format!("Lock and unlock, nobody else, {title}"),
            &mut [
                Case::new("plain", |n| plain.alone(n)),
                Case::new("wrapped, recording", |n| ours.alone(n)).budget("+0.6 ns"),
            ],
        );
    }
    let count = |lock: &dyn Lock| {
        instructions::count(|| lock.section(0)).map_or_else(|e| e.to_string(), |n| n.to_string())
    };
    println!(
        "\nInstructions, lock and unlock: parking_lot {}, wrapped {}; std {}, wrapped {}.",
        count(plain),
        count(ours),
        count(plain_std),
        count(ours_std)
    );

    compare(
        "Two threads, 100 ns under the lock, 1 µs between",
        &mut [
            Case::new("parking_lot", two(plain, section, micro)).at_least(THREADED),
            Case::new("wrapped", two(ours, section, micro)).at_least(THREADED).budget("1.05 ×"),
            Case::new("std", two(plain_std, section, micro)).at_least(THREADED),
            Case::new("std wrapped", two(ours_std, section, micro)).at_least(THREADED),
        ],
    );
    for (rates, name, budget) in
        [(Rates::DEFAULT, "default rates", "1.15 ×"), (Rates::ALL, "recording all", "1.75 ×")]
    {
        set_rates(rates);
        for (title, plain, ours) in [
            ("parking_lot", &plain as &dyn Load, &ours as &dyn Load),
            ("std", &plain_std, &ours_std),
        ] {
            compare(
                &format!("Two threads, 100 ns under the lock, nothing between, {name}, {title}"),
                &mut [
                    Case::new("plain", |n| plain.two(n, section)).at_least(THREADED),
                    Case::new("wrapped", |n| ours.two(n, section))
                        .at_least(THREADED)
                        .budget(budget),
                ],
            );
        }
    }
}

/// A lock of any type under load.
trait Load {
    fn alone(&self, sections: u64);
    fn two(&self, sections: u64, inside: u32);
}

impl<L: Lock> Load for &L {
    fn alone(&self, sections: u64) {
        (0..sections).for_each(|_| self.section(0));
    }

    fn two(&self, sections: u64, inside: u32) {
        two(*self, inside, 0)(sections);
    }
}
