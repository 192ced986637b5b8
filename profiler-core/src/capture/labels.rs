//! Labels in force on a thread: around a body, or around one call of a `#[profiled]` function.

use std::fmt::Display;
use std::marker::PhantomData;

use crate::buffer::thread::Thread;
use crate::labels::{InForce, LabelPairs, Labels, Set};

/// Runs `body` with labels in force on this thread, besides those in force already.
///
/// Everything that is recorded meanwhile on this thread carries them. Afterwards, also after a
/// panic, those from before are in force again. Threads started inside do not inherit them.
///
/// A set has 32 labels at the most. Sets take at most an eighth of
/// [`Config::memory`](crate::Config::memory); while there is no room for a further one, its values are
/// `[other]`.
///
/// ```
/// let sum = profiler_core::with_labels([("route", "/checkout")], || 1 + 1);
/// assert_eq!(sum, 2);
/// ```
pub fn with_labels<R>(labels: impl LabelPairs, body: impl FnOnce() -> R) -> R {
    let _restore = put(labels.pairs());
    body()
}

/// Puts labels in force until the guard is dropped, on the same thread.
pub(crate) fn put<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Option<Restore> {
    super::thread().map(|thread| {
        let before = thread.labels();
        let in_force = thread.label_cache.get(before, pairs);
        thread.set_labels(in_force.set());
        Restore { thread, before, _in_force: in_force, on_this_thread: PhantomData }
    })
}

/// Puts the labels from before in force when dropped.
#[derive(Debug)]
pub struct Restore {
    thread: &'static Thread,
    before: Option<&'static Set>,
    /// Given back after those from before are in force.
    _in_force: InForce,
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.thread.set_labels(self.before);
    }
}

/// The labels of one call. Nothing is made into text while the profiler is off.
#[derive(Debug)]
pub struct CallLabels(Option<Labels>);

impl CallLabels {
    /// Begins a call.
    #[inline]
    #[must_use]
    pub fn begin() -> Self {
        Self(super::is_on().then(Labels::new))
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
    labels.0.and_then(|labels| put(labels.pairs()))
}
