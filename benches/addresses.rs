//! An allocator of addresses without memory, for heaps larger than the machine.

#![allow(unsafe_code, reason = "an allocator, over a mapping that nobody may touch")]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// How many bytes of addresses there are.
const RANGE: usize = 64 << 30;

/// Hands out each address once; blocks must not be touched.
#[derive(Debug)]
pub struct Addresses {
    base: AtomicPtr<u8>,
    used: AtomicUsize,
}

impl Addresses {
    /// Makes an allocator that has no addresses yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { base: AtomicPtr::new(ptr::null_mut()), used: AtomicUsize::new(0) }
    }

    /// Reserves the addresses. To be called before anything is allocated.
    ///
    /// # Panics
    ///
    /// If the system refuses 64 GiB of addresses.
    pub fn reserve(&self) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a mapping of its own.
        let base = unsafe { libc::mmap(ptr::null_mut(), RANGE, libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "64 GiB of addresses");
        self.base.store(base.cast(), Ordering::Relaxed);
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: each address is handed out once. That a block is memory is not so, which is why nobody may
// touch one.
unsafe impl GlobalAlloc for &Addresses {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let align = layout.align().max(16);
        let size = layout.size().next_multiple_of(align) + align - 16;
        let start = self.used.fetch_add(size, Ordering::Relaxed).next_multiple_of(align);
        if start + size > RANGE {
            return ptr::null_mut();
        }
        // SAFETY: within the range.
        unsafe { self.base.load(Ordering::Relaxed).add(start) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
