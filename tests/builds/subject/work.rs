//! The work: functions that profiles must find.

use std::hint::black_box;
use std::time::Instant;

use profiler_core::sync::Mutex;
use profiler_core::{parking_lot, profiled};

use crate::{MILLISECOND, facts};

/// Stands at the end of a function that is looked for: without it an optimiser makes its last call
/// a jump, and functions of the same code one.
macro_rules! keep {
    () => {
        black_box(line!());
    };
}

/// Uses CPU time in three ways, and returns the stack by libgcc's unwinder.
#[inline(never)]
pub(crate) fn run() -> Vec<u64> {
    outer(250 * MILLISECOND);
    allocate(150 * MILLISECOND);
    read_clock(100 * MILLISECOND);
    facts::stack()
}

/// Uses up so much CPU time of the thread, in nanoseconds.
#[inline(never)]
pub(crate) fn use_up(nanoseconds: u64) {
    let mut number = 1_u64;
    for_cpu_time(nanoseconds, || {
        for _ in 0..10_000 {
            number = black_box(number.wrapping_mul(31));
        }
    });
}

#[inline(always)]
fn for_cpu_time(nanoseconds: u64, mut body: impl FnMut()) {
    let end = thread_cpu() + nanoseconds;
    while thread_cpu() < end {
        body();
    }
}

fn thread_cpu() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is a live exclusive value.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(read, 0, "a clock of the thread");
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[inline(never)]
fn outer(nanoseconds: u64) {
    middle(nanoseconds);
    keep!();
}

#[inline(never)]
fn middle(nanoseconds: u64) {
    inlined(nanoseconds);
    keep!();
}

/// Found where debug information tells of inlined calls.
#[inline(always)]
fn inlined(nanoseconds: u64) {
    leaf(nanoseconds);
    keep!();
}

#[inline(never)]
fn leaf(nanoseconds: u64) {
    use_up(nanoseconds);
    keep!();
}

/// Spends most of the time in libc.
#[inline(never)]
fn allocate(nanoseconds: u64) {
    for_cpu_time(nanoseconds, || {
        let blocks: Vec<Vec<u8>> = (1..100).map(|size| Vec::with_capacity(40 * size)).collect();
        black_box(blocks);
    });
    keep!();
}

/// Spends most of the time in what the kernel maps into every process.
#[inline(never)]
fn read_clock(nanoseconds: u64) {
    for_cpu_time(nanoseconds, || {
        for _ in 0..1000 {
            black_box(Instant::now());
        }
    });
    keep!();
}

/// Holds the lock meanwhile.
#[inline(never)]
pub(crate) fn hold<R>(lock: &Mutex<u32>, meanwhile: impl FnOnce() -> R) -> R {
    let guard = lock.lock().expect("not poisoned");
    let result = meanwhile();
    drop(guard);
    keep!();
    result
}

#[inline(never)]
pub(crate) fn wait_for(lock: &Mutex<u32>) {
    *lock.lock().expect("not poisoned") += 1;
    keep!();
}

/// Gives the lock up meanwhile, and takes it again in the destructor of a value of another crate.
#[profiled]
pub(crate) async fn lend(lock: &parking_lot::Mutex<u32>, meanwhile: impl FnOnce()) {
    let mut guard = lock.lock();
    parking_lot::MutexGuard::unlocked(&mut guard, meanwhile);
}

/// Holds the lock meanwhile, in a vector that drops it.
#[inline(never)]
pub(crate) fn hold_in_a_vector(lock: &parking_lot::Mutex<u32>, meanwhile: impl FnOnce()) {
    let mut guards = vec![lock.lock()];
    meanwhile();
    guards.clear();
    keep!();
}

/// One million bytes.
#[inline(never)]
pub(crate) fn hold_memory() -> Vec<Vec<u8>> {
    let mut blocks = Vec::new();
    for _ in 0..100 {
        blocks.push(black_box(vec![1; 10_000]));
    }
    keep!();
    blocks
}
