//! Where there are no timers on the CPU clocks of threads.

use super::Registers;

/// What a timer's signal has struck: never made here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Struck {
    pub(crate) registers: Registers,
    pub(crate) period: u64,
    pub(crate) expiries: u64,
}

pub(crate) const fn on_timer(_: fn(Struck)) -> bool {
    false
}

#[derive(Debug)]
pub(crate) struct Timer;

impl Timer {
    pub(crate) const fn start(_: u32, _: u64, _: u64) -> Option<Self> {
        None
    }
}

pub(crate) const fn thread_cpu(_: u32) -> Option<u64> {
    None
}

pub(crate) const fn process_cpu() -> u64 {
    0
}

pub(crate) const fn threads() -> Vec<u32> {
    Vec::new()
}
