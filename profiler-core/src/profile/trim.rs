//! Which frames are the profiler's own.
//!
//! A record of a contention is taken inside a lock's functions, several calls deep, but its leaf
//! should be the user's function: a profile that names `MutexGuard::drop` everywhere says nothing.
//! Only names can tell, since inlining mixes both in one address.

use super::name::{plain_type, split_qualified};

/// Crates that a capture starts in. By `scopeguard` lock_api takes locks again.
const OWN: &[&str] = &[
    "profiler_core",
    "profiler_macros",
    "lock_api",
    "parking_lot",
    "parking_lot_core",
    "scopeguard",
];

/// The standard library's; the last is what its maps are.
const LIBRARY: &[&str] = &["core", "alloc", "std", "hashbrown"];

/// Parts of the standard library that stand between a capture and the user's function.
const OWN_PATHS: &[&str] = &[
    "std::sync::",
    "std::sys::sync::",
    "std::sys::pal::unix::sync::",
    "core::mem::drop",
    "core::mem::manually_drop::",
    "core::ops::drop::",
    "core::ops::function::",
    "core::ptr::drop_in_place",
    "core::ptr::drop_glue",
];

/// Functions at the root that say nothing.
const ROOTS: &[&str] =
    &["_start", "__clone", "__clone3", "clone", "clone3", "start_thread", "thread_start"];

/// Whose function it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// The profiler's or a lock's.
    Profiler,
    /// The standard library's: between the profiler's and the user's, as where a collection drops a guard, the
    /// user's function is the one that matters.
    Library,
    #[default]
    User,
}

/// Where the shown part of a stack begins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cut {
    /// So many locations go.
    pub(crate) locations: usize,
    /// And so many lines of the next.
    pub(crate) lines: usize,
}

/// Finds where the user's part of a stack begins, given whose the lines of each location are, leaf first.
/// Nothing is cut if nothing would remain.
pub(crate) fn cut<Lines>(stack: impl Iterator<Item = Lines>) -> Cut
where
    Lines: ExactSizeIterator<Item = Owner>,
{
    // Behind the profiler's last function, and behind what the library has called it by; and behind its first run,
    // with nothing in between.
    let (mut own, mut called, mut run, mut running) =
        (Cut::default(), Cut::default(), Cut::default(), true);
    for (locations, lines) in stack.enumerate() {
        let count = lines.len();
        if count == 0 {
            return own;
        }
        for (position, owner) in lines.enumerate() {
            let behind = if position + 1 == count {
                Cut { locations: locations + 1, lines: 0 }
            } else {
                Cut { locations, lines: position + 1 }
            };
            match owner {
                Owner::User => return called,
                Owner::Library => {
                    running = false;
                    if own != Cut::default() {
                        called = behind;
                    }
                }
                Owner::Profiler => {
                    (own, called) = (behind, behind);
                    if running {
                        run = own;
                    }
                }
            }
        }
    }
    // No function of the user: what lies between the profiler's functions may matter.
    if running { Cut::default() } else { run }
}

/// What a location says about the root of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// Where the program or a thread of it begins: what called it is the system.
    Entry,
    /// The system's, by its name.
    System,
    /// The system's perhaps: a stripped library does not tell.
    Unnamed,
    /// Part of the program.
    Inside,
}

impl Root {
    /// Tells by the name of the function that the machine called.
    pub(crate) fn of_name(name: &str) -> Self {
        let of_std = name.starts_with("std::sys::") || name.starts_with("<std::sys::");
        // Where `main` is optimised for size, it jumps to what it would call.
        let is_main = matches!(name, "main" | "std::rt::lang_start" | "std::rt::lang_start::<()>");
        let is_thread = of_std && name.ends_with("::thread_start");
        if is_main || is_thread || name == "profiler_core::sys::own_threads::begin" {
            Self::Entry
        } else if ROOTS.contains(&name) || name.starts_with("__libc_start_") {
            Self::System
        } else {
            Self::Inside
        }
    }
}

/// Returns how many locations of a stack are left without the system's at its root. Nothing is cut
/// if nothing would remain.
pub(crate) fn without_root(
    stack: impl DoubleEndedIterator<Item = Root> + ExactSizeIterator,
) -> usize {
    let all = stack.len();
    let mut named = None;
    for (length, root) in (1..=all).rev().zip(stack.rev()) {
        match root {
            Root::Entry => return length,
            Root::Inside => return named.unwrap_or(length),
            Root::Unnamed => named = named.or(Some(length)),
            Root::System => {}
        }
    }
    named.unwrap_or(all)
}

impl Owner {
    /// Tells whose function it is by its demangled name.
    pub(crate) fn of(name: &str) -> Self {
        let Some(qualified) = name.strip_prefix('<') else {
            return owner_of_path(name).unwrap_or(Self::User);
        };
        let (self_type, interface, method) = split_qualified(qualified);
        if interface.starts_with("core::ops::function::Fn") && method.starts_with("::call") {
            // A shim: what it calls has a frame of its own.
            return Self::Profiler;
        }
        let interface = owner_of_path(interface);
        if interface == Some(Self::User) {
            // Somebody's extension of our types is theirs.
            return Self::User;
        }
        // A blanket implementation, for a type that is only a letter, belongs to the trait.
        owner_of_path(plain_type(self_type)).or(interface).unwrap_or(Self::User)
    }
}

/// Tells whose path it is by its crate; nothing if it is no path: a type parameter, a primitive.
fn owner_of_path(path: &str) -> Option<Owner> {
    let (root, _) = path.split_once("::")?;
    Some(if OWN.contains(&root) || OWN_PATHS.iter().any(|own| path.starts_with(own)) {
        Owner::Profiler
    } else if LIBRARY.contains(&root) {
        Owner::Library
    } else {
        Owner::User
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::check_cut;

    #[track_caller]
    fn check(stack: &[&str], left: &[&str]) {
        check_cut(stack, left, |lines| {
            cut(lines.iter().map(|lines| lines.iter().map(|name| Owner::of(name))))
        });
    }

    #[test]
    fn the_leaf_is_the_function_that_took_the_lock() {
        check(
            &[
                "profiler_core::capture::walk",
                "<profiler_core::parking_lot::RawMutex as lock_api::mutex::RawMutex>::lock",
                "lock_api::mutex::Mutex<R,T>::lock",
                "shop::checkout",
                "shop::main",
            ],
            &["shop::checkout", "shop::main"],
        );
        check(
            &["<profiler_core::sync::Mutex<shop::Stock>>::lock", "shop::checkout"],
            &["shop::checkout"],
        );
    }

    #[test]
    fn inlined_frames_go_and_their_location_stays() {
        check(
            &[
                "profiler_core::ledger::released | <lock_api::mutex::MutexGuard<R,T> as core::ops::drop::Drop>::drop | \
                 core::ptr::drop_in_place<lock_api::mutex::MutexGuard<profiler_core::parking_lot::RawMutex,u32>> | \
                 shop::reprice | shop::reprice_all",
                "shop::main",
            ],
            &["shop::reprice | shop::reprice_all", "shop::main"],
        );
    }

    #[test]
    fn guards_that_die_inside_other_values_are_trimmed() {
        for glue in [
            "core::ptr::drop_in_place<core::option::Option<shop::Held>>",
            "core::ptr::drop_in_place::<core::result::Result<shop::Held, shop::Error>>",
            "<alloc::vec::Vec<T,A> as core::ops::drop::Drop>::drop | core::ptr::drop_in_place<alloc::vec::Vec<shop::Held>>",
            "core::mem::drop",
            "core::mem::drop::<std::sync::poison::mutex::MutexGuard<u32>>",
            "<std::sync::poison::mutex::MutexGuard<T> as core::ops::drop::Drop>::drop",
            "<std::sync::MutexGuard<u32> as core::ops::Drop>::drop",
            "core::ops::function::FnOnce::call_once",
            "<shop::main::{closure#0} as core::ops::function::FnOnce<()>>::call_once",
            "std::sys::sync::mutex::futex::Mutex::lock_contended",
        ] {
            check(&["profiler_core::ledger::released", glue, "shop::f"], &["shop::f"]);
        }
        // A destructor of the user's is the user's function.
        let own = "<shop::Held as core::ops::drop::Drop>::drop";
        check(&["profiler_core::ledger::released", own, "shop::f"], &[own, "shop::f"]);
    }

    #[test]
    fn bare_names_with_the_path_of_their_file_are_trimmed_too() {
        check(
            &[
                "profiler_core::ledger::released<u32> | lock_api::mutex::drop<RawMutex, u32> | core::ptr::drop_in_place<lock_api::mutex::MutexGuard<u32>> | core::mem::drop<u32> | shop::pricing::reprice",
            ],
            &["shop::pricing::reprice"],
        );
    }

    #[test]
    fn the_library_before_our_own_functions_goes_with_them() {
        check(
            &[
                "core::sync::atomic::AtomicU64::load | profiler_core::tally::record",
                "std::thread::local::LocalKey<T>::with",
                "profiler_core::sync::Mutex<T>::lock",
                "core::iter::traits::iterator::Iterator::for_each",
                "shop::f",
            ],
            &["shop::f"],
        );
        for library in [
            "alloc::vec::Vec<T,A>::clear",
            "<hashbrown::raw::RawTable<T,A> as core::ops::drop::Drop>::drop",
            "<scopeguard::ScopeGuard<T,F,S> as core::ops::drop::Drop>::drop",
            "scopeguard::guard | core::option::Option<T>::map",
        ] {
            check(&["profiler_core::ledger::released", library, "shop::f"], &["shop::f"]);
            // What the user called, where nothing of ours is below, stays; and what may be the user's.
            check(
                &["alloc::vec::Vec<T,A>::clear", "shop::f"],
                &["alloc::vec::Vec<T,A>::clear", "shop::f"],
            );
        }
        let library = "alloc::vec::Vec<T,A>::clear";
        check(&["profiler_core::f", library, "-", "shop::f"], &[library, "-", "shop::f"]);
    }

    #[test]
    fn only_the_run_at_the_leaf_is_cut() {
        check(
            &[
                "lock_api::mutex::Mutex<R,T>::lock",
                "shop::main::{closure#0}",
                "profiler_core::with_labels::<(), shop::main::{closure#0}>",
                "shop::main",
            ],
            &[
                "shop::main::{closure#0}",
                "profiler_core::with_labels::<(), shop::main::{closure#0}>",
                "shop::main",
            ],
        );
    }

    #[test]
    fn names_that_merely_begin_alike_stay() {
        for name in [
            "profiler_core_extra::lock",
            "lock_apis::Mutex::lock",
            "parking_lot_of_cars::park",
            "shop::lock_api::lock",
            "<shop::Raw as lock_api::mutex::RawMutex>::lock",
            "<lock_api::mutex::Mutex<R,T> as shop::LockAll>::lock_all",
            "<&lock_api::mutex::Mutex<R,T> as shop::LockAll>::lock_all",
            "shop::lock::<profiler_core::sync::Mutex<u32>>",
            "<shop::Pool<fn(u32) -> lock_api::Mutex<u32>>>::get",
            "main",
            "pthread_mutex_lock",
        ] {
            check(&["profiler_core::f", name, "shop::f"], &[name, "shop::f"]);
            check(&[name, "shop::f"], &[name, "shop::f"]);
        }
    }

    #[test]
    fn all_stays_if_all_would_go() {
        let own = &["profiler_core::f", "lock_api::g | std::sync::h"];
        check(own, own);
        // A thread of the profiler's own: the library calls it.
        check(
            &[
                "lock_api::mutex::Mutex<R,T>::lock",
                "std::sys::backtrace::f",
                "profiler_core::thread",
                "std::thread::start",
            ],
            &["std::sys::backtrace::f", "profiler_core::thread", "std::thread::start"],
        );
        check(&[], &[]);
    }

    #[test]
    fn the_system_below_the_program_is_cut() {
        use Root::{Entry, Inside, System, Unnamed};
        for (stack, left) in [
            (&[Inside, Inside][..], 2),
            (&[Inside, Entry, System, System], 2),
            // A stripped C library names its exported functions only.
            (&[Inside, Entry, Unnamed, System, Unnamed], 2),
            (&[Inside, Inside, System, System], 2),
            // Without an entry, what has no name may be the program's.
            (&[Inside, Unnamed, System], 2),
            (&[Inside, Unnamed, Unnamed], 3),
            (&[Unnamed, Unnamed], 2),
            (&[System, System], 2),
            (&[Entry], 1),
            (&[], 0),
        ] {
            assert_eq!(without_root(stack.iter().copied()), left, "{stack:?}");
        }
    }

    #[test]
    fn the_program_and_its_threads_have_an_entry() {
        for (name, root) in [
            ("main", Root::Entry),
            ("std::rt::lang_start", Root::Entry),
            ("std::rt::lang_start::<()>", Root::Entry),
            ("<std::sys::thread::unix::Thread>::new::thread_start", Root::Entry),
            ("profiler_core::sys::own_threads::begin", Root::Entry),
            ("shop::own_threads::begin", Root::Inside),
            ("std::rt::lang_start::{{closure}}", Root::Inside),
            ("std::rt::lang_start_internal", Root::Inside),
            ("shop::main", Root::Inside),
            ("__libc_start_main", Root::System),
        ] {
            assert_eq!(Root::of_name(name), root, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_has_an_owner(name in "[<>a-z:& -]{0,30}|\\PC{0,20}") {
            let _ = Owner::of(&name);
        }
    }

    #[test]
    fn a_frame_without_a_name_ends_the_run() {
        check(&["profiler_core::f", "-", "profiler_core::g"], &["-", "profiler_core::g"]);
        check(&["-", "shop::f"], &["-", "shop::f"]);
    }
}
