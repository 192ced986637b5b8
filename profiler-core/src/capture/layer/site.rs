//! The call site of a tracing span: one for each `Metadata`, which is a static of its own.
//!
//! A table that only grows, so that entering a span takes no lock: making a call site allocates, and
//! an allocator may itself be traced. It is bounded by the spans in the program's source.

#![allow(unsafe_code, reason = "a list of entries that are never freed")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use tracing_core::Metadata;

use crate::callsite::{CallSite, Name};

/// A program has some hundreds of spans; 512 buckets take 8 KiB.
const BUCKETS: usize = 512;

static TABLE: [Link; BUCKETS] = [const { Link::new() }; BUCKETS];

/// The next entry of a bucket, set once. No `OnceLock`: in the child of a fork one stays locked for ever
/// that another thread was just setting.
struct Link(AtomicPtr<Entry>);

impl Link {
    const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline]
    fn get(&self) -> Option<&'static Entry> {
        // Acquire: pairs with the Release in `get_or_set`; the entry is initialised.
        let entry = self.0.load(Ordering::Acquire);
        // SAFETY: null, or set from a reference that lives for ever.
        unsafe { entry.as_ref() }
    }

    fn get_or_set(&self, entry: &'static Entry) -> &'static Entry {
        let new = ptr::from_ref(entry).cast_mut();
        // Release: pairs with the Acquire in `get`; on failure that of another, as there.
        let set =
            self.0.compare_exchange(ptr::null_mut(), new, Ordering::Release, Ordering::Acquire);
        match set {
            Ok(_) => entry,
            // SAFETY: not null, and set from a reference that lives for ever.
            Err(other) => unsafe { &*other },
        }
    }
}

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
    let entry = Box::leak(Box::new(Entry { metadata, site, next: Link::new() }));
    loop {
        let first = link.get_or_set(entry);
        if ptr::eq(first.metadata, metadata) {
            // That of another thread, if it was faster; then ours is lost, once.
            return &first.site;
        }
        link = &first.next;
    }
}
