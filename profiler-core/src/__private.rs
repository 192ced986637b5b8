//! What the macros call; not a public interface.

pub use crate::callsite::{CallSite, Name};
