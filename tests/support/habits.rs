//! Inner allocators with other habits than the system's, all of them allowed.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Gives addresses that are a multiple of the alignment and never of twice that: ≡ 8 mod 16 for
/// most blocks, odd ones for an alignment of 1.
#[derive(Debug)]
pub struct Tight;

/// Begins each block at a page of its own, and reallocates in place within the last page.
#[derive(Debug)]
pub struct Paged;

/// Hands out what was given back last at once, if it fits; blocks are of a few sizes.
#[derive(Debug)]
pub struct Reusing(Mutex<Vec<(usize, Layout)>>);

/// Cuts blocks from one piece of memory, with no more between them than the alignment asks for.
/// The last one is reallocated in place and can be given back; all others once none is left.
#[derive(Debug)]
pub struct Bump(Mutex<Arena>);

/// Hands out the address that it is told to, and keeps what it is given back.
#[derive(Debug)]
pub struct Told(Mutex<Option<usize>>);

#[derive(Debug)]
struct Arena {
    start: usize,
    used: usize,
    blocks: usize,
}

/// Bytes of a [`Bump`] allocator.
const ARENA: usize = 64 << 20;
const PAGE: usize = 4096;

fn with(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout")
}

// SAFETY: blocks are parts of the system's.
unsafe impl GlobalAlloc for Tight {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size is not zero.
        let base = unsafe { System.alloc(Self::outer(layout)) };
        if base.is_null() { base } else { base.wrapping_add(layout.align()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: allocated so.
        unsafe { System.dealloc(block.wrapping_sub(layout.align()), Self::outer(layout)) };
    }
}

impl Tight {
    fn outer(layout: Layout) -> Layout {
        with(layout.size() + layout.align(), 2 * layout.align())
    }
}

// SAFETY: blocks are parts of the system's.
unsafe impl GlobalAlloc for Paged {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the size is not zero.
        unsafe { System.alloc(Self::outer(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: allocated so.
        unsafe { System.dealloc(block, Self::outer(layout)) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (old, new) = (Self::outer(layout), Self::outer(with(size, layout.align())));
        if old == new {
            return block;
        }
        // SAFETY: allocated so.
        unsafe { System.realloc(block, old, new.size()) }
    }
}

impl Paged {
    fn outer(layout: Layout) -> Layout {
        with(layout.size().next_multiple_of(PAGE), layout.align().max(PAGE))
    }
}

impl Told {
    /// Returns one that has not been told anything.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Says what is to be handed out next: a block that it once gave, of 128 KiB at least, which nobody
    /// uses any more.
    pub fn tell(&self, address: usize) {
        *self.lock() = Some(address);
    }

    fn lock(&self) -> MutexGuard<'_, Option<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Told {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks are the system's, larger than is asked for, and out once, as `tell` demands.
unsafe impl GlobalAlloc for &Told {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let told = self.lock().take();
        told.map_or_else(
            || {
                // SAFETY: the size is not zero.
                let block = unsafe { System.alloc(with(layout.size().max(128 << 10), PAGE)) };
                ptr::with_exposed_provenance_mut(block.expose_provenance())
            },
            ptr::with_exposed_provenance_mut,
        )
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

impl Reusing {
    /// Returns one that has nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Layout)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outer(layout: Layout) -> Layout {
        with(layout.size().next_power_of_two().max(64), layout.align().max(16))
    }
}

impl Default for Reusing {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks are the system's, each out once.
unsafe impl GlobalAlloc for Reusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let outer = Self::outer(layout);
        let mut free = self.lock();
        if let Some(position) = free.iter().rposition(|(_, of)| *of == outer) {
            return ptr::with_exposed_provenance_mut(free.remove(position).0);
        }
        // SAFETY: the size is not zero.
        unsafe { System.alloc(outer) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.lock().push((block.expose_provenance(), Self::outer(layout)));
    }
}

impl Bump {
    /// Returns one that has not taken its memory yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Arena { start: 0, used: 0, blocks: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, Arena> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Bump {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: what is behind `used` is nobody's, and the arena is never given back.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut arena = self.lock();
        if arena.start == 0 {
            // SAFETY: the size is not zero.
            arena.start = unsafe { System.alloc(with(ARENA, PAGE)) }.expose_provenance();
            assert_ne!(arena.start, 0, "no memory for the test");
        }
        let block = (arena.start + arena.used).next_multiple_of(layout.align());
        let used = block - arena.start + layout.size();
        if used > ARENA {
            return ptr::null_mut();
        }
        arena.used = used;
        arena.blocks += 1;
        ptr::with_exposed_provenance_mut(block)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let mut arena = self.lock();
        arena.blocks -= 1;
        if arena.blocks == 0 {
            arena.used = 0;
        } else if block.addr() + layout.size() == arena.start + arena.used {
            arena.used -= layout.size();
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let mut arena = self.lock();
        let used = block.addr() - arena.start + size;
        if block.addr() + layout.size() == arena.start + arena.used && used <= ARENA {
            arena.used = used;
            return block;
        }
        drop(arena);
        // SAFETY: the size is the caller's care.
        let moved = unsafe { self.alloc(with(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both are at least so long, and a new block overlaps no other.
            unsafe { ptr::copy_nonoverlapping(block, moved, size.min(layout.size())) };
            // SAFETY: given by the caller, who has done with the old block.
            unsafe { self.dealloc(block, layout) };
        }
        moved
    }
}
