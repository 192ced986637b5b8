//! What a demangled name consists of.

/// Splits `Type as Trait>::method` into type, trait (empty if there is none) and the rest.
pub(crate) fn split_qualified(qualified: &str) -> (&str, &str, &str) {
    let mut depth = 1_usize;
    let mut as_at = None;
    let mut before = b' ';
    for (at, byte) in qualified.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            // Not the arrow of a function's type.
            b'>' if before != b'-' => depth -= 1,
            b' ' if depth == 1 && qualified[at..].starts_with(" as ") => as_at = Some(at),
            _ => {}
        }
        if depth == 0 {
            let (inside, rest) = (&qualified[..at], &qualified[at + 1..]);
            return match as_at {
                Some(as_at) => (&inside[..as_at], &inside[as_at + 4..], rest),
                None => (inside, "", rest),
            };
        }
        before = byte;
    }
    (qualified, "", "")
}

/// Returns `T` for references, pointers, slices and trait objects of `T`.
pub(crate) fn plain_type(mut name: &str) -> &str {
    const AROUND: &[&str] = &["&", "*", "mut ", "const ", "dyn ", "["];
    while let Some(inner) = AROUND.iter().find_map(|around| name.strip_prefix(around)) {
        name = inner;
    }
    name
}

/// Returns whether the function is a closure or stands in one; closures among the type parameters do
/// not make it one.
pub(crate) fn is_closure(name: &str) -> bool {
    let mut depth = 0_usize;
    let mut before = b' ';
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' if before != b'-' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 && name[at..].starts_with("{closure") => return true,
            _ => {}
        }
        before = byte;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualified_name_has_a_type_a_trait_and_a_rest() {
        for (name, parts) in [
            (
                "alloc::vec::Vec<T> as core::clone::Clone>::clone",
                ("alloc::vec::Vec<T>", "core::clone::Clone", "::clone"),
            ),
            ("alloc::string::String>::push", ("alloc::string::String", "", "::push")),
            ("fn() -> u8 as a::B<c as d>>::f::<u8>", ("fn() -> u8", "a::B<c as d>", "::f::<u8>")),
            ("<a::B as c::D>::e as f::G>::h", ("<a::B as c::D>::e", "f::G", "::h")),
            ("damaged<", ("damaged<", "", "")),
        ] {
            assert_eq!(split_qualified(name), parts);
        }
    }

    #[test]
    fn closures() {
        for (name, expected) in [
            ("alloc::fmt::format::{{closure}}", true),
            ("std::thread::spawn::{closure#0}::<u8>", true),
            ("<a::B as c::D>::e::{closure#1}", true),
            ("alloc::string::{closure#0}<char>", true),
            ("core::iter::for_each::<a::main::{closure#0}>", false),
            ("core::option::map_or_else<&str, alloc::fmt::{closure_env#0}, fn(&str) -> u8>", false),
            ("<a::main::{closure#0} as core::ops::FnOnce<()>>::call_once", false),
        ] {
            assert_eq!(is_closure(name), expected, "{name}");
        }
    }
}
