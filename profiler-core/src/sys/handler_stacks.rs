//! Stacks for handlers: the one that the kernel puts a handler on may have been made as small as what the
//! kernel itself writes there, 3 to 11 KiB by the processor.

#![allow(unsafe_code, reason = "memory is mapped and protected by system calls")]

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use super::{arch, platform};

/// As many handlers may run, or be preempted, at one time. Not by the number of processors: a container's
/// share of them says nothing about how many run at once. What is never touched takes no memory.
const STACKS: usize = 64;
/// What a handler of ours needs at the most, without optimisation.
const SIZE: usize = 64 << 10;
/// Below each stack, so that one that overflows does not write on another: a page of the largest kind.
const GUARD: usize = 64 << 10;

/// Null until they are made.
static MEMORY: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static TAKEN: [AtomicBool; STACKS] = [const { AtomicBool::new(false) }; STACKS];

/// Makes the stacks, once.
pub(super) fn make() {
    let memory = platform::map_memory(STACKS * (GUARD + SIZE));
    if memory.is_null() {
        return;
    }
    for number in 0..STACKS {
        let guard = memory.wrapping_add(number * (GUARD + SIZE));
        // Without it a stack is as good, as long as it is large enough.
        // SAFETY: within the fresh mapping, to which nothing refers.
        unsafe { libc::mprotect(guard.cast(), GUARD, libc::PROT_NONE) };
    }
    // Release: pairs with the Acquire in `with_room`.
    MEMORY.store(memory, Ordering::Release);
}

/// Calls `body` on a stack with room, if one is free; nothing otherwise. A panic in `body` aborts the process.
///
/// # Signal safety
///
/// Waits for nothing; all signals must be masked, or another handler would be put where this one began.
pub(super) fn with_room<R>(body: impl FnOnce() -> R) -> Option<R> {
    // Acquire: pairs with the Release in `make`.
    let memory = MEMORY.load(Ordering::Acquire);
    if memory.is_null() {
        return None;
    }
    let (number, taken) = TAKEN.iter().enumerate().find(|(_, taken)| {
        // Relaxed: a hint. Acquire: pairs with the Release below, on another processor.
        !taken.load(Ordering::Relaxed) && !taken.swap(true, Ordering::Acquire)
    })?;
    let top = memory.wrapping_add((number + 1) * (GUARD + SIZE));
    // SAFETY: the stack above the guard is this frame's alone while the word says so; its end is aligned as
    // a page is.
    let result = unsafe { arch::call_on(top.cast(), body) };
    // Release: pairs with the Acquire above.
    taken.store(false, Ordering::Release);
    Some(result)
}

/// Frees all of them, in the child of a fork: the threads whose handlers ran are not there.
///
/// # Signal safety
///
/// Stores only.
pub(super) fn forked() {
    for taken in &TAKEN {
        // Relaxed: the child has one thread.
        taken.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Takes all stacks that are left, one from within the other, and returns how many.
    fn take_all(at_last: &dyn Fn()) -> usize {
        let others = with_room(|| take_all(at_last));
        if others.is_none() {
            at_last();
        }
        others.map_or(0, |others| others + 1)
    }

    #[test]
    fn each_stack_is_taken_once_and_the_child_of_a_fork_has_them_all() {
        make();
        let (all_taken, done) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                take_all(&|| {
                    all_taken.wait();
                    done.wait();
                })
            });
            all_taken.wait();
            // SAFETY: the child stores, calls, and ends.
            let child = unsafe { libc::fork() };
            if child == 0 {
                forked();
                let all = take_all(&|| ());
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(all != STACKS)) };
            }
            done.wait();
            let mut status = 0;
            // SAFETY: the status is a live exclusive value.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
            // Handlers of other tests of this process may have had some.
            assert!(taker.join().expect("no panic") > STACKS / 2);
        });
        assert!(take_all(&|| ()) > STACKS / 2, "they were given back");
    }
}
