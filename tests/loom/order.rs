//! The threads of a model, begun in either order.
//!
//! loom looks for other interleavings where an access depends on the one before to the same atomic, and
//! knows of one access before: a load and a store of one thread hide the load of another that came
//! before both. So what a reader may see of a writer is shown where the writer is first, and the
//! other way round nothing is; each model runs in both orders.

use loom::thread;

/// Which thread of a model is the first to run where nothing forces another.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Forward,
    Backward,
}

impl Order {
    pub(crate) const ALL: [Self; 2] = [Self::Forward, Self::Backward];

    /// Runs the threads together and returns what they return, as listed.
    pub(crate) fn run<const N: usize, R: 'static>(
        self,
        threads: [Box<dyn FnOnce() -> R>; N],
    ) -> [R; N] {
        let mut threads: Vec<_> = threads.into_iter().enumerate().collect();
        if matches!(self, Self::Backward) {
            threads.reverse();
        }
        let begun = threads.into_iter().map(|(position, thread)| (position, thread::spawn(thread)));
        let begun: Vec<_> = begun.collect();
        let mut results = [const { None }; N];
        for (position, thread) in begun {
            results[position] = Some(thread.join().expect("no panic"));
        }
        results.map(|result| result.expect("each has run"))
    }
}
