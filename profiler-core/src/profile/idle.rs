//! Waiting that is nobody's loss: a thread of a pool that has no work.
//!
//! A hundred workers that wait for work would hide one that waits for a lock. Who waits is told by the
//! innermost function that is no means of waiting: if that belongs to an executor or a pool, the thread
//! is idle; if it is the program's own, or a task's, it is not.

use super::function::Line;
use super::name::{plain_type, split_qualified};

/// What threads wait by, on behalf of others.
const MEANS: &[&str] = &[
    "core::",
    "std::",
    "alloc::",
    "lock_api::",
    "parking_lot::",
    "parking_lot_core::",
    "crossbeam_utils::",
    "parking::",
    "event_listener::",
    "mio::",
    "polling::",
    "rustix::",
    "nix::",
    "libc::",
    "profiler_core::parking_lot::",
    "profiler_core::capture::",
];

/// Who keeps threads for work that comes: executors, pools, and our own.
const POOLS: &[&str] = &[
    "tokio::runtime::",
    "tokio::park::",
    "rayon_core::",
    "futures_executor::",
    "async_io::",
    "async_executor::",
    "async_global_executor::",
    "async_std::",
    "blocking::",
    "smol::",
    "threadpool::",
    "profiler_core::",
    "profiler_http::",
];

/// Returns whether a thread with that stack waits for work, given the lines of each location, leaf first.
/// Functions of C are means of waiting.
pub(crate) fn is_idle<'a>(stack: impl Iterator<Item = &'a [Line]>) -> bool {
    let mut paths = stack.flatten().map(|line| path(&line.function.name));
    let waits = |path: &&str| path.contains("::") && !starts(path, MEANS);
    paths.find(waits).is_some_and(|path| starts(path, POOLS))
}

fn starts(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// The path of a function, of its type's if it belongs to a trait: `<shop::Cart as Drop>::drop` is the shop's.
fn path(name: &str) -> &str {
    match name.strip_prefix('<') {
        Some(qualified) => plain_type(split_qualified(qualified).0),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Function;

    #[track_caller]
    fn check(names: &[&str], expected: bool) {
        let lines: Vec<_> = names
            .iter()
            .map(|name| Line { function: Function::named(name, "").into(), line: 1 })
            .collect();
        let stack: Vec<_> = lines.chunks(1).collect();
        assert_eq!(is_idle(stack.into_iter()), expected, "{names:?}");
    }

    #[test]
    fn workers_without_work_are_idle() {
        check(
            &[
                "syscall",
                "parking_lot_core::thread_parker::imp::ThreadParker::futex_wait",
                "parking_lot::condvar::Condvar::wait_until_internal",
                "tokio::runtime::scheduler::multi_thread::park::Inner::park_condvar",
                "tokio::runtime::scheduler::multi_thread::worker::run",
                "std::thread::Builder::spawn_unchecked_",
            ],
            true,
        );
        check(
            &[
                "epoll_wait",
                "mio::sys::unix::selector::Selector::select",
                "<tokio::runtime::driver::Driver as tokio::Park>::park",
                "shop::main",
            ],
            true,
        );
        check(
            &[
                "syscall",
                "std::sys::sync::condvar::futex::Condvar::wait",
                "rayon_core::sleep::Sleep::sleep",
            ],
            true,
        );
        check(&["clock_nanosleep", "std::thread::sleep", "profiler_core::profiler::tend"], true);
    }

    #[test]
    fn a_program_that_waits_is_not() {
        check(
            &[
                "syscall",
                "std::sys::sync::mutex::futex::Mutex::lock_contended",
                "profiler_core::capture::lock::std_mutex::Mutex<T>::lock",
                "shop::checkout",
                "tokio::runtime::task::core::Core<T,S>::poll",
            ],
            false,
        );
        check(
            &[
                "read",
                "std::fs::File::read",
                "<shop::Disk as shop::Store>::load",
                "tokio::runtime::blocking::pool::Inner::run",
            ],
            false,
        );
        check(&["clock_nanosleep", "std::thread::sleep", "main"], false);
        check(&["poll", "of_c"], false);
        check(&[], false);
    }
}
