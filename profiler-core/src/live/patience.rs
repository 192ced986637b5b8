//! How long somebody who has asked a thread where it is waits for the answer: as long as it may come.
//!
//! A thread answers as soon as it has a processor, which on a busy machine may take seconds. So what counts is what
//! the thread does meanwhile, by its clock and by the kernel's word: one that has run and not answered will not, nor
//! will one that blocks the signal. Some do that for a moment, while they start a thread, so a few looks must agree.

use std::time::Duration;

use crate::sys::Hearing;

/// So many looks must agree, over so much time.
const LOOKS: u32 = 5;
const SETTLED: Duration = Duration::from_millis(100);
/// A thread that blocks the signal has run for so many nanoseconds and will go on to block it: to start a
/// thread takes a part in a hundred of that.
const RUN_BLOCKING: u64 = 5_000_000;
/// Sleep that no signal reaches ends soon, unless what it waits for hangs.
const HANGS: Duration = Duration::from_secs(2);
/// A thread that hears the signal has run for so many nanoseconds without an answer: the kernel itself is busy on
/// its behalf, or something keeps the signal from it.
const RUN_HEARING: u64 = 2_000_000_000;
/// Where the kernel does not tell what threads do.
const UNTOLD: Duration = Duration::from_secs(5);
/// Longer than any scheduler lets a thread wait on a busy machine.
const LONGEST: Duration = Duration::from_secs(60);

/// Why a thread has not said where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Silence {
    Blocks,
    Stopped,
    Uninterruptible,
    /// It was ready to run all the time.
    NoProcessor,
    Ran,
    Untold,
    /// It has answered, but had no stack to look from.
    NoRoom,
    /// The system does not let signals through.
    Refused,
    /// The signal's handler is somebody else's.
    Replaced,
}

impl Silence {
    /// Returns the reason, which begins with what is said of the thread.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Blocks => "blocks SIGPROF",
            Self::Stopped => "is stopped",
            Self::Uninterruptible => "sleeps where no signal reaches it",
            Self::NoProcessor => "has got no processor for a minute",
            Self::Ran => "has run and not answered",
            Self::Untold => "has not answered, and the system does not tell what it does",
            Self::NoRoom => "had no stack to look from",
            Self::Refused => "cannot be interrupted: the system refuses rt_tgsigqueueinfo",
            Self::Replaced => "has another handler of SIGPROF than the profiler's",
        }
    }
}

/// What was seen of one thread since it was asked.
#[derive(Debug)]
pub(super) struct Patience {
    /// Its clock when it was asked.
    asked: u64,
    hearing: Hearing,
    /// Since when the kernel says so, the clock then, and how often it has said so.
    since: Duration,
    clock: u64,
    looks: u32,
}

impl Patience {
    /// Begins with the thread's clock.
    pub(super) const fn new(clock: u64) -> Self {
        Self { asked: clock, hearing: Hearing::Hears, since: Duration::ZERO, clock, looks: 0 }
    }

    /// Takes a look, so much time after the question; returns why there will be no answer, if it is known by now. A
    /// thread that is gone is none of its business.
    pub(super) fn look(&mut self, now: Duration, hearing: Hearing, clock: u64) -> Option<Silence> {
        let is_same = match (self.hearing, hearing) {
            (Hearing::Blocks { .. }, Hearing::Blocks { .. }) => true,
            // It goes on between two stops: of a debugger that looks at each of its system calls.
            (Hearing::Stopped | Hearing::Uninterruptible, _) if clock != self.clock => false,
            (before, now) => before == now,
        };
        if !is_same {
            (self.since, self.clock, self.looks) = (now, clock, 0);
        }
        self.hearing = hearing;
        self.looks += 1;
        let lasts = |time| self.looks >= LOOKS && now.saturating_sub(self.since) >= time;
        let (ran, ran_so) = (clock.saturating_sub(self.asked), clock.saturating_sub(self.clock));
        match hearing {
            Hearing::Blocks { runs } if lasts(SETTLED) && (!runs || ran_so >= RUN_BLOCKING) => {
                Some(Silence::Blocks)
            }
            Hearing::Stopped if lasts(SETTLED) => Some(Silence::Stopped),
            Hearing::Uninterruptible if lasts(HANGS) => Some(Silence::Uninterruptible),
            Hearing::Untold if lasts(UNTOLD) => Some(Silence::Untold),
            _ if ran >= RUN_HEARING => Some(Silence::Ran),
            _ if now >= LONGEST && ran == 0 => Some(Silence::NoProcessor),
            _ if now >= LONGEST => Some(Silence::Ran),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: Hearing = Hearing::Blocks { runs: true };
    const SLEEPS: Hearing = Hearing::Blocks { runs: false };

    /// Looks every so many milliseconds, while the clock goes on by so much from look to look, and returns
    /// after how many the thread is given up and why.
    fn given_up(
        milliseconds: u64,
        nanoseconds: u64,
        mut hearing: impl FnMut(u64) -> Hearing,
    ) -> (u64, Silence) {
        let mut patience = Patience::new(7);
        let look = |number| {
            let now = Duration::from_millis(milliseconds * number);
            Some((number, patience.look(now, hearing(number), 7 + nanoseconds * number)?))
        };
        (0..1_000_000).find_map(look).expect("nobody waits for ever")
    }

    #[test]
    fn a_thread_is_waited_for_as_long_as_it_may_answer() {
        let always = |hearing| move |_| hearing;
        for (milliseconds, nanoseconds, hearing, expected) in [
            // Asleep or stopped for good.
            (20, 0, SLEEPS, (5, Silence::Blocks)),
            (1, 0, SLEEPS, (100, Silence::Blocks)),
            (20, 0, Hearing::Stopped, (5, Silence::Stopped)),
            (20, 0, Hearing::Uninterruptible, (100, Silence::Uninterruptible)),
            // It wakes up now and then.
            (20, 10_000, SLEEPS, (5, Silence::Blocks)),
            // It would run if a processor were free.
            (20, 0, Hearing::Hears, (3000, Silence::NoProcessor)),
            (20, 0, RUNS, (3000, Silence::NoProcessor)),
            // It runs.
            (20, 20_000_000, Hearing::Hears, (100, Silence::Ran)),
            (20, 1_000_000, RUNS, (5, Silence::Blocks)),
            // A debugger stops it again and again.
            (20, 10_000, Hearing::Stopped, (3000, Silence::Ran)),
            (20, 0, Hearing::Untold, (250, Silence::Untold)),
            // Few looks, far apart, since who asks has no processor himself.
            (10_000, 0, Hearing::Stopped, (4, Silence::Stopped)),
        ] {
            let found = given_up(milliseconds, nanoseconds, always(hearing));
            assert_eq!(found, expected, "{milliseconds} {nanoseconds} {hearing:?}");
        }
    }

    #[test]
    fn what_holds_for_a_moment_says_nothing() {
        let sometimes =
            |often| move |look: u64| if look % 5 < often { SLEEPS } else { Hearing::Hears };
        assert_eq!(given_up(30, 0, sometimes(4)).0, 2000);
        assert_eq!(given_up(30, 0, sometimes(5)).0, 4);
        // Whether it runs or not, it blocks the signal.
        let alternates = |look: u64| if look.is_multiple_of(2) { RUNS } else { SLEEPS };
        assert_eq!(given_up(30, 0, alternates), (5, Silence::Blocks));
    }
}
