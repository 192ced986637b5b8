//! How much of a thread's CPU time is recorded, whoever interrupts it for more.
//!
//! A thread's own clock says how much there is; its timer and whoever asks it only say when to record. So
//! a signal that is dropped, comes late or comes twice changes nothing but where time is found.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::first::First;
use crate::per_process::PerProcess;

/// Accounts in the first chunk, a power of two; each further one has twice as many.
const FIRST: usize = 64;

/// Chunks live for ever: there are as many accounts as threads were sampled at one time.
static CHUNKS: [First<Box<[Account]>>; 20] = [const { First::new() }; 20];
static UNUSED: PerProcess<Unused> = PerProcess::new(Unused::default);

/// The accounts that no thread has.
#[derive(Default)]
struct Unused {
    closed: Vec<u32>,
    /// The first that no thread of this process has had.
    next: u32,
}

/// What is recorded of a thread.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// The kernel's number of the thread; 0 if none has this.
    thread: AtomicU32,
    /// Nanoseconds that a sample stands for.
    period: AtomicU64,
    /// The thread's clock up to where its time is recorded.
    until: AtomicU64,
}

/// An account, until it is dropped; its thread may be gone before.
#[derive(Debug)]
pub(crate) struct Open {
    number: u32,
    account: &'static Account,
}

/// Opens an account for a thread of whose clock everything is recorded up to `until`. Nothing if there are too many.
/// Allocates.
pub(crate) fn open(thread: u32, until: u64, period: u64) -> Option<Open> {
    let number = {
        let mut unused = UNUSED.lock();
        let next = unused.next;
        unused.closed.pop().unwrap_or_else(|| {
            unused.next += 1;
            next
        })
    };
    let (chunk, place) = place(number);
    let make = || (0..FIRST << chunk).map(|_| Account::default()).collect();
    let account = &CHUNKS.get(chunk)?.get_or_make(make)[place];
    // Relaxed: published by the next store.
    account.period.store(period, Ordering::Relaxed);
    // Release: pairs with the Acquire in `take`.
    account.until.store(until, Ordering::Release);
    // Release: pairs with the Acquire in `take`.
    account.thread.store(thread, Ordering::Release);
    Some(Open { number, account })
}

/// Returns the account of that number.
///
/// # Signal safety
///
/// A load.
pub(crate) fn numbered(number: u32) -> Option<&'static Account> {
    let (chunk, place) = place(number);
    CHUNKS.get(chunk)?.get().map(|accounts| &accounts[place])
}

/// Returns the account of a thread, if it has one.
///
/// # Signal safety
///
/// Loads.
pub(crate) fn of_thread(thread: u32) -> Option<&'static Account> {
    // Acquire: pairs with the Release in `open`.
    let is_its = |account: &&Account| account.thread.load(Ordering::Acquire) == thread;
    CHUNKS.iter().map_while(First::get).flatten().find(is_its)
}

/// Returns the chunk of an account and its place there.
const fn place(number: u32) -> (usize, usize) {
    let at = number as usize + FIRST;
    let chunk = at.ilog2() - FIRST.ilog2();
    (chunk as usize, at - (FIRST << chunk))
}

impl Account {
    /// Takes the time up to `now` that is to be recorded, on the thread that it is of: how many periods, each of so many
    /// nanoseconds. Nothing if there are none, or this is another thread's account.
    ///
    /// # Signal safety
    ///
    /// Atomics.
    pub(crate) fn take(&self, thread: u32, now: u64) -> Option<(u64, u64)> {
        // Acquire: pairs with the Release in `open`.
        let is_its = || self.thread.load(Ordering::Acquire) == thread;
        if !is_its() {
            return None;
        }
        // Acquire: pairs with the Release in `open`: if the account is another thread's by now, the next look says so.
        let until = self.until.load(Ordering::Acquire);
        if !is_its() {
            return None;
        }
        // Relaxed: written before that.
        let period = self.period.load(Ordering::Relaxed);
        let time = since(until, now)?;
        let periods = time.checked_div(period).filter(|&periods| periods != 0)?;
        let after = until.wrapping_add(periods * period);
        // It fails if the account was opened anew meanwhile. Relaxed: nobody reads anything by it.
        let exchange =
            self.until.compare_exchange(until, after, Ordering::Relaxed, Ordering::Relaxed);
        exchange.ok().map(|_| (periods, period))
    }
}

impl Open {
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// Returns up to where the thread's time is recorded.
    pub(crate) fn until(&self) -> u64 {
        // Acquire: the clock is read after.
        self.account.until.load(Ordering::Acquire)
    }

    /// Begins anew at `clock`, since another thread has got the number; unless time was recorded after `until` was read.
    pub(crate) fn begin(&self, until: u64, clock: u64) {
        // Relaxed, both: it is read by the signals that come next.
        let _ =
            self.account.until.compare_exchange(until, clock, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Relaxed: whoever opens it next says so with the Release of `until`. A handler that is at it now takes time
        // that nobody else takes.
        self.account.thread.store(0, Ordering::Relaxed);
        UNUSED.lock().closed.push(self.number);
    }
}

/// Returns the nanoseconds up to `now` that are not recorded; nothing if the clock has gone back, and so is another one.
pub(crate) fn since(until: u64, now: u64) -> Option<u64> {
    // In the beginning `until` may lie before zero.
    u64::try_from(now.wrapping_sub(until).cast_signed()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: u32 = 1_000_001;

    #[test]
    fn time_is_taken_once_in_whole_periods() {
        let open = open(THREAD, 20_u64.wrapping_sub(50), 100).unwrap();
        let account = numbered(open.number()).unwrap();
        assert_eq!(account.take(THREAD, 69), None);
        assert_eq!(account.take(THREAD, 350), Some((3, 100)));
        assert_eq!((open.until(), since(270, 350)), (270, Some(80)));
        assert_eq!(account.take(THREAD, 350), None);
        assert_eq!(account.take(THREAD, 370), Some((1, 100)));
        assert!(std::ptr::eq(of_thread(THREAD).unwrap(), account));
        // The clock of another thread.
        assert_eq!((account.take(THREAD, 200), since(open.until(), 200)), (None, None));
        assert_eq!(account.take(THREAD + 1, 900), None);
        // Time was recorded since it was looked at: that stays so.
        open.begin(270, 5);
        assert_eq!(open.until(), 370);
        open.begin(370, 5);
        assert_eq!(account.take(THREAD, 205), Some((2, 100)));
    }

    #[test]
    fn closed_accounts_are_opened_again() {
        let first = open(THREAD + 3, 0, 1).unwrap();
        let account = numbered(first.number()).unwrap();
        drop(first);
        assert_eq!(account.take(THREAD + 3, 10), None);
        assert!(of_thread(THREAD + 3).is_none());
        let many: Vec<_> = (0..1000).map(|n| open(THREAD + 10 + n, 0, 1).unwrap()).collect();
        for (n, open) in (0..).zip(&many) {
            let taken = numbered(open.number()).unwrap().take(THREAD + 10 + n, 2);
            assert_eq!(taken, Some((2, 1)));
        }
        // Those of other tests are in use beside.
        assert!(many.iter().all(|open| open.number() < 1100));
    }
}
