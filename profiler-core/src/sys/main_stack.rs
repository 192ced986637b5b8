//! The stack on which the kernel puts signal handlers of the main thread.
//!
//! **Problem.** std gives each thread one. A thread that ends takes its own off before it unmaps it, but whatever
//! thread calls `std::process::exit` unmaps that of the main thread, which goes on to run, for as long as the
//! C library's handlers at the end take. A signal that reaches it then finds no memory, and ends the process:
//! with any handler that asks for the alternate stack, and on whatever comes to be mapped there.
//!
//! **Idea.** std leaves alone what is there before it. So a stack that is never unmapped is put there first,
//! by a function that the loader calls before `main`. Afterwards would be too late: only the thread itself can
//! change it, and the signal that told it to do so may be the first that comes after the end has begun.
//!
//! Costs three system calls at the start of the program. std's report of an overflow of the stack runs on it too.

#![allow(unsafe_code, reason = "a stack is mapped and handed to the kernel, before `main`")]

use std::mem::MaybeUninit;
use std::ptr;

use super::platform;

/// What the kernel writes there, 3 to 11 KiB by the processor, and what other handlers need.
const SIZE: usize = 64 << 10;
/// Below it, so that a handler that overflows it ends the program: a page of the largest kind.
const GUARD: usize = 64 << 10;

// The linker keeps what stands in this section. Without it std's stack stays, and the loss is the one above.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;

extern "C" fn before_main() {
    // In a library that is loaded later this may be any thread.
    if platform::thread_id() == std::process::id() {
        put();
    }
}

/// Has handlers of the calling thread run on a stack that stays for ever, unless it has one already.
fn put() {
    let mut before = MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: only asks; the result is written on success.
    let asked = unsafe { libc::sigaltstack(ptr::null(), before.as_mut_ptr()) };
    // SAFETY: zeroed is a value of this type, and so is what was written.
    let before = unsafe { before.assume_init() };
    if asked != 0 || before.ss_flags & libc::SS_DISABLE == 0 {
        return;
    }
    let memory = platform::map_memory(GUARD + SIZE);
    if memory.is_null() {
        return;
    }
    // SAFETY: within the fresh mapping, to which nothing refers.
    unsafe { libc::mprotect(memory.cast(), GUARD, libc::PROT_NONE) };
    let stack =
        libc::stack_t { ss_sp: memory.wrapping_add(GUARD).cast(), ss_flags: 0, ss_size: SIZE };
    // SAFETY: the memory is nobody else's and never unmapped.
    unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
}
