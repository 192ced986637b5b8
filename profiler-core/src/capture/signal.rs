//! What a signal has the thread do that it strikes: record its CPU time, or say where it is.

use crate::buffer::account::{self, Account};
use crate::buffer::answer::QUESTIONS;
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
        // Periods or none: another signal may have come before, or the account may be closed.
        Cause::CpuTime { account } => {
            count(account::numbered(account), registers);
            true
        }
        // None may be left, if it was taken back.
        Cause::Question => {
            answer(registers);
            true
        }
        Cause::Lost => {
            let counts = count(account::of_thread(sys::thread_id()), registers);
            answer(registers) | counts
        }
    }
}

fn answer(at: Option<Registers>) -> bool {
    QUESTIONS.answer(sys::thread_id(), |answer| answer.fill(at))
}

/// Records the CPU time that is due; false if none is.
fn count(account: Option<&Account>, at: Option<Registers>) -> bool {
    let due = account.and_then(|account| account.take(sys::thread_id(), sampling::own_cpu()));
    let Some((periods, period)) = due else { return false };
    let nanoseconds = periods.saturating_mul(period);
    let values = [periods.cast_signed(), nanoseconds.cast_signed(), 0, 0];
    capture::record_struck(Source::Cpu, at, values);
    true
}
