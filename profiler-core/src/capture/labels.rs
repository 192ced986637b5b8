//! Labels in force on a thread: around a body, or around one call of a `#[profiled]` function.

use std::fmt::Display;
use std::marker::PhantomData;

use crate::labels::{Labels, Set, intern};

/// Runs `body` with labels in force on this thread, besides those in force already.
///
/// Everything that is recorded meanwhile on this thread carries them. Afterwards, also after a
/// panic, those from before are in force again. Threads started inside do not inherit them.
///
/// At most 4,096 distinct sets are kept in a process, of 32 labels each; the values of further ones
/// are `[other]`.
///
/// ```
/// let sum = profiler_core::with_labels([("route", "/checkout")], || 1 + 1);
/// assert_eq!(sum, 2);
/// ```
pub fn with_labels<R>(labels: impl Into<Labels>, body: impl FnOnce() -> R) -> R {
    let _restore = put(&labels.into());
    body()
}

/// Puts labels in force until the guard is dropped, on the same thread.
pub(crate) fn put(labels: &Labels) -> Restore {
    let before = super::thread().map(|thread| {
        let before = thread.labels();
        let inherited = before.into_iter().flat_map(Set::iter);
        thread.set_labels(intern(inherited.chain(labels.iter())));
        before
    });
    Restore { before, on_this_thread: PhantomData }
}

/// Puts the labels from before in force when dropped.
#[derive(Debug)]
pub struct Restore {
    /// Nothing if the profiler was off.
    before: Option<Option<&'static Set>>,
    on_this_thread: PhantomData<*const ()>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = self.before
            && let Some(thread) = super::thread()
        {
            thread.set_labels(before);
        }
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
    labels.0.map(|labels| put(&labels))
}
