//! Labels that the application puts on what its threads do.

mod current;
mod intern;

pub(crate) use current::put;
pub use current::{Labels, Restore, with_labels};
pub(crate) use intern::{Set, bytes};
