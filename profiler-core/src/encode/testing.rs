//! What the tests of profiles share.

use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use prost::Message;

use super::check::check_valid;
use super::pprof::encode;
use super::proto;
use crate::config::View;
use crate::kind::Kind;
use crate::merge::{Key, Rows, Stack, Sums, VALUES};
use crate::profile::{Profile, Reading, Resolver, build};

/// A reading with nothing configured.
pub(crate) fn reading(kind: Kind, view: View) -> Reading {
    Reading { kind, view, depth: 128, time: UNIX_EPOCH + Duration::from_secs(1_000_000_000) }
}

/// A key with nothing but a stack.
pub(crate) fn key(stack: Stack) -> Key {
    Key {
        stack,
        path: Arc::new([]),
        labels: Arc::new([]),
        waiting_for: None,
        lock: None,
        acquired_at: None,
        thread: None,
    }
}

/// A key with a machine stack.
pub(crate) fn native(addresses: &[u64]) -> Key {
    key(Stack::Native(addresses.into()))
}

/// Sums of a count and nanoseconds.
pub(crate) fn sums(count: i64, nanoseconds: i64) -> Sums {
    let mut values = [0; VALUES];
    [values[0], values[1]] = [count, nanoseconds];
    Sums { values, waits: None }
}

/// Builds a profile with a resolver of its own and checks that every reader would take it.
pub(crate) fn profile(reading: Reading, rows: Rows) -> Profile {
    let profile = build(reading, &rows, &Mutex::new(Resolver::new(1 << 20)));
    decode(&profile);
    profile
}

/// Encodes, decodes and checks.
pub(crate) fn decode(profile: &Profile) -> proto::Profile {
    let mut bytes = Vec::new();
    encode(profile, &mut bytes).expect("a vector grows");
    let message = proto::Profile::decode(&*bytes).expect("what we encode is a message");
    assert_eq!(check_valid(&message), Ok(()));
    message
}
