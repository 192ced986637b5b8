//! Call sites: the named places in the source that make up a span path.

/// A place in the source that can stand on the span stack.
///
/// Made by `#[profiled]`, [`span!`](crate::span) and the tracing layer; lives as long as the
/// program, so its address is its identity.
#[derive(Debug)]
pub struct CallSite {
    name: Name,
    file: &'static str,
    line: u32,
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
        f.write_str(self.get())
    }
}

impl Name {
    fn get(self) -> &'static str {
        match self {
            Self::Literal(name) => name,
            // The item's own last segment goes: `shop::checkout::here` names `shop::checkout`.
            Self::Enclosing(item) => {
                let path = item();
                path.rsplit_once("::").map_or(path, |(function, _)| function)
            }
        }
    }
}

impl CallSite {
    /// Describes a place; `line` counts from 1.
    #[must_use]
    pub const fn new(name: Name, file: &'static str, line: u32) -> Self {
        Self { name, file, line }
    }

    /// Returns the name shown in profiles, for example `shop::checkout`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name.get()
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
