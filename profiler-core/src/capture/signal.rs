//! What a signal has the thread do that it strikes: record its CPU time, or say where it is.

use crate::buffer::answer::{QUESTIONS, Wanted};
use crate::buffer::record::Source;
use crate::capture;
use crate::per_process::PerProcess;
use crate::sys::sampling::{self, Cause, Struck};
use crate::sys::{self, Registers};

/// Has threads hear our signals, for good.
///
/// # Errors
///
/// A sentence that says why they cannot.
pub(crate) fn hear() -> Result<(), &'static str> {
    // Not a `OnceLock`: in the child of a fork, a thread that is not there may be in it for ever.
    static TURN: PerProcess<()> = PerProcess::new(|| ());
    // Whoever comes meanwhile waits: no timer must expire before the handler is there.
    let _turn = TURN.lock();
    sampling::on_signal(struck)
}

/// The handler: false if the signal is not ours.
fn struck(Struck { registers, cause }: Struck) -> bool {
    match cause {
        Cause::Timer { period, expiries } => {
            count(registers, expiries, period);
            true
        }
        Cause::Question => {
            // None may be left, if it was taken back.
            answer(registers);
            true
        }
        Cause::Lost => answer(registers),
    }
}

fn answer(at: Option<Registers>) -> bool {
    QUESTIONS.answer(sys::thread_id(), |answer| match answer.wanted {
        Wanted::Stack => answer.fill(at),
        Wanted::CpuTime { expiries, period } => count(at, expiries, period),
    })
}

fn count(at: Option<Registers>, expiries: u64, period: u64) {
    let nanoseconds = expiries.saturating_mul(period);
    let values = [expiries.cast_signed(), nanoseconds.cast_signed(), 0, 0];
    capture::record_struck(Source::Cpu, at, values);
}
