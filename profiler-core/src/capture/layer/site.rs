//! The call site of a tracing span: one for each `Metadata`, which is a static of its own.
//!
//! A table that only grows, so that entering a span takes no lock: making a call site allocates, and
//! an allocator may itself be traced. It is bounded by the spans in the program's source.

use std::ptr;

use tracing_core::Metadata;

use crate::callsite::{CallSite, Name};
use crate::first::First;

/// A program has some hundreds of spans; 512 buckets take 8 KiB.
const BUCKETS: usize = 512;

static TABLE: [Link; BUCKETS] = [const { First::new() }; BUCKETS];

/// The next entry of a bucket, set once.
type Link = First<Entry>;

struct Entry {
    metadata: &'static Metadata<'static>,
    site: CallSite,
    next: Link,
}

/// Returns the call site of a span, making it at the first call.
#[inline]
pub(super) fn of(metadata: &'static Metadata<'static>) -> &'static CallSite {
    let mut link = &TABLE[bucket(metadata)];
    while let Some(entry) = link.get() {
        if ptr::eq(entry.metadata, metadata) {
            return &entry.site;
        }
        link = &entry.next;
    }
    add(link, metadata)
}

fn bucket(metadata: &'static Metadata<'static>) -> usize {
    let address = ptr::from_ref(metadata).addr();
    // Statics stand side by side, some 128 bytes each; the upper half of a product depends on all.
    (address >> 3).wrapping_mul(0x9E37_79B9) >> 16 & (BUCKETS - 1)
}

/// Adds a call site at the end of a bucket, unless another thread just did.
#[cold]
#[inline(never)]
fn add(mut link: &'static Link, metadata: &'static Metadata<'static>) -> &'static CallSite {
    // Made before it is offered: this may come back here, through the allocator.
    let name = Name::Literal(format!("{}::{}", metadata.target(), metadata.name()).leak());
    let site = CallSite::new(name, metadata.file().unwrap_or(""), metadata.line().unwrap_or(0));
    let entry = Box::leak(Box::new(Entry { metadata, site, next: First::new() }));
    loop {
        let first = link.offer(entry);
        if ptr::eq(first.metadata, metadata) {
            // That of another thread, if it was faster; then ours is lost, once.
            return &first.site;
        }
        link = &first.next;
    }
}
