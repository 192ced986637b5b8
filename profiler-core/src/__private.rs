//! What the macros call; not a public interface.

pub use crate::callsite::{CallSite, Name};
pub use crate::capture::Profiled;
pub use crate::capture::scope::{Entered, enter};
