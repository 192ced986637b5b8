//! Where the shown part of an allocation's stack begins.
//!
//! A sample is taken in the allocator, far below what was called for the memory: `Vec::push` is eight
//! calls away. People know what they called, so of the library's functions below theirs only the outermost
//! stays: `BTreeMap::insert`, not `Box::new_uninit_in` of some node.
//!
//! `core` cannot allocate, it only calls what it is given. Where it stands between two allocating
//! functions, for example an iterator between `str::to_owned` and `Vec::from_iter`, the inner one is the leaf.

use super::name::{is_closure, plain_type, split_qualified};
use super::trim::{Cut, Root};

/// What the compiler puts between the library and the global allocator.
const SHIMS: &[&str] = &["__rust_alloc", "__rust_alloc_zeroed", "__rust_realloc"];
/// How the library asks for memory; nobody calls these to have a collection.
const REQUESTS: &[&str] = &[
    "alloc::alloc::",
    "alloc::raw_vec::",
    "allocator_api2::stable::alloc::",
    "core::alloc::",
    "hashbrown::raw::",
];
/// What the sample was taken in.
const ALLOCATOR: &[&str] = &["profiler_core::capture::alloc::", "std::alloc::"];

/// Crates of collections and of what else allocates for its callers.
const LIBRARY: &[&str] = &["alloc", "std", "hashbrown"];

/// Parts of `core` that stand between functions of the library and are given none to call.
const FORWARD: &[&str] = &["core::convert::", "core::fmt::", "core::slice::sort::"];

/// Traits of `core` that call somebody else's function, whatever type they stand for.
const CALLS: &[&str] = &["core::ops::function::", "core::convert::Into"];

/// What a function does between a caller and the allocator.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Is the profiled allocator.
    Allocator,
    /// Asks the allocator, on behalf of a collection. All below it is the allocator, whosever it is.
    Request,
    /// Allocates for its caller.
    Library,
    /// The same, but called by a function of the library that stands further out.
    Inner,
    /// Stands between functions of the library, or between one and its caller.
    Forward,
    /// Calls what it is given, which may be the caller's choice.
    Glue,
    /// Where the program or a thread begins.
    Root,
    #[default]
    Caller,
}

/// Finds where the shown part begins, given what the lines of each location do, leaf first. Nothing is cut if
/// nothing would remain.
pub(crate) fn cut<Lines>(stack: impl Iterator<Item = Lines> + Clone) -> Cut
where
    Lines: ExactSizeIterator<Item = Role> + Clone,
{
    let lines = stack.enumerate().flat_map(|(locations, roles)| {
        // A location without names may be anybody's.
        let unnamed = (roles.len() == 0).then_some(Role::Caller);
        roles.chain(unnamed).enumerate().map(move |(lines, role)| (Cut { locations, lines }, role))
    });
    let position = |wanted| {
        // An allocator around ours uses no collections: what asks above one asks for something else.
        let mut below = lines.clone().take_while(|&(_, role)| role != Role::Library);
        below.position(|(_, role)| role == wanted)
    };
    let start = position(Role::Request).or_else(|| position(Role::Allocator)).unwrap_or(0);
    let asks = |&(_, role): &(Cut, Role)| matches!(role, Role::Allocator | Role::Request);
    let mut above = lines.clone().skip(start).skip_while(asks).peekable();
    let Some(&(first, _)) = above.peek() else { return Cut::default() };

    let (mut leaf, mut is_inner) = (first, false);
    for (cut, role) in above {
        match role {
            Role::Library => (leaf, is_inner) = (cut, false),
            Role::Inner => is_inner = true,
            Role::Glue if is_inner => {}
            Role::Glue | Role::Caller => return leaf,
            Role::Allocator | Role::Request | Role::Forward => {}
            Role::Root => break,
        }
    }
    // Nobody called the library: it set up the program or a thread, and what it did is all there is to see.
    first
}

impl Role {
    /// Tells by the demangled name.
    pub(crate) fn of(name: &str) -> Self {
        if matches!(Root::of_name(name), Root::Entry | Root::System) {
            return Self::Root;
        }
        let path = home(name);
        let root = root(path).unwrap_or_default();
        let is_in = |paths: &[&str]| paths.iter().any(|start| path.starts_with(start));
        if is_in(ALLOCATOR) {
            Self::Allocator
        } else if is_in(REQUESTS) || is_shim(name) {
            Self::Request
        } else if is_in(FORWARD) {
            Self::Forward
        } else if root == "core" {
            Self::Glue
        } else if !LIBRARY.contains(&root) {
            Self::Caller
        } else if is_closure(name) {
            Self::Inner
        } else {
            Self::Library
        }
    }
}

fn is_shim(name: &str) -> bool {
    let last = name.rsplit("::").next().unwrap_or_default();
    // Those of old compilers stood before another, whose prefix says whether the allocator is the default.
    SHIMS.contains(&last) || last.starts_with("__rg_") || last.starts_with("__rdl_")
}

/// Returns a path in the crate that the function belongs to.
fn home(name: &str) -> &str {
    let Some(qualified) = name.strip_prefix('<') else { return name };
    let (self_type, interface, _) = split_qualified(qualified);
    let interface = match interface.strip_prefix('<') {
        // A trait inside a function of a type.
        Some(qualified) => home_of_type(split_qualified(qualified).0),
        None => interface,
    };
    match root(interface) {
        // A function that is called through a parameter, and `From` under another name.
        Some("core") if CALLS.iter().any(|start| interface.starts_with(start)) => interface,
        Some("core" | "std") if root(plain_type(self_type)).is_some() => plain_type(self_type),
        // A trait of `alloc` is mostly its own helper: `<shop::Item as alloc::slice::hack::ConvertVec>`.
        Some(_) => interface,
        None => home_of_type(self_type),
    }
}

/// Only the library has functions of slices and of primitive types.
fn home_of_type(self_type: &str) -> &str {
    let own = plain_type(self_type);
    let is_primitive = root(own).is_none() || self_type.starts_with(['[', '*']);
    if is_primitive { "alloc::" } else { own }
}

fn root(path: &str) -> Option<&str> {
    path.split_once("::").map(|(root, _)| root)
}

#[cfg(test)]
mod tests;
