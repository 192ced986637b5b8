//! Labels: what the application says of what its threads do.

mod intern;
mod pairs;

pub(crate) use intern::{Set, bytes, intern};
pub use pairs::Labels;
