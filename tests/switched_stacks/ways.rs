//! Ways to call something on a stack that is not the thread's: C's, and those of two crates.

use std::ptr;

use corosensei::ScopedCoroutine;
use corosensei::stack::DefaultStack;
use generator::Gn;
use profiler_tests::context::call_on;

/// Calls a body on a stack of its own, of so many bytes.
pub(crate) type Way = fn(usize, &mut dyn FnMut());

pub(crate) const WAYS: [(&str, Way); 3] =
    [("ucontext", by_ucontext), ("corosensei", by_corosensei), ("generator", by_generator)];

/// Memory with a page above and one below that cannot be read; unmapped when it is dropped.
pub(crate) struct Guarded {
    memory: *mut u8,
    size: usize,
}

/// Two of the largest kind: what the guards have.
const GUARD: usize = 64 << 10;

impl Guarded {
    pub(crate) fn new(size: usize) -> Self {
        // SAFETY: a fresh mapping of private memory that cannot be read.
        let memory = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), size + 2 * GUARD, libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(memory, libc::MAP_FAILED);
        let guarded = Self { memory: memory.cast(), size };
        // SAFETY: within the fresh mapping.
        let opened = unsafe {
            let writable = libc::PROT_READ | libc::PROT_WRITE;
            libc::mprotect(guarded.low().cast(), size, writable)
        };
        assert_eq!(opened, 0);
        guarded
    }

    pub(crate) fn low(&self) -> *mut u8 {
        self.memory.wrapping_add(GUARD)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` and used by nobody any more.
        unsafe { libc::munmap(self.memory.cast(), self.size + 2 * GUARD) };
    }
}

fn by_ucontext(size: usize, body: &mut dyn FnMut()) {
    let stack = Guarded::new(size);
    // SAFETY: the stack is exclusive, and outlives the call.
    unsafe { call_on(stack.low(), size, body) };
}

fn by_corosensei(size: usize, body: &mut dyn FnMut()) {
    let stack = DefaultStack::new(size).expect("the system has memory");
    ScopedCoroutine::<(), (), (), _>::with_stack(stack, |_, ()| body()).scope(|mut coroutine| {
        coroutine.as_mut().resume(());
    });
}

fn by_generator(size: usize, body: &mut dyn FnMut()) {
    let mut generator = Gn::<()>::new_scoped_opt_local(size / size_of::<usize>(), |_| body());
    generator.resume();
}
