//! Names of threads, which records carry and so are kept for ever.

use std::collections::HashMap;

use crate::sys;

/// Distinct names that are kept; others are `[other]`.
const MOST: usize = 1024;

/// Each name once.
#[derive(Debug, Default)]
pub(super) struct ThreadNames(HashMap<Box<str>, &'static &'static str>);

impl ThreadNames {
    /// Returns the name of a thread; nothing if it is gone or the system does not tell.
    pub(super) fn of(&mut self, thread: u32) -> Option<&'static &'static str> {
        let name = sys::thread_name(thread)?;
        if let Some(known) = self.0.get(&*name) {
            return Some(known);
        }
        if self.0.len() >= MOST {
            return Some(&"[other]");
        }
        let text: &'static str = Box::leak(name.clone().into());
        let kept = Box::leak(Box::new(text));
        self.0.insert(name.into(), kept);
        Some(kept)
    }
}
