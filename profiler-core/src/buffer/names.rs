//! Names of threads, as records of CPU time carry them: one pointer, for as long as captures run.

#![allow(unsafe_code, reason = "names end when no record carries them, which the archive sees to")]

use std::collections::HashMap;
use std::ptr;

/// Distinct names that are kept; others are `[other]`.
const MAX_NAMES: usize = 1024;

/// The names of the threads that were seen since captures run.
#[derive(Debug, Default)]
pub(crate) struct Names(HashMap<Box<str>, &'static &'static str>);

impl Names {
    /// Returns a name to carry until [`Archive::end_cpu_time`](super::archive::Archive::end_cpu_time).
    pub(crate) fn keep(&mut self, name: &str) -> &'static &'static str {
        if let Some(known) = self.0.get(name) {
            return known;
        }
        if self.0.len() >= MAX_NAMES {
            return &"[other]";
        }
        let text: &'static str = Box::leak(name.into());
        let kept: &'static &'static str = Box::leak(Box::new(text));
        self.0.insert(name.into(), kept);
        kept
    }

    /// Ends them all.
    ///
    /// # Safety
    ///
    /// Neither a thread nor a record has one.
    pub(super) unsafe fn end(&mut self) {
        for (_, name) in self.0.drain() {
            let text = ptr::from_ref::<str>(name).cast_mut();
            // SAFETY: leaked in `keep`, and nobody has it.
            drop(unsafe { Box::from_raw(ptr::from_ref(name).cast_mut()) });
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(text) });
        }
    }
}

#[cfg(test)]
mod tests {
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
