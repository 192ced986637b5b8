//! Labels: what the application says of what its threads do.

mod cache;
mod intern;
mod pairs;

pub(crate) use cache::{Cache, InForce};
pub(crate) use intern::{Set, are_many, bytes, end_unused, without_values};
pub use pairs::{LabelPairs, Labels};
