//! Where threads have no timers on their CPU clocks, and none is interrupted.

use super::Registers;

/// What a signal has struck: never made here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Struck {
    pub(crate) registers: Option<Registers>,
    pub(crate) cause: Cause,
}

#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "never made here")]
pub(crate) enum Cause {
    CpuTime { account: u32 },
    Question,
    Lost,
}

pub(crate) const fn on_signal(_: fn(Struck) -> bool) -> Result<(), &'static str> {
    Err("threads can be sampled on Linux x86_64 and aarch64 only")
}

pub(crate) const fn keep_hearing() -> Result<(), &'static str> {
    Ok(())
}

pub(crate) const fn lost_handler() -> u64 {
    0
}

pub(crate) const fn forked() {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "never made here")]
pub(crate) enum Sent {
    Yes,
    Gone,
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    CpuTime(#[allow(dead_code, reason = "nobody is interrupted")] u32),
    Question,
}

pub(crate) const fn interrupt(_: u32, _: Purpose) -> Sent {
    Sent::Refused
}

#[derive(Debug)]
pub(crate) struct Timer;

impl Timer {
    pub(crate) const fn start(_: u32, _: u32, _: u64, _: u64) -> Option<Self> {
        None
    }

    pub(crate) const fn is_of_living(&self, _: u32) -> bool {
        false
    }
}

pub(crate) const fn tick() -> u64 {
    0
}

pub(crate) const fn thread_cpu(_: u32) -> Option<u64> {
    None
}

pub(crate) const fn has_clocks() -> bool {
    false
}

pub(crate) const fn own_cpu() -> u64 {
    0
}

pub(crate) const fn process_cpu() -> u64 {
    0
}
