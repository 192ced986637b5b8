//! Memory of the whole process: what Rust holds, what the system counts.

use crate::capture::alloc;
use crate::sys;

/// Bytes of this process, to tell a leak from what C code holds and from memory that the allocator
/// keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// What Rust code allocated and freed; nothing if the global allocator is no
    /// [`ProfiledAllocator`](crate::ProfiledAllocator).
    pub allocations: Option<Allocations>,
    /// Bytes that are resident now, whoever asked for them; nothing where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// The most that ever was.
    pub peak_resident_bytes: Option<u64>,
}

/// Exact sums since the process began. A `realloc` is a free and an allocation; an allocation of less than
/// 4 KiB that fails is counted as if it had not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Allocations {
    /// Bytes that were ever allocated.
    pub allocated_bytes: u64,
    /// How often something was allocated.
    pub allocated_objects: u64,
    /// Bytes that were freed.
    pub freed_bytes: u64,
    /// How often something was freed.
    pub freed_objects: u64,
}

impl Allocations {
    /// Returns the bytes that are allocated now.
    #[must_use]
    pub const fn live_bytes(&self) -> u64 {
        self.allocated_bytes.saturating_sub(self.freed_bytes)
    }

    /// Returns how many objects are allocated now.
    #[must_use]
    pub const fn live_objects(&self) -> u64 {
        self.allocated_objects.saturating_sub(self.freed_objects)
    }
}

/// Reads what the process holds; before [`start`](crate::start) too.
#[must_use]
pub fn memory() -> Memory {
    let allocations = alloc::is_installed().then(|| {
        let totals = alloc::totals();
        Allocations {
            allocated_bytes: totals.allocated_bytes,
            allocated_objects: totals.allocated_objects,
            freed_bytes: totals.freed_bytes,
            freed_objects: totals.freed_objects,
        }
    });
    let (resident_bytes, peak_resident_bytes) = sys::resident_bytes();
    Memory { allocations, resident_bytes, peak_resident_bytes }
}

/// Has the allocator give unused memory back to the system, where it has a call for that: the C
/// library's and that of [`ProfiledAllocator::with_release`](crate::ProfiledAllocator::with_release).
///
/// May take long while it holds the allocator's locks. `heap?gc=1` calls it.
pub fn release_memory() {
    if let Some(release) = alloc::release() {
        release();
    }
    sys::release_memory();
}
