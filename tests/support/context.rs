//! Calls on a stack of one's own, by C's `makecontext`.

#![allow(unsafe_code, reason = "stacks are switched by C")]

use std::cell::Cell;
use std::mem::MaybeUninit;

thread_local! {
    /// What C's coroutine shall call.
    static BODY: Cell<Option<*mut &'static mut dyn FnMut()>> = const { Cell::new(None) };
}

extern "C" fn start() {
    let body = BODY.take().expect("set by whoever switches");
    // SAFETY: the exclusive reference that `call_on` has put there, and it waits.
    unsafe { (*body)() };
}

/// Calls `body` on the stack of so many bytes that begins there.
///
/// # Safety
///
/// The stack is used by nobody else meanwhile.
pub unsafe fn call_on(low: *mut u8, size: usize, body: &mut dyn FnMut()) {
    // SAFETY: the reference is used before this function returns, by `start` alone.
    let mut body: &'static mut dyn FnMut() =
        unsafe { std::mem::transmute::<&mut dyn FnMut(), &'static mut dyn FnMut()>(body) };
    BODY.set(Some(&raw mut body));
    let mut own = MaybeUninit::<libc::ucontext_t>::uninit();
    let mut other = MaybeUninit::<libc::ucontext_t>::uninit();
    // SAFETY: the context is written here.
    unsafe { libc::getcontext(other.as_mut_ptr()) };
    // SAFETY: written above.
    let context = unsafe { other.assume_init_mut() };
    context.uc_stack.ss_sp = low.cast();
    context.uc_stack.ss_size = size;
    context.uc_link = own.as_mut_ptr();
    // SAFETY: the stack is there, as the caller promises, and the function takes no argument.
    unsafe { libc::makecontext(other.as_mut_ptr(), start, 0) };
    // SAFETY: the context was made; this one is written, and goes on when the other ends.
    unsafe { libc::swapcontext(own.as_mut_ptr(), other.as_ptr()) };
}
