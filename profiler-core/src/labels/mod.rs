//! Labels that the application puts on what its threads do.

mod current;
mod intern;

pub use current::{Labels, with_labels};
pub(crate) use intern::{Set, bytes};
