//! Which process this is: the one in which the profiler was first there, or a child of a fork, and which.
//!
//! **Problem.** `_Fork`, `clone` by the system call, and forks of a runtime of its own call no handler in the child,
//! where nobody is left who could give a lock back, and the kernel says of the parent's threads that they are gone.
//!
//! **Idea.** The kernel wipes a page of ours in every child (`MADV_WIPEONFORK`): whoever finds it wiped knows that the
//! process is another one and gives it the next number, which he writes there. Where the kernel has no such pages, before 4.14
//! and in some sandboxes, the number counts for the process beside it alone, at a system call a look.
//!
//! Numbers grow from parent to child: a process never meets its own at what it has from its parents.

#![allow(unsafe_code, reason = "memory is mapped and wiped by system calls")]

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::platform;
use crate::first::First;

/// The word in the page, once there is one: the process's identifier, and below it its number and 1. Zero if nobody has
/// looked in this process yet.
static WORD: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());
/// Whether the kernel wipes the page.
static IS_WIPED: AtomicBool = AtomicBool::new(false);
/// The last number given, here or in a parent.
static LAST: AtomicU32 = AtomicU32::new(0);
/// The number of the process in which the handlers of forks have run.
static TOLD: AtomicU32 = AtomicU32::new(0);

/// Handlers of `on_fork_child`, in the order they run in.
static HANDLERS: [First<fn()>; 4] = [const { First::new() }; 4];

/// This process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    number: u32,
    /// Whether its handlers of forks have run.
    is_told: bool,
    /// Whether it has its memory for itself: not between `vfork` and `execve`.
    is_alone: bool,
}

impl Process {
    pub(crate) fn current() -> Self {
        let number = number();
        // Relaxed: stored before there was another thread.
        let is_told = TOLD.load(Ordering::Relaxed) == number;
        // Relaxed: the word says all.
        let is_alone = word().is_none_or(|word| is_mine(word.load(Ordering::Relaxed)));
        Self { number, is_told, is_alone }
    }

    /// Returns the number.
    pub(crate) const fn number(self) -> u32 {
        self.number
    }

    /// Returns whether it can be told here if a thread is gone that the process of that number had: the thread
    /// that forked has another number of the kernel now, and does not tell it where no handler has run.
    pub(crate) const fn knows(self, number: u32) -> bool {
        self.is_alone && (self.is_told || self.number == number)
    }
}

const fn pack(process: u32, number: u32) -> u64 {
    (process as u64) << 32 | (number + 1) as u64
}

const fn number_of(word: u64) -> u32 {
    (word as u32).wrapping_sub(1)
}

fn is_mine(word: u64) -> bool {
    word >> 32 == u64::from(std::process::id())
}

fn word() -> Option<&'static AtomicU64> {
    // Acquire: pairs with the Release in `tell_forks`.
    let word = WORD.load(Ordering::Acquire);
    // SAFETY: null, or in a page that is never unmapped.
    unsafe { word.as_ref() }
}

pub(super) fn number() -> u32 {
    // Relaxed, all: what belongs to a number was written by the forking thread before the fork.
    let Some(word) = word() else { return LAST.load(Ordering::Relaxed) };
    let seen = word.load(Ordering::Relaxed);
    if seen != 0 && (IS_WIPED.load(Ordering::Relaxed) || is_mine(seen)) {
        return number_of(seen);
    }
    take_number(word, seen)
}

/// Gives this process the next number, unless another of its threads just did.
#[cold]
fn take_number(word: &AtomicU64, seen: u64) -> u32 {
    // Relaxed, all: see `number`. Given before it is seen, so that a child that is forked meanwhile has a larger one.
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let mine = pack(std::process::id(), number);
    match word.compare_exchange(seen, mine, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => number,
        Err(other) => number_of(other),
    }
}

/// Has forks be noticed from now on.
fn tell_forks() {
    if word().is_some() {
        return;
    }
    let page = platform::map_memory(PAGE);
    if page.is_null() {
        return;
    }
    // SAFETY: a mapping of ours, whole.
    let wiped = unsafe { libc::madvise(page.cast(), PAGE, libc::MADV_WIPEONFORK) } == 0;
    // Relaxed: published below.
    IS_WIPED.store(wiped, Ordering::Relaxed);
    let word = page.cast::<AtomicU64>();
    let first = AtomicU64::new(pack(std::process::id(), LAST.load(Ordering::Relaxed)));
    // SAFETY: fresh memory, aligned as a page is.
    unsafe { word.write(first) };
    // Release: pairs with the Acquire in `word`.
    let put = WORD.compare_exchange(ptr::null_mut(), word, Ordering::Release, Ordering::Relaxed);
    if put.is_err() {
        // SAFETY: mapped above, and nobody else has it.
        unsafe { libc::munmap(page.cast(), PAGE) };
    }
}

/// The largest of the pages that Linux has on the processors that we know.
const PAGE: usize = 64 << 10;

pub(super) fn on_fork_child(handler: &'static fn()) -> bool {
    static IS_REGISTERED: AtomicBool = AtomicBool::new(false);

    extern "C" fn in_child() {
        forked();
    }

    tell_forks();
    // Relaxed: whether one registers it who is not there in the child makes no difference to the child's
    // numbers.
    if !IS_REGISTERED.swap(true, Ordering::Relaxed) {
        // SAFETY: the handler is a function of this program; libc keeps its address only.
        if unsafe { libc::pthread_atfork(None, None, Some(in_child)) } != 0 {
            IS_REGISTERED.store(false, Ordering::Relaxed);
            return false;
        }
    }
    HANDLERS.iter().any(|slot| ptr::eq(slot.offer(handler), handler))
}

/// Runs the handlers, on the only thread that a child of `fork` has.
fn forked() {
    let Some(word) = word() else {
        // Relaxed: the child has one thread.
        TOLD.store(LAST.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        HANDLERS.iter().filter_map(First::get).for_each(|handler| handler());
        return;
    };
    // Relaxed, all: as above.
    let seen = word.load(Ordering::Relaxed);
    // Not if a handler of others that ran before has had us look already.
    let number = if is_mine(seen) { number_of(seen) } else { take_number(word, seen) };
    HANDLERS.iter().filter_map(First::get).for_each(|handler| handler());
    TOLD.store(number, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::ffi::c_long;
    use std::io;

    use super::*;

    /// Waits for a child and returns what it has ended with.
    fn ended(child: libc::pid_t) -> i32 {
        assert!(child > 0, "{}", io::Error::last_os_error());
        let mut status = 0;
        // SAFETY: the status is a live exclusive value.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status), "{status}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn handlers_run_in_the_child_of_a_fork_only() {
        static RAN: AtomicBool = AtomicBool::new(false);
        static HANDLER: fn() = || RAN.store(true, Ordering::Relaxed);
        assert!(on_fork_child(&HANDLER) && on_fork_child(&HANDLER));
        let before = number();
        // SAFETY: the child does nothing but load and end.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let here = Process::current();
            let is_right = RAN.load(Ordering::Relaxed) && here.number > before && here.is_told;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(is_right && here.knows(before))) };
        }
        assert_eq!(ended(child), 1);
        assert!(!RAN.load(Ordering::Relaxed));
        assert_eq!(number(), before);
    }

    #[test]
    fn a_child_that_nobody_tells_knows_itself() {
        tell_forks();
        let before = number();
        let clone = || {
            let [none, signal] = [0, c_long::from(libc::SIGCHLD)];
            // SAFETY: without a stack of its own the child is one of a fork.
            let child = unsafe { libc::syscall(libc::SYS_clone, signal, none, none, none, none) };
            libc::pid_t::try_from(child).unwrap()
        };
        let child = clone();
        if child == 0 {
            let here = Process::current();
            let mut is_right = here.number > before && here.number == number() && !here.is_told;
            is_right &= here.is_alone && here.knows(here.number) && !here.knows(before);
            let grandchild = clone();
            if grandchild == 0 {
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(number() > here.number)) };
            }
            is_right &= ended(grandchild) == 1;
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(is_right)) };
        }
        assert_eq!(ended(child), 1);
        assert_eq!(number(), before);
    }
}
