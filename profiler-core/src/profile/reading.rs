//! What is read, and how it shall look.

use std::time::SystemTime;

use crate::kind::Kind;
use crate::view::View;

/// What is read, and how it shall look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) kind: Kind,
    pub(crate) view: View,
    /// How many frames of a stack are kept; the root side is cut.
    pub(crate) depth: usize,
    /// How many of what the kind's period counts make one.
    pub(crate) period: i64,
    /// When the rows were read.
    pub(crate) time: SystemTime,
}
