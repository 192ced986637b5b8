//! Functions and lines: what a symbolizer finds out about an address.
//!
//! They are shared, immutable values: the resolver's cache and every profile point at the same
//! ones, so a profile costs no copies of names. Their texts are shared among them too: a file has many functions,
//! and what was inlined shows lines of several files.

use std::sync::Arc;

use super::allocation::Role;
use super::trim::Owner;

/// A function as profiles show it.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Function {
    /// The name for people; never empty.
    pub(crate) name: Arc<str>,
    /// The mangled name where it is known and another, else empty. A viewer that finds the two
    /// equal takes the name for C++ and cuts `<T as Trait>::f` down to `::f`.
    pub(crate) system_name: Arc<str>,
    /// The source file, absolute where debug information tells; may be empty.
    pub(crate) file: Arc<str>,
    /// Told by the name, once: every stack is asked for its frames' owners at every reading.
    pub(crate) owner: Owner,
    /// The same for stacks of allocations.
    pub(crate) role: Role,
}

/// A place in a function; several when calls were inlined.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Line {
    pub(crate) function: Arc<Function>,
    /// From 1; 0 if unknown.
    pub(crate) line: u32,
}

/// All that is known about one address.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Innermost first, the function that the machine called last. Empty if no name was found.
    pub(crate) lines: Box<[Line]>,
    /// How far the address lies behind the start of its function; 0 if unknown.
    pub(crate) offset: u64,
    /// Whether inlined calls would have been found.
    pub(crate) inlines: bool,
}

impl Function {
    /// Makes a function from the name in a symbol table or in debug information.
    ///
    /// `file` helps where the name stands alone: `line-tables-only` debug information says `lock`,
    /// not `lock_api::mutex::Mutex::lock`.
    pub(crate) fn new(raw: &str, file: &str) -> Self {
        let name = if let Some(name) = demangle(raw) {
            name
        } else if raw.starts_with("_Z") || raw.starts_with("_R") {
            // Another language's, or damaged: shown as it is.
            raw.to_owned()
        } else {
            qualify(raw, file)
        };
        let system_name = if is_mangled(raw) && *name != *raw { raw } else { "" };
        Self { system_name: system_name.into(), ..Self::named(&name, file) }
    }

    /// Makes a function that is known by its own name only.
    pub(crate) fn named(name: &str, file: &str) -> Self {
        Self {
            name: name.into(),
            system_name: Arc::default(),
            file: file.into(),
            owner: Owner::of(name),
            role: Role::of(name),
        }
    }

    /// Returns what may be shared with other functions.
    pub(crate) fn texts(&mut self) -> [&mut Arc<str>; 3] {
        [&mut self.name, &mut self.system_name, &mut self.file]
    }
}

/// Returns whether a name is a Rust symbol, so that it tells the whole path.
pub(crate) fn is_mangled(raw: &str) -> bool {
    demangler(raw).is_some()
}

fn demangler(raw: &str) -> Option<rustc_demangle::Demangle<'_>> {
    // The old scheme shares its prefix with C++ and is told by the hash at its end.
    if raw.starts_with("_ZN") && !raw.contains("17h") {
        return None;
    }
    rustc_demangle::try_demangle(raw).ok()
}

/// Returns the path of a Rust symbol, without the hash.
fn demangle(raw: &str) -> Option<String> {
    demangler(raw).map(|name| format!("{name:#}"))
}

/// Puts crate and module in front of a name that stands alone, as its source file tells them.
fn qualify(name: &str, file: &str) -> String {
    match path_of(file) {
        Some(path) => format!("{path}::{name}"),
        None => name.to_owned(),
    }
}

/// Returns the crate and modules that a Rust source file usually holds: `lock_api::mutex` for
/// `…/lock_api-0.5.0/src/mutex.rs`.
fn path_of(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".rs")?;
    let (package, modules) = match stem.rsplit_once("/src/") {
        Some((_, modules)) if modules.starts_with("bin/") => (modules.rsplit('/').next()?, ""),
        Some((directory, modules)) => (without_version(directory.rsplit('/').next()?), modules),
        None => {
            let (directory, name) = stem.rsplit_once('/')?;
            let folder = directory.rsplit('/').next()?;
            // The files in these folders are crates of their own.
            matches!(folder, "examples" | "tests" | "benches").then_some((name, ""))?
        }
    };
    if package.is_empty() {
        return None;
    }
    let mut path = package.replace('-', "_");
    for module in
        modules.split('/').filter(|module| !matches!(*module, "" | "mod" | "lib" | "main"))
    {
        path.push_str("::");
        path.push_str(module);
    }
    Some(path)
}

/// Returns `lock_api` for `lock_api-0.5.0`.
fn without_version(package: &str) -> &str {
    package
        .match_indices('-')
        .find(|(at, _)| package.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit))
        .map_or(package, |(at, _)| &package[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_verbatim_and_without_hash() {
        for (raw, name) in [
            ("_ZN3exp4user17h645f5e13fce6e012E", "exp::user"),
            (
                "_ZN48_$LT$exp..D$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE",
                "<exp::D as core::ops::drop::Drop>::drop",
            ),
            (
                "_ZN3exp4main28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
                "exp::main::{{closure}}",
            ),
            (
                "_RNvNvMs0_NtNtNtCsjrHSEGnQ3l9_3std3sys6thread4unixNtB7_6Thread3new12thread_start",
                "<std::sys::thread::unix::Thread>::new::thread_start",
            ),
        ] {
            let function = Function::new(raw, "/src/a.rs");
            assert_eq!(&*function.name, name);
            assert_eq!(&*function.system_name, raw);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_makes_a_function(raw in "(_R|_ZN)?\\PC{0,30}", file in "\\PC{0,20}(/src/)?\\PC{0,9}(.rs)?") {
            let function = Function::new(&raw, &file);
            proptest::prop_assert!(function.name != function.system_name || raw.is_empty());
        }
    }

    #[test]
    fn the_system_name_never_equals_the_name() {
        for raw in ["malloc", "_ZN3foo3barEv", "_Z3foov", "_R", "_ZN3foo3barE", "main", "lock<u8>"]
        {
            let function = Function::new(raw, "");
            assert_eq!((&*function.name, &*function.system_name), (raw, ""));
        }
    }

    #[test]
    fn a_bare_name_gets_its_path_from_the_file() {
        for (file, path) in [
            ("/home/me/.cargo/registry/src/x/lock_api-0.5.0/src/mutex.rs", "lock_api::mutex::f"),
            ("/home/me/.cargo/registry/src/x/some-crate-1.2.3-beta.1/src/lib.rs", "some_crate::f"),
            ("/rustc/0123/library/core/src/ptr/mod.rs", "core::ptr::f"),
            ("/rustc/0123/library/std/src/sync/poison/mutex.rs", "std::sync::poison::mutex::f"),
            ("/home/me/shop/src/main.rs", "shop::f"),
            ("/home/me/shop/src/bin/load.rs", "load::f"),
            ("/home/me/shop/examples/tour.rs", "tour::f"),
            ("/home/me/shop/build.rs", "f"),
            ("/usr/src/malloc.c", "f"),
            ("", "f"),
        ] {
            assert_eq!(&*Function::new("f", file).name, path, "{file}");
        }
    }
}
