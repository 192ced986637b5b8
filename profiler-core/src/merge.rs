//! Stage 2: the sum of all tallies.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use crate::callsite::CallSite;

/// Number of columns a record has at the most.
pub(crate) const VALUES: usize = 4;

/// The stack of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Stack {
    /// Addresses of instructions, leaf first: each lies inside its call, so return addresses have
    /// been taken back by one already. May be empty.
    Native(Box<[u64]>),
    /// Time that belongs to no stack, under a name in brackets, for example `[handoff]`.
    Marker(&'static str),
}

/// Everything that tells one row from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) stack: Stack,
    /// The span path, leaf first.
    pub(crate) path: Arc<[&'static CallSite]>,
    /// The user's labels, sorted by key, keys unique.
    pub(crate) labels: Arc<[(Arc<str>, Arc<str>)]>,
    /// The kind of thing waited for, for example `mutex`; the label `kind`.
    pub(crate) waiting_for: Option<&'static str>,
    /// The name of the lock; the label `lock`.
    pub(crate) lock: Option<&'static str>,
    /// Where the lock was acquired; the label `acquired_at`.
    pub(crate) acquired_at: Option<&'static Location<'static>>,
    /// The name of the thread; the label `thread`. Only in live profiles.
    pub(crate) thread: Option<Arc<str>>,
}

/// Buckets of the numeric label `wait`: powers of four from 1 ns to 4^18 ns (69 s) and longer.
pub(crate) const WAIT_BUCKETS: usize = 19;

/// Count and nanoseconds by duration of the single wait; bucket `i` holds waits of at least `4^i`
/// and less than `4^(i+1)` nanoseconds, the last one all longer waits too.
pub(crate) type Waits = [(i64, i64); WAIT_BUCKETS];

/// The sums of one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) values: [i64; VALUES],
    /// Only for `block`.
    pub(crate) waits: Option<Box<Waits>>,
}

/// All rows of one kind, summed over all tallies.
pub(crate) type Rows = HashMap<Key, Sums>;
