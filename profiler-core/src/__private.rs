//! What the macros call; not a public interface.

pub use profiler_macros::profiled_last;

pub use crate::callsite::{CallSite, Name};
pub use crate::capture::scope::{Entered, enter};
pub use crate::capture::{Labelled, Profiled, future, labelled};
pub use crate::labels::{Labels, Restore};

/// Puts the labels of one call in force until the guard is dropped.
pub fn enter_labels(labels: &Labels) -> Restore {
    crate::labels::put(labels)
}

/// Stands for the return type of an `async fn` in code that never runs.
#[must_use]
pub fn output<T>() -> T {
    unreachable!("only named to give an async block its type")
}
