//! What is there now: safe reads of what capture publishes.

pub(crate) mod patience;
pub(crate) mod stacks;
pub(crate) mod threads;
pub(crate) mod wall;
