//! Stage 3: a profile as a value, with names.
//!
//! [`build_among`] turns merged rows into a [`Profile`]: it names addresses, trims the profiler's own
//! frames, forms labels, and sums what has become equal. Values in, values out; only
//! [`Resolver`] reads files.

mod allocation;
mod build;
mod cache;
mod debug_info;
mod elf;
mod function;
mod handle;
mod idle;
mod labels;
mod location;
mod mapped;
mod mapping;
mod mappings;
mod module;
mod moved;
mod name;
mod opened;
mod pseudo;
mod reading;
mod separate;
mod since;
mod source;
mod stacks;
mod symbolize;
mod top;
mod trim;
mod view;

use std::fmt;
use std::time::{Duration, SystemTime};

pub(crate) use build::{build_among, mappings};
pub(crate) use function::{Function, Line};
pub(crate) use labels::{Label, LabelSet, Value};
pub(crate) use location::{Location, Sample as Row};
pub(crate) use mapping::{Mapping, PSEUDO};
pub(crate) use mappings::Mappings;
pub(crate) use reading::Reading;
pub(crate) use symbolize::Resolver;
pub use top::TopEntry;
pub use view::{Frame, LabelValue, Sample};

use crate::kind::Kind;
use crate::memory::Memory;
use crate::merge::At;
use crate::view::View;

/// A profile that has been read: samples, stacks and names, ready to be written.
///
/// A stack is that of the machine, without the frames of the profiler and of the locks at its leaf, and of the library if it has
/// called them there (a vector that drops guards), and without the system's at its root, or the path of spans. Names in brackets are no functions:
///
/// | name | what stands under it |
/// |---|---|
/// | `[handoff]` | time between the release of a lock and the moment its waiter runs |
/// | `[overflow]` | records whose stack is not kept, for want of room in [`Config::memory`](crate::Config::memory); allocations of all sizes |
/// | `[lost]` | records of which only the values could be kept: in `heap`, allocations of threads that could not be joined, and, as freed, those for which the table of live samples had no memory |
/// | `[unsampled]` | CPU time of threads that came and went before they had a timer, and of the ends of others, which the kernel did not see |
/// | `[unknown]` | threads of which it is not known where they were created; in `goroutine`, what they do |
/// | `[running]`, `[semacquire]`, `[sleep]`, `[IO wait]`, `[syscall]`, `[uninterruptible]`, `[stopped]` | threads that do this, by what the kernel says, whose stack is not known |
/// | `[no span]` | records outside any span, where a stack is the path of spans |
///
/// Labels are `kind` (what was waited for), `lock` (its name) and the application's own, others on
/// request ([`LabelView`](crate::LabelView)). Text labels become series in some servers, so a
/// profile has at most 200 distinct sets of them: those with the smallest sums share one, in which
/// every label whose values differ reads `[other]`.
#[derive(Clone)]
pub struct Profile {
    kind: Kind,
    /// How many of [`Kind::period_type`] one sample stands for in the mean.
    period: i64,
    time: SystemTime,
    /// Zero unless it is a difference or a capture.
    duration: Duration,
    /// What it says about its own truth.
    comments: Vec<String>,
    /// What the process held when a profile of the heap was read.
    memory: Option<Memory>,
    /// When its rows were read, and in which view they are shown; nothing where no difference needs it.
    read_at: Option<(At, View)>,
    /// One for each executable part of a file in memory, the program's own first.
    mappings: Vec<Mapping>,
    /// In the order of first use.
    locations: Vec<Location>,
    labels: Vec<LabelSet>,
    /// Largest value of [`Kind::default_column`] first.
    samples: Vec<Row>,
}

impl Profile {
    /// Returns which profile this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn period(&self) -> i64 {
        self.period
    }

    /// Returns when it was read.
    #[must_use]
    pub const fn time(&self) -> SystemTime {
        self.time
    }

    /// Returns how much time it covers; zero unless it is a difference of two
    /// (see [`Profile::since`]) or a [`Capture`](crate::Capture).
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// Notes how much time the profile covers.
    pub(crate) const fn captured(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// Adds what there is to say about it, before what was said already.
    pub(crate) fn remarked(mut self, comments: Vec<String>) -> Self {
        self.comments.splice(..0, comments);
        self
    }

    /// Notes what the process held when the profile was read.
    pub(crate) fn with_memory(mut self, memory: Option<Memory>) -> Self {
        self.memory = memory;
        self
    }

    /// Notes when the rows were read.
    pub(crate) fn with_moment(mut self, at: At, view: View) -> Self {
        self.read_at = Some((at, view));
        self
    }

    /// Returns when the rows were read, and the view.
    pub(crate) const fn moment(&self) -> Option<&(At, View)> {
        self.read_at.as_ref()
    }

    pub(crate) const fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Returns what the profile says about its own truth: a capture of CPU time how much of what the process used it
    /// holds, any profile why something is missing that the system refuses.
    #[must_use]
    pub fn comments(&self) -> &[String] {
        &self.comments
    }

    /// Returns the number of samples.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.samples.len()
    }

    /// Returns whether it has no samples.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Returns the sum of each column, in the order of [`Kind::values`].
    #[must_use]
    pub fn totals(&self) -> Vec<i64> {
        let mut totals = vec![0_i64; self.columns()];
        for sample in &self.samples {
            for (total, value) in totals.iter_mut().zip(sample.values) {
                *total = total.wrapping_add(value);
            }
        }
        totals
    }

    fn columns(&self) -> usize {
        self.kind.values().len()
    }

    pub(crate) fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    pub(crate) fn locations(&self) -> &[Location] {
        &self.locations
    }

    pub(crate) fn label_sets(&self) -> &[LabelSet] {
        &self.labels
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.samples
    }
}

// The samples would fill screens.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("kind", &self.kind)
            .field("time", &self.time)
            .field("duration", &self.duration)
            .field("samples", &self.samples.len())
            .field("totals", &self.totals())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) use {build::build_with, function::Resolved, symbolize::Found, trim::Cut};
