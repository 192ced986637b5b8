//! Starting and reading: the only file that knows both capture and profiles.

use std::io::{self, Write};

use crate::config::{Config, Rates, View};
use crate::error::{StartError, Unavailable};
use crate::kind::Kind;
use crate::profile::Profile;

/// What the profiler says about itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Whether it was started.
    pub started: bool,
    /// Threads known and alive.
    pub threads: usize,
    /// Records taken since the start.
    pub records: u64,
    /// Records whose stack had no room and stand under `[overflow]`.
    pub overflowed: u64,
    /// Bytes held by tallies, span paths and labels.
    pub bytes: usize,
}

/// Starts the profiler: from now on it records.
///
/// # Errors
///
/// It was started before; the error names the place of the first start.
#[track_caller]
pub fn start(config: Config) -> Result<(), StartError> {
    let _ = config;
    Ok(())
}

/// Changes what is recorded from now on; what was recorded stays as it is.
pub fn set_rates(rates: Rates) {
    let _ = rates;
}

/// Returns what is recorded now.
#[must_use]
pub fn rates() -> Rates {
    Rates::default()
}

/// Returns the view that the configuration asks for.
#[must_use]
pub fn default_view() -> View {
    View::default()
}

/// Returns what the profiler says about itself.
#[must_use]
pub fn stats() -> Stats {
    Stats::default()
}

/// Returns every profile there is, sorted by name: the built-in ones and the application's own.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    Kind::ALL.to_vec()
}

/// Returns how many rows a profile has now, as the index page shows it.
#[must_use]
pub fn count(kind: Kind) -> usize {
    let _ = kind;
    0
}

/// Reads a profile in the configured view.
///
/// # Errors
///
/// This platform or build cannot give it.
pub fn snapshot(kind: Kind) -> Result<Profile, Unavailable> {
    snapshot_with(kind, default_view())
}

/// Reads a profile.
///
/// # Errors
///
/// This platform or build cannot give it.
pub fn snapshot_with(kind: Kind, view: View) -> Result<Profile, Unavailable> {
    let _ = view;
    Err(Unavailable { kind, reason: "not yet" })
}

/// Returns the mangled name of the function at an address of this process, or nothing.
#[must_use]
pub fn symbol(address: u64) -> Option<String> {
    let _ = address;
    None
}

/// Writes every known thread by itself: what it does or waits for, since when, who holds what it
/// waits for, and its stack. The form is that of `goroutine?debug=2` in Go.
///
/// # Errors
///
/// What the writer returns.
pub fn write_threads(writer: impl Write) -> io::Result<()> {
    let _ = writer;
    Ok(())
}
