//! The labels in force on this thread.

use std::marker::PhantomData;

use super::intern::{Set, intern};
use crate::capture;

/// Labels: keys and values, of which a later one replaces an earlier one of the same key.
///
/// A key or value of more than 256 bytes is cut; empty ones are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "labels do nothing until they are put in force"]
pub struct Labels {
    pairs: Vec<(String, String)>,
}

impl Labels {
    /// Returns no labels.
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// Adds a label.
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.pairs.push((key.into(), value.to_string()));
        self
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Labels {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self { pairs: pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect() }
    }
}

/// Runs `body` with labels in force on this thread, besides those in force already.
///
/// Everything that is recorded meanwhile on this thread carries them. Afterwards, also after a
/// panic, those from before are in force again. Threads started inside do not inherit them.
///
/// At most 4,096 distinct sets are kept in a process; the values of further ones are `[other]`.
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
    let before = capture::thread().map(|thread| {
        let before = thread.labels();
        let inherited = before.into_iter().flat_map(Set::iter);
        let added = labels.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        thread.set_labels(intern(inherited.chain(added)));
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
            && let Some(thread) = capture::thread()
        {
            thread.set_labels(before);
        }
    }
}
