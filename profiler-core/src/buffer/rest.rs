//! The unused end of a chunk of memory.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{Ordering, compiler_fence};

/// Where it begins, and how much is left. The child of a fork may find it while another thread, which it does
/// not have, was changing it: then nothing is left, or memory that is used by nobody yet.
#[derive(Debug)]
pub(super) struct Rest<T> {
    next: Cell<*mut T>,
    left: Cell<usize>,
}

impl<T> Rest<T> {
    pub(super) const fn new() -> Self {
        Self { next: Cell::new(ptr::null_mut()), left: Cell::new(0) }
    }

    pub(super) const fn get(&self) -> (*mut T, usize) {
        (self.next.get(), self.left.get())
    }

    pub(super) fn set(&self, next: *mut T, left: usize) {
        self.left.set(0);
        compiler_fence(Ordering::Release);
        self.next.set(next);
        compiler_fence(Ordering::Release);
        self.left.set(left);
    }
}
