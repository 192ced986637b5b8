//! Profiles that take time: started, and finished later.

use std::time::{Duration, Instant, SystemTime};

use crate::buffer::record::Source;
use crate::capture::cpu::{self, Truth};
use crate::capture::signal;
use crate::error::Unavailable;
use crate::kind::Kind;
use crate::live::patience::Silence;
use crate::live::threads::missing_threads;
use crate::live::wall::{self, Seen};
use crate::merge::{self, At, Key, Rows, Stack};
use crate::profile::Profile;
use crate::profiler;
use crate::sys::sampling;
use crate::view::View;

/// A capture of CPU time or of wall-clock time that runs until it is finished. Dropped, it ends and is
/// forgotten.
///
/// Captures may overlap; each gets what happens between its start and its end.
///
/// ```
/// use profiler_core::{Capture, Config, Kind};
///
/// profiler_core::start(Config::default())?;
/// # if Capture::start(Kind::Profile).is_err() { return Ok(()); } // no timers here
/// let capture = Capture::start(Kind::Profile)?;
/// let sum: u64 = (0..1_000_000).sum();
/// let profile = capture.finish();
/// assert_eq!(profile.kind(), Kind::Profile);
/// # assert_ne!(sum, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a capture that is dropped is cancelled"]
pub struct Capture {
    kind: Kind,
    running: Running,
    rate: u32,
    began: (SystemTime, Instant),
}

#[derive(Debug)]
enum Running {
    Cpu {
        running: cpu::Running,
        /// What there was before.
        before: (Rows, At),
    },
    Wall(wall::Running),
}

impl Capture {
    /// Samples a second of [`Capture::start`].
    pub const DEFAULT_RATE: u32 = 100;
    /// The most samples a second.
    pub const MAX_RATE: u32 = cpu::FASTEST;

    /// Starts a capture at 100 samples a second: of [`Kind::Profile`] for each thread that runs, in its CPU time,
    /// of [`Kind::Wall`] for each thread.
    ///
    /// # Errors
    ///
    /// The kind is no capture (see [`snapshot`](crate::snapshot)), this platform cannot give it, the profiler is in a
    /// library that was loaded by `dlopen`, or something else has taken SIGPROF since the last capture.
    pub fn start(kind: Kind) -> Result<Self, Unavailable> {
        Self::start_with(kind, Self::DEFAULT_RATE)
    }

    /// Starts a capture at so many samples a second, 1 to [`Capture::MAX_RATE`]; values outside are taken to
    /// the nearest bound.
    ///
    /// CPU time is sampled as often as that whatever the rate is. Wall-clock time may be sampled less
    /// often, with many threads or on a busy machine; each sample then stands for more of it.
    ///
    /// # Errors
    ///
    /// As [`Capture::start`].
    pub fn start_with(kind: Kind, rate: u32) -> Result<Self, Unavailable> {
        let unavailable = |reason| Unavailable { kind, reason };
        if !matches!(kind, Kind::Profile | Kind::Wall) {
            return Err(unavailable("it is no capture: read it with snapshot"));
        }
        if !profiler::is_started() {
            return Err(unavailable("the profiler is not started"));
        }
        signal::hear().map_err(unavailable)?;
        if !sampling::has_clocks() {
            return Err(unavailable("the system refuses the clocks of threads"));
        }
        profiler::see_to_tending();
        let rate = rate.clamp(1, Self::MAX_RATE);
        let began = (SystemTime::now(), Instant::now());
        let running = if kind == Kind::Wall {
            Running::Wall(wall::begin(rate, profiler::stack_depth()))
        } else {
            let running = cpu::begin(rate);
            Running::Cpu { running, before: merge::tallies(Source::Cpu, None) }
        };
        Ok(Self { kind, running, rate, began })
    }

    /// Ends the capture and returns the profile, in the configured view.
    #[must_use]
    pub fn finish(self) -> Profile {
        self.finish_with(profiler::default_view())
    }

    /// Ends the capture and returns the profile.
    ///
    /// CPU time of threads that came and went unseen, and what others used shortly before they ended,
    /// stands under `[unsampled]`.
    #[must_use]
    pub fn finish_with(self, view: View) -> Profile {
        let Self { kind, running, rate, began: (time, began) } = self;
        let period = 1_000_000_000 / i64::from(rate);
        let (rows, comment, reasons) = match running {
            Running::Cpu { running, before } => cpu_time(running, before, period),
            Running::Wall(running) => wall_time(&running, rate, began),
        };
        let duration = began.elapsed();
        let comment = reasons.into_iter().fold(comment, |comment, reason| comment + "; " + &reason);
        profiler::build(kind, view, period, time, &rows).captured(duration).remarked(vec![comment])
    }
}

/// Returns the CPU time since the rows of `before`, what there is to say of it, and why something is missing.
fn cpu_time(running: cpu::Running, before: (Rows, At), period: i64) -> (Rows, String, Vec<String>) {
    let (mut rows, at) = merge::tallies(Source::Cpu, None);
    let truth = running.truth();
    drop(running);
    let (before, began) = before;
    for (key, sums) in began.moved_until(&at, Source::Cpu, None) {
        merge::add(&mut rows, key, sums.values, None);
    }
    merge::subtract(&mut rows, before);
    let captured: i64 = rows.values().map(|sums| sums.values[1]).sum();
    let lost: i64 = rows
        .iter()
        .filter(|(key, _)| key.stack == Stack::Marker("[lost]"))
        .map(|(_, sums)| sums.values[0])
        .sum();
    // Nobody knows since when the handler was gone, or who blocks the signal: all that is missing is.
    let is_sure = truth.lost_handler == 0 && truth.missing.is_none();
    let sampled = if is_sure { truth.sampled } else { 0 };
    let unsampled = unsampled(truth.process, sampled, captured.cast_unsigned());
    merge::add(&mut rows, Key::of_marker("[unsampled]"), [0, unsampled, 0, 0], None);
    for sums in rows.values_mut() {
        // Timers run at the fastest rate of all captures; a sample is a period of this one.
        sums.values[0] = (sums.values[1] + period / 2) / period;
    }
    let reasons = reasons(truth.lost_handler, truth.missing, truth.refused_signals);
    (rows, comment(captured, unsampled, lost, truth), reasons)
}

/// CPU time of threads without a timer and at the ends of others, as far as it is missing: the clocks
/// are read at other moments than the samples are taken.
fn unsampled(process: u64, sampled: u64, captured: u64) -> i64 {
    let without_timer = process.saturating_sub(sampled);
    without_timer.min(process.saturating_sub(captured)).min(i64::MAX as u64).cast_signed()
}

/// What a capture says about its own truth, in nanoseconds.
fn comment(captured: i64, unsampled: i64, lost: i64, truth: Truth) -> String {
    let seconds = |nanoseconds: f64| format!("{:.3} s", nanoseconds / 1e9);
    format!(
        "captured {} of CPU time; by the clocks the process used {}, threads with a timer {}; {} in [unsampled]; {lost} samples lost; {} threads without a timer; {} threads block the signal",
        seconds(captured as f64),
        seconds(truth.process as f64),
        seconds(truth.sampled as f64),
        seconds(unsampled as f64),
        truth.refused,
        truth.deaf,
    )
}

/// Returns the wall-clock time since the beginning, what there is to say of it, and why something is missing.
fn wall_time(running: &wall::Running, rate: u32, began: Instant) -> (Rows, String, Vec<String>) {
    let Seen { rows, looks, used, lost_handler, missing, is_refused } = running.seen();
    let comment = looked(looks, used, rate, began.elapsed());
    (rows, comment, reasons(lost_handler, missing, is_refused))
}

/// Says how often threads were looked at, and why that was less often than was asked for, if it was.
fn looked(looks: u64, used: Duration, rate: u32, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let achieved = looks as f64 / seconds;
    let said = format!(
        "looked at all threads {looks} times in {seconds:.3} s: {achieved:.1} a second of {rate} asked for"
    );
    if achieved > 0.9 * f64::from(rate) {
        return said;
    }
    let a_look = used.as_secs_f64() / looks.max(1) as f64;
    if a_look * f64::from(wall::SHARE) * f64::from(rate) > 0.9 {
        let share = 100 / wall::SHARE;
        format!(
            "{said}, since a look takes {:.3} ms and all may take {share} % of a processor",
            a_look * 1e3
        )
    } else {
        format!("{said}, since the processors were busy or the time was short")
    }
}

/// Says why something is missing, as far as it is.
fn reasons(lost_handler: u64, missing: Option<&'static str>, is_refused: bool) -> Vec<String> {
    let replaced = (lost_handler > 0).then(|| {
        format!("the profiler's handler of SIGPROF was found replaced {lost_handler} times")
    });
    let refused = is_refused.then(|| format!("a thread {}", Silence::Refused.reason()));
    [replaced, missing.map(missing_threads), refused].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_looks_is_said_and_why_it_is_low() {
        let said =
            |looks, used| looked(looks, Duration::from_micros(used), 100, Duration::from_secs(2));
        let times = |looks, rate| {
            format!(
                "looked at all threads {looks} times in 2.000 s: {rate} a second of 100 asked for"
            )
        };
        assert_eq!(said(199, 2000), times(199, "99.5"));
        assert_eq!(
            said(30, 40_000),
            times(30, "15.0") + ", since a look takes 1.333 ms and all may take 2 % of a processor"
        );
        assert_eq!(
            said(30, 300),
            times(30, "15.0") + ", since the processors were busy or the time was short"
        );
        assert_eq!(
            said(0, 0),
            times(0, "0.0") + ", since the processors were busy or the time was short"
        );
    }
}
