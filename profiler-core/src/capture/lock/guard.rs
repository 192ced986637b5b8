//! A guard's state that is given up and got again, behind a reference that must stay valid.

#![allow(unsafe_code, reason = "a guard is moved out of a reference and another one moved in")]

use std::ptr;

/// Gives a guard up and writes the next one in its place; ends the process if that panics.
///
/// # Safety
///
/// `guard` is used up by `release`, and by nobody else.
pub(super) unsafe fn replace_guard<G>(
    guard: &mut G,
    release: impl FnOnce(G),
    acquire: impl FnOnce() -> G,
) {
    let bomb = AbortOnUnwind;
    // SAFETY: valid for reads; a new guard is written in its place, or the process ends.
    release(unsafe { ptr::read(guard) });
    let again = acquire();
    // SAFETY: valid for writes; the old guard was used up.
    unsafe { ptr::write(guard, again) };
    std::mem::forget(bomb);
}

/// Ends the process when a panic would leave a guard without its lock.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}
