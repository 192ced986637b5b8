//! Stacks for handlers: the one that the kernel puts a handler on may have been made as small as what the
//! kernel itself writes there, 3 to 11 KiB by the processor.
//!
//! As many may run at one time as there are processors, which all tick at once. Not as many as the process may use:
//! a container's share of them says nothing about how many run at once. Addresses are set aside for all
//! of them, and memory is mapped when a stack is taken for the first time, the first that is free: so there is as much
//! of it as handlers ever ran at one time.

#![allow(unsafe_code, reason = "memory is mapped and protected by system calls")]

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use super::platform::KeepErrno;
use super::{arch, platform};

/// Handlers that are preempted at one time, beside those that run: they take microseconds, and the next tick is
/// a thousand times as far.
const PREEMPTED: usize = 64;
/// What a handler of ours needs at the most, without optimisation.
const SIZE: usize = 64 << 10;
/// Below each stack, so that one that overflows does not write on another: a page of the largest kind.
const GUARD: usize = 64 << 10;

/// States of a stack: without memory, as all are in the beginning; free; taken by one handler.
const UNMAPPED: u8 = 0;
const FREE: u8 = 1;
const TAKEN: u8 = 2;

/// Null until they are made; never freed.
static STACKS: AtomicPtr<Stacks> = AtomicPtr::new(ptr::null_mut());

struct Stacks {
    /// A guard and a stack for each state.
    memory: *mut u8,
    states: Box<[AtomicU8]>,
}

// SAFETY: the memory of a stack is touched by the one handler that has taken it, which its state says.
unsafe impl Sync for Stacks {}

/// Makes the stacks, once.
pub(super) fn make() {
    if let Some(stacks) = Stacks::new(platform::processors() + PREEMPTED) {
        // Release: pairs with the Acquire in `stacks`.
        STACKS.store(Box::into_raw(Box::new(stacks)), Ordering::Release);
    }
}

fn stacks() -> Option<&'static Stacks> {
    // Acquire: pairs with the Release in `make`.
    let stacks = STACKS.load(Ordering::Acquire);
    // SAFETY: null, or made there and never freed.
    unsafe { stacks.as_ref() }
}

/// Calls `body` on a stack with room, if one is free; nothing otherwise. A panic in `body` aborts the process.
///
/// # Signal safety
///
/// Waits for nothing; all signals must be masked, or another handler would be put where this one began.
pub(super) fn with_room<R>(body: impl FnOnce() -> R) -> Option<R> {
    stacks()?.with_room(body)
}

/// Frees all of them, in the child of a fork: the threads whose handlers ran are not there.
///
/// # Signal safety
///
/// Stores only.
pub(super) fn forked() {
    if let Some(stacks) = stacks() {
        stacks.forked();
    }
}

impl Stacks {
    /// Sets addresses aside for so many stacks, or for a part of them if there are fewer (`RLIMIT_AS`).
    fn new(number: usize) -> Option<Self> {
        let mut numbers = std::iter::successors(Some(number), |more| Some(more / 2));
        numbers.by_ref().take_while(|&number| number > 0).find_map(|number| {
            let memory = platform::reserve_addresses(number * (GUARD + SIZE));
            let states = || (0..number).map(|_| AtomicU8::new(UNMAPPED)).collect();
            (!memory.is_null()).then(|| Self { memory, states: states() })
        })
    }

    fn with_room<R>(&self, body: impl FnOnce() -> R) -> Option<R> {
        let (number, state) = self.states.iter().enumerate().find(|(number, state)| {
            // Relaxed: a hint. Acquire: pairs with the Release below, on another processor.
            let before = state.load(Ordering::Relaxed);
            before != TAKEN
                && state
                    .compare_exchange(before, TAKEN, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                && (before == FREE || self.map(*number, state))
        })?;
        let top = self.stack(number).wrapping_add(SIZE);
        // SAFETY: the stack above the guard is this frame's alone while the word says so; its end is aligned as
        // a page is.
        let result = unsafe { arch::call_on(top.cast(), body) };
        // Release: pairs with the Acquire above.
        state.store(FREE, Ordering::Release);
        Some(result)
    }

    /// Returns the lowest address of a stack.
    fn stack(&self, number: usize) -> *mut u8 {
        self.memory.wrapping_add(number * (GUARD + SIZE) + GUARD)
    }

    /// Maps the memory of a stack that is taken; gives it back if there is none.
    #[cold]
    fn map(&self, number: usize, state: &AtomicU8) -> bool {
        let _errno = KeepErrno::new();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: within the addresses set aside, and this handler's alone while the word says so.
        let mapped = unsafe { libc::mprotect(self.stack(number).cast(), SIZE, access) } == 0;
        if !mapped {
            // Relaxed: nothing was written there.
            state.store(UNMAPPED, Ordering::Relaxed);
        }
        mapped
    }

    fn forked(&self) {
        for state in &self.states {
            // Relaxed, both: the child has one thread. Whoever had taken it may not have mapped it yet.
            if state.load(Ordering::Relaxed) == TAKEN {
                state.store(UNMAPPED, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Takes all stacks that are left, one from within the other, and returns how many.
    fn take_all(stacks: &Stacks, at_last: &dyn Fn()) -> usize {
        let others = stacks.with_room(|| take_all(stacks, at_last));
        if others.is_none() {
            at_last();
        }
        others.map_or(0, |others| others + 1)
    }

    /// Whether that holds in the child of a fork.
    #[track_caller]
    fn holds_in_child(holds: impl FnOnce() -> bool) {
        // SAFETY: the child stores, calls, maps memory, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let status = i32::from(!holds());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: the status is a live exclusive value.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    #[test]
    fn each_stack_is_taken_once_and_the_child_of_a_fork_has_them_all() {
        const MANY: usize = 1000;
        let stacks = &Stacks::new(MANY).expect("addresses");
        let child_has_all = || {
            stacks.forked();
            take_all(stacks, &|| ()) == MANY
        };
        holds_in_child(child_has_all);
        let (all_taken, done) = (Barrier::new(2), Barrier::new(2));
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                take_all(stacks, &|| {
                    all_taken.wait();
                    done.wait();
                })
            });
            all_taken.wait();
            holds_in_child(child_has_all);
            done.wait();
            assert_eq!(taker.join().expect("no panic"), MANY);
        });
        holds_in_child(child_has_all);
        assert_eq!(take_all(stacks, &|| ()), MANY, "they were given back");
    }

    #[test]
    fn there_are_as_many_as_processors_may_tick_together() {
        make();
        let stacks = stacks().expect("addresses");
        // SAFETY: asks libc for a number.
        let configured = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) };
        let configured = usize::try_from(configured).expect("libc knows it");
        assert!(stacks.states.len() >= configured + PREEMPTED);
    }

    #[test]
    fn where_addresses_are_few_so_are_stacks() {
        holds_in_child(|| {
            let most = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
            // SAFETY: the limits are a live value.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const most) }, 0);
            let few = Stacks::new(1 << 16).expect("some");
            (2..1 << 13).contains(&few.states.len()) && few.with_room(|| 7) == Some(7)
        });
    }
}
