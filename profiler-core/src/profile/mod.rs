//! Stage 3: a profile as a value, with names.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use crate::kind::Kind;

/// A profile that has been read: samples, stacks and names, ready to be written.
#[derive(Debug, Clone)]
pub struct Profile {
    kind: Kind,
    time: SystemTime,
    duration: Duration,
}

/// One function of [`Profile::top`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopEntry {
    /// The function's name.
    pub name: String,
    /// What the function itself accounts for, in the unit of the column.
    pub flat: i64,
    /// The same with all that it called.
    pub cum: i64,
}

impl Profile {
    /// Returns which profile this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Returns the sum of each column, in the order of [`Kind::values`].
    #[must_use]
    pub fn totals(&self) -> Vec<i64> {
        Vec::new()
    }

    /// Writes the profile as `go tool pprof` reads it: gzip of one `perftools.profiles.Profile`.
    ///
    /// # Errors
    ///
    /// What the writer returns.
    pub fn write_to(&self, writer: impl Write) -> io::Result<()> {
        let _ = writer;
        Ok(())
    }

    /// Writes the legacy text form, as `debug=1` gives it.
    ///
    /// # Errors
    ///
    /// What the writer returns.
    pub fn write_text(&self, writer: impl Write) -> io::Result<()> {
        let _ = writer;
        Ok(())
    }

    /// Returns the `most` functions with the largest flat value of the last column, largest first.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<TopEntry> {
        let _ = most;
        Vec::new()
    }

    /// Returns what has come since `earlier`: the difference, sample by sample.
    ///
    /// Samples with no difference are left out; negative values stay.
    ///
    /// # Panics
    ///
    /// If the two are of different kinds.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        assert_eq!(self.kind, earlier.kind, "a difference needs two profiles of one kind");
        self.clone()
    }
}
