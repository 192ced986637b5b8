//! Names of threads, as records of CPU time carry them: one pointer, for as long as captures run.

#![allow(unsafe_code, reason = "names end when no record carries them, which the archive sees to")]

use std::collections::HashMap;
use std::ptr::NonNull;

/// Distinct names that are kept; others are `[other]`.
const MAX_NAMES: usize = 1024;

/// The names of the threads that were seen since captures run.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<Box<str>, Kept>);

/// A name, and the text that it points at.
#[derive(Debug)]
struct Kept {
    name: NonNull<&'static str>,
    text: NonNull<str>,
}

// SAFETY: shared until they end, and then one's alone.
unsafe impl Send for Kept {}

impl Names {
    /// Returns a name to carry until [`Archive::end_cpu_time`](super::archive::Archive::end_cpu_time).
    pub(crate) fn keep(&mut self, name: &str) -> &'static &'static str {
        if let Some(known) = self.0.get(name) {
            // SAFETY: made below, and not ended.
            return unsafe { known.name.as_ref() };
        }
        if self.0.len() >= MAX_NAMES {
            return &"[other]";
        }
        let text = NonNull::from(Box::leak(Box::<str>::from(name)));
        // SAFETY: it lives until `end`.
        let kept = NonNull::from(Box::leak(Box::new(unsafe { text.as_ref() })));
        self.0.insert(name.into(), Kept { name: kept, text });
        // SAFETY: as above.
        unsafe { kept.as_ref() }
    }

    /// Ends them all.
    ///
    /// # Safety
    ///
    /// Neither a thread nor a record has one.
    pub(super) unsafe fn end(&mut self) {
        for (_, Kept { name, text }) in self.0.drain() {
            // SAFETY: leaked in `keep`, and nobody has it.
            drop(unsafe { Box::from_raw(name.as_ptr()) });
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(text.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;

    #[test]
    fn equal_names_are_one_and_begin_anew_when_ended() {
        let mut names = Names::default();
        let first: *const &str = names.keep("worker");
        assert!(ptr::eq(first, names.keep("worker")));
        for number in 0..MAX_NAMES {
            names.keep(&number.to_string());
        }
        assert_eq!(*names.keep("late"), "[other]");
        // SAFETY: nobody has one any more.
        unsafe { names.end() };
        assert_eq!(*names.keep("late"), "late");
    }
}
