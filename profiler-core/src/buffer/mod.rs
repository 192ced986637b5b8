//! What the application's threads write and a reader reads, without either waiting for the other.
//!
//! The protocols are told in `README.md` beside this file.

pub(crate) mod account;
pub(crate) mod answer;
pub(crate) mod archive;
pub(crate) mod counters;
pub(crate) mod emergency;
pub(crate) mod live_set;
pub(crate) mod living;
pub(crate) mod moment;
pub(crate) mod names;
#[cfg_attr(
    not(feature = "tracing"),
    allow(dead_code, reason = "what tracing's layer enters is all that there is")
)]
pub(crate) mod opened;
pub(crate) mod origin;
pub(crate) mod primitive;
pub(crate) mod question;
pub(crate) mod record;
pub(crate) mod registry;
mod rest;
pub(crate) mod row;
mod side;
mod slot;
#[cfg_attr(
    not(feature = "tracing"),
    allow(dead_code, reason = "what tracing's layer enters is all that there is")
)]
pub(crate) mod strays;
pub(crate) mod table;
pub(crate) mod tally;
pub(crate) mod thread;
pub(crate) mod tree;
pub(crate) mod vicinity;
pub(crate) mod wait;
pub(crate) mod writer;
