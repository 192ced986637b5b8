//! A thread whose CPU time is sampled.

use crate::buffer::account::{self, Open};
use crate::sys;
use crate::sys::sampling::{self, Purpose, Sent, Timer};

/// So many nanoseconds of a thread's end may be missing in the mean: the kernel's timers expire at its
/// tick only, and a thread that ends has used CPU time since. Two ticks of the slowest kernel: where
/// 64 threads take turns, one that used 100 ms has missed 8 to 14 ms at a tick of 4 ms.
const END: u64 = 20_000_000;

/// After so many nanoseconds of its CPU time a thread is asked whether it blocks the signal: then it has no
/// samples, however well its timer works.
const ASK_AGAIN: u64 = 100_000_000;

/// A thread that has used so many nanoseconds of CPU time has given itself a name, if it will; before it has
/// its creator's.
const SETTLED: u64 = 1_000_000;

/// A thread whose CPU time is sampled.
pub(super) struct Sampled {
    /// Nothing if the system has refused one. Deleted before the account is closed.
    timer: Option<Timer>,
    account: Open,
    /// How it was at the last look, if its samples were late.
    late: Option<Late>,
    /// The thread's clock when it was first seen, and when it was read last.
    began: u64,
    seen: u64,
    /// The clock when it was asked last whether it blocks the signal, and whether it did.
    asked: u64,
    pub(super) is_deaf: bool,
    /// Nothing until the look after the one that found it: to read a thousand would make the start of a capture
    /// last three times as long.
    pub(super) name: Option<&'static &'static str>,
    /// The thread's clock when its name was read.
    named: u64,
}

/// A thread whose timer has not signalled for long.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Late {
    /// How often it has waited for anything.
    waits: u64,
    /// Its clock up to where its time was recorded.
    until: u64,
}

impl Sampled {
    /// Has a thread with that clock sampled, first after `first` nanoseconds. Nothing if it is gone.
    pub(super) fn begin(thread: u32, clock: u64, first: u64, period: u64) -> Option<Self> {
        // So that the first period ends after `first`.
        let until = clock.wrapping_sub(period - first);
        let account = account::open(thread, until, period)?;
        let timer = Timer::start(thread, account.number(), first, period);
        (timer.is_some() || sys::is_thread_alive(thread)).then_some(Self {
            timer,
            account,
            late: None,
            began: clock,
            seen: clock,
            asked: clock,
            is_deaf: false,
            name: None,
            named: 0,
        })
    }

    /// Returns whether the system has refused it a timer.
    pub(super) const fn is_refused(&self) -> bool {
        self.timer.is_none()
    }

    /// Returns whether it lives, whoever has its number by now.
    pub(super) fn is_living(&self, thread: u32) -> bool {
        match &self.timer {
            // Numbers come round again, timers do not.
            Some(timer) => timer.is_of_living(thread),
            None => sys::is_thread_alive(thread),
        }
    }

    /// Returns whether its name has to be read, once more perhaps.
    pub(super) const fn may_have_another_name(&self) -> bool {
        self.name.is_none() || (self.named < SETTLED && self.named < self.seen)
    }

    /// Notes its name, as it was read just now.
    pub(super) const fn set_name(&mut self, name: Option<&'static &'static str>) {
        self.name = name;
        self.named = self.seen;
    }

    /// Notes what its clock says, and returns by how many nanoseconds that changes the time in which it has heard
    /// its timer.
    pub(super) fn read_clock(&mut self, thread: u32, now: u64) -> i64 {
        if self.is_refused() {
            return 0;
        }
        // Not that of another thread with its number.
        let now = now.max(self.seen);
        let mut heard = 0;
        if now - self.asked > ASK_AGAIN {
            self.is_deaf = sys::blocks_timers(thread);
            if self.is_deaf {
                heard -= (self.seen - self.began.max(self.asked)).cast_signed();
            }
            self.asked = now;
        }
        if self.is_deaf {
            self.began = now;
        } else {
            heard += (now - self.seen).cast_signed();
        }
        self.seen = now;
        heard
    }

    /// Returns how much of what `read_clock` has counted may be missing, now that the thread is gone.
    pub(super) fn end(&self) -> u64 {
        (self.seen - self.began).min(END)
    }

    /// Has the thread record its time, if its timer is `late` nanoseconds behind or there is none; returns what has become of
    /// the signal.
    pub(super) fn ask(&mut self, thread: u32, period: u64, late: u64) -> Option<Sent> {
        let before = self.late.take();
        // Before the clock: the thread may record time meanwhile.
        let until = self.account.until();
        let clock = sampling::thread_cpu(thread)?;
        let Some(due) = account::since(until, clock) else {
            // Another thread has got its number.
            self.account.begin(until, clock);
            return None;
        };
        // Again at each tick, if the thread has not answered yet: the signal may have been dropped.
        let send = || Some(sampling::interrupt(thread, Purpose::CpuTime(self.account.number())));
        if self.timer.is_none() {
            return if due < period { None } else { send() };
        }
        if due < late {
            return None;
        }
        let late = Late { waits: sys::waits_of_running(thread)?, until };
        self.late = Some(late);
        // It must not have waited since: who is asked where he has waited records his time there.
        if before == Some(late) { send() } else { None }
    }
}
