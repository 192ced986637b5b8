//! An inner allocator that checks how it is used: every block comes back once, with the address
//! and the layout that it went out with. It fails when it is told to.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What fresh memory holds that nobody has asked to be zero.
const FRESH: u8 = 0xA5;
/// What is left of a block that is given back.
const FREED: u8 = 0x5A;

/// Hands on what it is asked to the allocator inside, and keeps a [`Book`] of it.
#[derive(Debug)]
pub struct Checked<A> {
    inner: A,
    book: &'static Book,
}

/// What a [`Checked`] allocator was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `alloc`, and the address that it gave.
    Alloc(Layout, usize),
    /// `alloc_zeroed`, and the address that it gave.
    AllocZeroed(Layout, usize),
    /// `dealloc` of an address.
    Dealloc(usize, Layout),
    /// `realloc`: the address, its layout, the new size, the new address.
    Realloc(usize, Layout, usize, usize),
    /// Any that was told to fail.
    Failed,
}

/// The blocks that are out, and what went wrong.
pub struct Book(Mutex<Entries>);

struct Entries {
    out: BTreeMap<usize, Layout>,
    calls: Vec<Call>,
    faults: Vec<String>,
    is_failing: bool,
}

impl<A> Checked<A> {
    /// Wraps an allocator that nobody else uses.
    pub const fn new(inner: A, book: &'static Book) -> Self {
        Self { inner, book }
    }
}

impl Book {
    /// Returns an empty one.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(Entries {
            out: BTreeMap::new(),
            calls: Vec::new(),
            faults: Vec::new(),
            is_failing: false,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every call for memory fail while `body` runs.
    pub fn failing<R>(&self, body: impl FnOnce() -> R) -> R {
        self.lock().is_failing = true;
        let result = body();
        self.lock().is_failing = false;
        result
    }

    /// Returns the calls since the last time.
    pub fn take_calls(&self) -> Vec<Call> {
        mem::take(&mut self.lock().calls)
    }

    /// Returns how many blocks are out.
    #[must_use]
    pub fn out(&self) -> usize {
        self.lock().out.len()
    }

    /// Returns whether all these bytes lie in one block that is out.
    #[must_use]
    pub fn holds(&self, address: usize, size: usize) -> bool {
        let entries = self.lock();
        let before = entries.out.range(..=address).next_back();
        before.is_some_and(|(start, layout)| address + size <= start + layout.size())
    }

    /// Has a block no longer be out, as if C code had freed it.
    ///
    /// # Panics
    ///
    /// It is not out.
    pub fn freed_by_others(&self, address: usize) {
        assert!(self.lock().out.remove(&address).is_some(), "{address:#x} is not out");
    }

    /// Panics if the allocator was misused.
    ///
    /// # Panics
    ///
    /// It was.
    #[track_caller]
    pub fn check(&self) {
        let faults = mem::take(&mut self.lock().faults);
        assert!(faults.is_empty(), "{faults:#?}");
    }

    fn fails(&self) -> bool {
        let mut entries = self.lock();
        if entries.is_failing {
            entries.calls.push(Call::Failed);
        }
        entries.is_failing
    }

    fn note(&self, call: Call) {
        self.lock().calls.push(call);
    }

    fn goes_out(&self, block: *mut u8, layout: Layout) {
        let mut entries = self.lock();
        let address = block.addr();
        if layout.size() == 0 {
            entries.faults.push(format!("asked for {layout:?}"));
        }
        if !address.is_multiple_of(layout.align()) {
            entries.faults.push(format!("{address:#x} went out for {layout:?}"));
        }
        if let Some(other) = entries.out.insert(address, layout) {
            entries.faults.push(format!("{address:#x} is out for {other:?} and {layout:?}"));
        }
    }

    /// Returns whether the block is out with that layout.
    fn comes_back(&self, block: *mut u8, layout: Layout) -> bool {
        let mut entries = self.lock();
        let address = block.addr();
        let known = entries.out.remove(&address);
        if known != Some(layout) {
            entries.faults.push(format!("{address:#x} came back as {layout:?}, not {known:?}"));
        }
        known == Some(layout)
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Book").field("out", &self.out()).finish_non_exhaustive()
    }
}

/// Fills the bytes of a block from `from` on.
///
/// # Safety
///
/// The block is the caller's alone and has so many bytes.
unsafe fn fill(block: *mut u8, from: usize, size: usize, value: u8) {
    // SAFETY: given by the caller.
    unsafe { ptr::write_bytes(block.wrapping_add(from), value, size.saturating_sub(from)) };
}

// SAFETY: blocks are those of the allocator inside.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Checked<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.book.fails() {
            return ptr::null_mut();
        }
        // SAFETY: given by the caller.
        let block = unsafe { self.inner.alloc(layout) };
        if !block.is_null() {
            // SAFETY: just allocated.
            unsafe { fill(block, 0, layout.size(), FRESH) };
            self.book.goes_out(block, layout);
        }
        self.book.note(Call::Alloc(layout, block.addr()));
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if self.book.fails() {
            return ptr::null_mut();
        }
        // SAFETY: given by the caller.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        if !block.is_null() {
            self.book.goes_out(block, layout);
        }
        self.book.note(Call::AllocZeroed(layout, block.addr()));
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.book.note(Call::Dealloc(block.addr(), layout));
        if !self.book.comes_back(block, layout) {
            return;
        }
        // SAFETY: the caller has done with it.
        unsafe { fill(block, 0, layout.size(), FREED) };
        // SAFETY: it went out with this layout.
        unsafe { self.inner.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.book.fails() || !self.book.comes_back(block, layout) {
            return ptr::null_mut();
        }
        // SAFETY: it went out with this layout; the size is the caller's care.
        let moved = unsafe { self.inner.realloc(block, layout, size) };
        // SAFETY: as asked by the caller.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if moved.is_null() {
            self.book.goes_out(block, layout);
        } else {
            // SAFETY: just allocated.
            unsafe { fill(moved, layout.size(), size, FRESH) };
            self.book.goes_out(moved, new);
        }
        self.book.note(Call::Realloc(block.addr(), layout, size, moved.addr()));
        moved
    }
}
