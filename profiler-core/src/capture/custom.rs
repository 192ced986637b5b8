//! Profiles of the application's own: how many of its things there are, and where they came from.

use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::buffer::record::{Header, Source};
use crate::buffer::row::HeldRow;
use crate::capture::{self, Prepared};
use crate::first::First;
use crate::kind::Kind;

/// The profile that was entered first; each knows the next.
static FIRST: First<CustomProfile> = First::new();

/// A profile of the application's own: a count of things that exist, by where they were made.
///
/// Served as `/debug/pprof/NAME`. Two profiles of one name are one. The name should be of letters,
/// digits and `_`, which every server takes.
///
/// ```
/// use profiler_core::{Config, CustomProfile, Kind};
///
/// static CONNECTIONS: CustomProfile = CustomProfile::new("connections");
///
/// profiler_core::start(Config::default())?;
/// let entry = CONNECTIONS.enter();
/// assert_eq!(profiler_core::snapshot(Kind::Custom("connections"))?.totals(), [1]);
/// drop(entry);
/// assert_eq!(profiler_core::snapshot(Kind::Custom("connections"))?.totals(), [0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CustomProfile {
    name: &'static str,
    listed: AtomicBool,
    next: First<Self>,
}

impl CustomProfile {
    /// Makes a profile of that name, which is listed from the first entry on.
    ///
    /// # Panics
    ///
    /// If the name is empty or that of an endpoint which is there already or is Go's; in a `static`
    /// the compiler says so.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        assert!(!is_taken(name), "a custom profile needs a name that no other endpoint has");
        Self { name, listed: AtomicBool::new(false), next: First::new() }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Counts one more, here, until the entry is dropped, on any thread.
    ///
    /// While the profiler is off nothing is counted, also not later.
    #[must_use = "the entry counts until it is dropped"]
    pub fn enter(&'static self) -> Entry {
        if !capture::is_on() {
            return Entry { counted: None };
        }
        // Relaxed, both: a hint; who lists it twice finds it.
        if !self.listed.load(Ordering::Relaxed) {
            let mut there = FIRST.offer(self);
            while !ptr::eq(there, self) {
                there = there.next.offer(self);
            }
            self.listed.store(true, Ordering::Relaxed);
        }
        let header = Header { name: Some(self.name), ..Header::new(Source::Custom) };
        let prepared = Prepared::new(header);
        prepared.add([1, 0, 0, 0]);
        Entry { counted: Some((prepared.into_row(), header)) }
    }
}

/// Names of Go's endpoints that are no kinds here, so that none changes its meaning later.
const RESERVED: &[&str] = &["", "cmdline", "goroutineleak", "symbol", "trace"];

const fn is_taken(name: &str) -> bool {
    let mut index = 0;
    while index < RESERVED.len() {
        if equal(name, RESERVED[index]) {
            return true;
        }
        index += 1;
    }
    index = 0;
    while index < Kind::ALL.len() {
        if equal(name, Kind::ALL[index].name()) {
            return true;
        }
        index += 1;
    }
    false
}

/// Compares texts where `==` cannot be called, in constants.
const fn equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut index = 0;
    while index < a.len() && index < b.len() && a[index] == b[index] {
        index += 1;
    }
    index == a.len() && index == b.len()
}

/// Returns the names of all profiles that were ever entered, each once.
pub(crate) fn names() -> Vec<&'static str> {
    let all = std::iter::successors(FIRST.get(), |profile| profile.next.get());
    let mut names: Vec<_> = all.map(|profile| profile.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// One thing that exists; see [`CustomProfile::enter`].
#[derive(Debug)]
pub struct Entry {
    /// Nothing if the profiler was off; no row if the entry went to the emergency tally.
    counted: Option<(Option<HeldRow>, Header)>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        match &self.counted {
            // On any thread: the row that it was counted in.
            Some((Some(row), _)) => row.add_shared([0, 1]),
            Some((None, header)) => capture::lose(header, [-1, 0, 0, 0]),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_endpoints_are_taken() {
        for name in ["", "mutex", "threadcreate", "cmdline", "heap"] {
            assert!(is_taken(name), "{name}");
        }
        for name in ["mute", "mutexes", "connections", "my/custom.things"] {
            assert!(!is_taken(name), "{name}");
        }
    }
}
