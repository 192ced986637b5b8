//! Every platform that has no file of its own: nothing native is known.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::{Activity, Hearing, Registers, StackBounds};

pub(super) fn supported() -> Result<(), &'static str> {
    Err("native stacks and threads are known on Linux x86_64 and aarch64 only")
}

/// A counter: numbers are not used twice, so a number tells one thread for ever.
pub(super) fn thread_id() -> u32 {
    // Relaxed: only that each thread gets another number matters.
    static NEXT: AtomicU32 = AtomicU32::new(1);
    thread_local!(static ID: Cell<u32> = const { Cell::new(0) });
    ID.with(|id| {
        if id.get() == 0 {
            id.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        id.get()
    })
}

pub(super) const fn is_thread_alive(_: u32) -> bool {
    true
}

/// There are no handlers.
pub(crate) const fn assert_may_allocate() {}

pub(super) fn while_no_timer_strikes<R>(body: impl FnOnce() -> R) -> R {
    body()
}

pub(super) const fn thread_name(_: u32) -> Option<String> {
    None
}

pub(super) fn threads() -> Result<Vec<u32>, &'static str> {
    supported().map(|()| Vec::new())
}

pub(super) const fn thread_activity(_: u32) -> Option<(String, Activity)> {
    None
}

pub(super) const fn hearing(_: u32) -> Hearing {
    Hearing::Untold
}

pub(super) const fn waits_of_running(_: u32) -> Option<u64> {
    None
}

pub(super) const fn blocks_timers(_: u32) -> bool {
    true
}

pub(super) const fn stack_bounds() -> Option<StackBounds> {
    None
}

pub(super) const fn stack_from(_: Registers, _: Option<StackBounds>) -> Option<StackBounds> {
    None
}

pub(super) const fn read_memory(_: usize, _: &mut [u8]) -> usize {
    0
}

pub(super) const fn memory_maps() -> String {
    String::new()
}

pub(super) const fn resident_bytes() -> (Option<u64>, Option<u64>) {
    (None, None)
}

pub(super) const fn release_memory() {}

pub(super) const fn advise_huge_pages(_: &mut [u8]) {}

pub(super) const fn unmap_memory(_: *mut u8, _: usize) {}

pub(super) const fn map_memory(_: usize) -> *mut u8 {
    std::ptr::null_mut()
}

/// Allocates nothing, since the allocator asks too.
pub(super) fn monotonic_nanoseconds() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) const fn cycle_counter() -> u64 {
    0
}

pub(super) const fn cycle_counter_is_steady() -> bool {
    false
}

pub(super) const fn on_quit() -> bool {
    false
}

pub(super) const fn quit_here() {}

pub(super) const fn is_quitting() -> bool {
    false
}

pub(super) const fn quit() {}

pub(super) const fn write_error(_: &[u8]) {}
