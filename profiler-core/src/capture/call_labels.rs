//! The labels that `#[profiled(labels(key = expression))]` puts on one call.

use std::fmt::Display;

use crate::capture;
use crate::labels::{self, Labels, Restore};

/// The labels of one call. Nothing is made into text while the profiler is off.
#[derive(Debug)]
pub struct CallLabels(Option<Labels>);

impl CallLabels {
    /// Begins a call.
    #[inline]
    #[must_use]
    pub fn begin() -> Self {
        Self(capture::is_on().then(Labels::new))
    }

    /// Adds a label.
    #[inline]
    #[must_use]
    pub fn with<V: Display + ?Sized>(self, key: &'static str, value: &V) -> Self {
        Self(self.0.map(|labels| labels.with(key, value)))
    }

    /// Returns them; none if the profiler was off when the call began.
    pub(super) fn into_labels(self) -> Labels {
        self.0.unwrap_or_default()
    }
}

/// Puts the labels of one call in force until the guard is dropped.
#[inline]
pub fn enter_labels(labels: CallLabels) -> Option<Restore> {
    labels.0.map(|labels| labels::put(&labels))
}
