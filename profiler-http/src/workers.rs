//! The threads that answer requests. A few stay for the next ones.

use std::ffi::CStr;
use std::io;
use std::sync::mpsc::{self, SendError, Sender};

use profiler_core::__private::{PerProcess, spawn};

/// Threads that stay while there is nothing to answer: as many as a scraper asks for kinds at one time.
const STAY: usize = 4;
/// The stack of each thread, as std gives it: demangling and debug information may nest deeply, and
/// only what is touched is ever in memory.
pub(crate) const STACK_SIZE: usize = 2 << 20;
/// The name of each thread; Linux keeps 15 bytes.
pub(crate) const THREAD_NAME: &CStr = c"profiler-http";

type Task = Box<dyn FnOnce() + Send>;

pub(crate) static WORKERS: Workers = Workers::new();

/// Threads, of which those that wait are known, each by what it waits for. The threads of a parent are not in the child of a
/// fork.
pub(crate) struct Workers(PerProcess<Vec<Sender<Task>>>);

impl Workers {
    const fn new() -> Self {
        Self(PerProcess::new(Vec::new))
    }

    /// Has a thread do something; whatever it panics with ends that thread alone.
    ///
    /// # Errors
    ///
    /// No thread waits, and the system refuses to create one.
    pub(crate) fn run(&'static self, task: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut task: Task = Box::new(task);
        loop {
            let Some(waiting) = self.0.lock().pop() else { break };
            match waiting.send(task) {
                Ok(()) => return Ok(()),
                Err(SendError(back)) => task = back,
            }
        }
        spawn(THREAD_NAME, STACK_SIZE, || self.work(task)).map(drop)
    }

    fn work(&'static self, mut task: Task) {
        loop {
            task();
            let (tell, told) = mpsc::channel();
            {
                let mut waiting = self.0.lock();
                if waiting.len() >= STAY {
                    return;
                }
                waiting.push(tell);
            }
            match told.recv() {
                Ok(next) => task = next,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, Barrier};
    use std::thread::{self, ThreadId};

    use super::*;

    static OWN: Workers = Workers::new();

    /// Has so many things done at one time, and returns on which threads.
    fn at_one_time(many: usize) -> HashSet<ThreadId> {
        let barrier = Arc::new(Barrier::new(many));
        let (tell, told) = mpsc::channel();
        for _ in 0..many {
            let (barrier, tell) = (Arc::clone(&barrier), tell.clone());
            let done = OWN.run(move || {
                barrier.wait();
                tell.send(thread::current().id()).expect("somebody waits");
            });
            done.expect("a thread");
        }
        drop(tell);
        told.iter().collect()
    }

    #[test]
    fn a_few_threads_stay_and_do_what_comes_next() {
        let mut all = HashSet::new();
        for _ in 0..50 {
            all.extend(at_one_time(STAY));
            // Until they wait.
            while OWN.0.lock().len() < STAY {
                thread::yield_now();
            }
        }
        assert_eq!(all.len(), STAY);
        assert_eq!(at_one_time(3 * STAY).len(), 3 * STAY);
    }
}
