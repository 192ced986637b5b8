//! Call sites: the named places in the source that make up a span path.

use std::borrow::Cow;

use crate::first::First;

/// A place in the source that can stand on the span stack.
///
/// Made by `#[profiled]`, [`span!`](crate::span) and the tracing layer; lives as long as the
/// program, so its address is its identity.
#[derive(Debug)]
pub struct CallSite {
    name: Name,
    /// The name as readers see it, made at the first reading.
    shown: First<Cow<'static, str>>,
    file: &'static str,
    line: u32,
    /// The line of the tracing span of the same function; 0 if there is none.
    span_line: u32,
}

/// How a call site knows its name.
#[derive(Clone, Copy)]
pub enum Name {
    /// Given in full.
    Literal(&'static str),
    /// The path of a function, told by the type name of an item declared inside it: a macro sees
    /// the method, not the type it belongs to, but the compiler knows both.
    Enclosing(fn() -> &'static str),
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.get())
    }
}

impl Name {
    fn get(self) -> Cow<'static, str> {
        match self {
            Self::Literal(name) => Cow::Borrowed(name),
            // The item's own last segment goes: `shop::checkout::name` names `shop::checkout`.
            Self::Enclosing(item) => {
                let path = item();
                as_source(path.rsplit_once("::").map_or(path, |(function, _)| function))
            }
        }
    }
}

/// Turns the compiler's path of a function into the one that a reader would write.
///
/// - `shop::sale::<impl shop::Cart>::add` (an impl outside the type's module) is `shop::Cart::add`
/// - `shop::sale::<impl shop::Priced for shop::Cart>::price` is
///   `<shop::Cart as shop::Priced>::price`
/// - `shop::serve::{{closure}}::retry` (a function in an async function) is `shop::serve::retry`
fn as_source(path: &'static str) -> Cow<'static, str> {
    let mut path = Cow::Borrowed(path);
    if let Some(start) = path.find("<impl ") {
        let start = start + "<impl ".len();
        if let Some(length) = closing(&path[start..]) {
            let (subject, rest) = (&path[start..start + length], &path[start + length + 1..]);
            path = Cow::Owned(match split_impl(subject) {
                Some((of_trait, of_type)) => format!("<{of_type} as {of_trait}>{rest}"),
                None => format!("{subject}{rest}"),
            });
        }
    }
    if path.contains("::{{closure}}") { path.replace("::{{closure}}", "").into() } else { path }
}

/// Returns where the angle bracket closes that was opened before the text.
fn closing(text: &str) -> Option<usize> {
    text.match_indices('>').map(|(index, _)| index).find(|&index| {
        // The arrow of `fn() -> u8` closes nothing.
        !text[..index].ends_with('-') && depth(&text[..index]) == 0
    })
}

/// Splits `Trait for Type` at the word between them, not at one inside `Trait<for<'a> fn(&'a u8)>`.
fn split_impl(subject: &str) -> Option<(&str, &str)> {
    subject
        .match_indices(" for ")
        .map(|(index, word)| (&subject[..index], &subject[index + word.len()..]))
        .find(|(of_trait, _)| depth(of_trait) == 0)
}

/// Counts the angle brackets that are still open.
fn depth(text: &str) -> usize {
    let closed = text.matches('>').count() - text.matches("->").count();
    text.matches('<').count().saturating_sub(closed)
}

impl CallSite {
    /// Describes a place; `line` counts from 1.
    #[must_use]
    pub const fn new(name: Name, file: &'static str, line: u32) -> Self {
        Self { name, shown: First::new(), file, line, span_line: 0 }
    }

    /// Says that the function here is `#[instrument]`ed too, by a span in this line of the file.
    #[must_use]
    pub const fn instrumented(mut self, line: u32) -> Self {
        self.span_line = line;
        self
    }

    /// Tells whether a tracing span, by its metadata, is the one that `#[instrument]` made for the
    /// function here.
    ///
    /// Such a span adds nothing to the frame of the call site, so it gets none of its own.
    #[must_use]
    pub fn is_span(&self, file: Option<&str>, line: Option<u32>) -> bool {
        self.span_line != 0 && line == Some(self.span_line) && file == Some(self.file)
    }

    /// Returns the name shown in profiles, for example `shop::checkout`.
    ///
    /// The first call may allocate: for readers of profiles, not for the recording side.
    #[must_use]
    pub fn name(&self) -> &'static str {
        // The place itself lives as long as the program.
        self.shown.get_or_make(|| self.name.get())
    }

    /// Returns the source file, as the compiler names it.
    #[must_use]
    pub const fn file(&self) -> &'static str {
        self.file
    }

    /// Returns the line in the file, from 1.
    #[must_use]
    pub const fn line(&self) -> u32 {
        self.line
    }

    /// Returns the address that stands for this place in a profile.
    #[must_use]
    pub fn address(&'static self) -> u64 {
        std::ptr::from_ref(self).addr() as u64
    }
}

// A place is the same as itself only: two instances of one macro in one line are two places.
impl PartialEq for CallSite {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for CallSite {}

impl std::hash::Hash for CallSite {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::from_ref(self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &'static str, expected: &str) {
        assert_eq!(as_source(path), expected);
    }

    #[test]
    fn paths_of_functions_stay() {
        check("shop::checkout", "shop::checkout");
        check("shop::Gen<_, N>::add", "shop::Gen<_, N>::add");
        check("<shop::Cart as shop::Priced>::price", "<shop::Cart as shop::Priced>::price");
        check(
            "<(u8, fn(u8) -> u8) as shop::Priced>::price",
            "<(u8, fn(u8) -> u8) as shop::Priced>::price",
        );
    }

    #[test]
    fn an_impl_elsewhere_is_named_by_its_type() {
        check("shop::sale::<impl shop::Cart>::add", "shop::Cart::add");
        check("shop::_::<impl shop::Gen<_, 3>>::add", "shop::Gen<_, 3>::add");
        check("a::<impl b::Of<fn(u8) -> u8>>::add", "b::Of<fn(u8) -> u8>::add");
    }

    #[test]
    fn a_trait_impl_elsewhere_is_named_by_both() {
        check("a::<impl b::Priced for u64>::price", "<u64 as b::Priced>::price");
        check(
            "a::<impl core::convert::From<b::Cart> for alloc::vec::Vec<b::Lt<'_>>>::from",
            "<alloc::vec::Vec<b::Lt<'_>> as core::convert::From<b::Cart>>::from",
        );
        check(
            "a::<impl b::Of<for<'a> fn(&'a u8)> for u8>::of",
            "<u8 as b::Of<for<'a> fn(&'a u8)>>::of",
        );
        check(
            "a::<impl b::Of<u8> for for<'a> fn(&'a u8) -> u8>::of",
            "<for<'a> fn(&'a u8) -> u8 as b::Of<u8>>::of",
        );
    }

    #[test]
    fn closures_around_a_function_are_left_out() {
        check("shop::serve::{{closure}}::{{closure}}::retry", "shop::serve::retry");
    }

    #[test]
    fn only_the_noted_span_is_the_same_place() {
        let site = CallSite::new(Name::Literal("checkout"), "shop.rs", 7);
        assert!(!site.is_span(Some("shop.rs"), Some(7)));
        assert!(!site.is_span(None, None));
        let site = site.instrumented(6);
        assert!(site.is_span(Some("shop.rs"), Some(6)));
        assert!(!site.is_span(Some("shop.rs"), Some(7)));
        assert!(!site.is_span(Some("other.rs"), Some(6)));
    }

    #[test]
    fn an_enclosing_name_drops_the_marker_item() {
        fn here() {}
        fn name() -> &'static str {
            std::any::type_name_of_val(&here)
        }
        let site = CallSite::new(Name::Enclosing(name), file!(), line!());
        assert!(
            site.name().ends_with("an_enclosing_name_drops_the_marker_item"),
            "{}",
            site.name()
        );
    }
}
