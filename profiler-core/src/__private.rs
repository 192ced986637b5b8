//! What the macros call; not a public interface.

pub use profiler_macros::profiled_last;

pub use crate::callsite::{CallSite, Name};
pub use crate::capture::labels::Restore;
pub use crate::capture::scope::{Entered, enter};
pub use crate::capture::{CallLabels, Labelled, Profiled, enter_labels, future, labelled};

/// Stands for the return type of an `async fn` in code that never runs.
#[must_use]
pub fn output<T>() -> T {
    unreachable!("only named to give an async block its type")
}
