//! A library with the profiler in it, which a program loads while it runs.

#![allow(unsafe_code, reason = "the program finds the function by its name")]

use profiler_core::{Capture, Config, Kind, ThreadView, View, snapshot_with};

/// Returns 0 if captures are refused with the reason, and what interrupts nobody works; else where not.
// No other function has that name.
#[unsafe(no_mangle)]
pub extern "C" fn profiles_what_it_can() -> u32 {
    if profiler_core::start(Config::default()).is_err() {
        return 1;
    }
    for (number, kind) in [(2, Kind::Profile), (3, Kind::Wall)] {
        match Capture::start(kind) {
            Err(error) if error.to_string().contains("loaded by dlopen") => {}
            _ => return number,
        }
    }
    let all = View::default().threads(ThreadView::All);
    let counted = snapshot_with(Kind::Goroutine, all).is_ok_and(|threads| threads.totals()[0] > 0);
    if counted { 0 } else { 4 }
}
