//! In-process profiles of locks, waits, the heap, threads and spans, in the formats of Go's pprof: who
//! holds the locks, who waits for them, what is alive, and what every thread is doing.
//!
//! ```
//! use std::sync::mpsc;
//!
//! use profiler_core::{Config, Kind, Rates, profiled, snapshot, sync::Mutex, thread};
//!
//! static STOCK: Mutex<u32> = Mutex::named("stock", 7);
//!
//! #[profiled]
//! fn holds_the_lock(held: &mpsc::Sender<()>, release: &mpsc::Receiver<()>) {
//!     let _stock = STOCK.lock().expect("not poisoned");
//!     held.send(()).expect("the other end lives");
//!     release.recv().expect("the other end lives");
//! }
//!
//! profiler_core::start(Config::default().rates(Rates::ALL))?;
//! # if snapshot(Kind::Goroutine).is_err() { return Ok(()); } // threads are not known here
//! let (held, is_held) = mpsc::channel();
//! let (release, released) = mpsc::channel();
//! let holder = thread::spawn(move || holds_the_lock(&held, &released));
//! is_held.recv()?;
//! let waiter = thread::spawn(|| *STOCK.lock().expect("not poisoned"));
//! // Release the lock as soon as somebody is seen to wait for it.
//! while !snapshot(Kind::Goroutine)?.samples().any(|thread| thread.label("lock") == Some("stock")) {}
//! release.send(())?;
//! assert_eq!(waiter.join().expect("no panic"), 7);
//! holder.join().expect("no panic");
//!
//! let mutex = snapshot(Kind::Mutex)?;
//! let names = mutex.samples().flat_map(|sample| sample.frames()).filter_map(|frame| frame.function);
//! assert!(names.into_iter().any(|name| name.ends_with("holds_the_lock")));
//! // What waiters waited is what holders were charged.
//! assert_eq!(mutex.totals()[1], snapshot(Kind::Block)?.totals()[1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `profiler-http` serves all of it under `/debug/pprof`.
//!
//! # What it guarantees
//!
//! - Capture never fails and never panics. What it could not keep is counted, under `[overflow]` and
//!   `[lost]` in the profile and in [`stats`]. The only locks that it takes are short ones of its own:
//!   of the table of label sets, in [`with_labels`], and of the list of a condition variable's waiters.
//! - Readers never stop those who write.
//! - [`ProfiledAllocator`] takes no lock, and no memory but the system's, for tables of its own.
//! - Sampling ([`Rates`]) biases neither counts nor times.
//! - Before [`start`] an annotation makes no call: it reads a switch and takes two branches, about a
//!   nanosecond.
//!
//! # What it does not do
//!
//! It sees allocations of a [`ProfiledAllocator`], not those of C code nor what is mapped by `mmap`, and
//! locks of [`sync`] and, with the feature, `parking_lot`; not those that nobody prefixed.
//! Threads are seen with the stack that created them if they are those of [`thread`].
//! On platforms other than Linux on x86_64 and aarch64 stacks are paths of spans.
//!
//! # Yours to see to
//!
//! Profiles show names of functions, locks and labels: mind who may read them. Labels with many
//! values make many series in some servers.
//!
//! # Signals
//!
//! While a capture of [`Kind::Profile`] or [`Kind::Wall`] runs, and where somebody asks for the stacks of all threads
//! ([`ThreadView::All`], [`write_threads`], `goroutine?debug=2`), threads handle SIGPROF. Its handler is installed with
//! `SA_RESTART`, so most calls go on as if nothing had happened; these return `EINTR` all the same, and a program
//! must be ready for it, as for any signal: `epoll_wait`, `poll`, `select` and their kin, `nanosleep`, `clock_nanosleep`,
//! `usleep`, `sleep` (std's sleeps on), `pause`, `sigsuspend`, `sigtimedwait`, `semop`, `msgrcv`, `msgsnd`, `io_getevents`,
//! `futex` with a timeout by the system call alone (std's and parking_lot's locks wait on), and `accept`, `connect`,
//! `recv` and `send` on sockets with `SO_RCVTIMEO` or `SO_SNDTIMEO`. All else interrupts no thread.
//!
//! A handler of SIGPROF that was there before the first of these is called for signals that are not ours; one that
//! is installed later takes them away.
//!
//! The profiler's own threads have names that begin with `profiler`, and block all signals from before they are there: a program
//! that blocks a signal in its threads and waits for it (`sigwait`, `signalfd`) gets it. Not blocked are those that only a fault of the
//! thread itself raises, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP and SIGSYS: handlers that report a crash, or that a
//! sandbox has, are called on these threads too. Since they block SIGPROF, what they use of CPU time is `[unsampled]`,
//! [`Kind::Wall`] and [`Kind::Goroutine`] leave them out.
//!
//! # Forks
//!
//! Annotations, locks and the allocator may be used in the child of a fork as in its parent, and what is recorded there is the child's.
//! It waits for no lock that a thread of the parent may have held: it has its own. So it is after `fork`, after `_Fork`, and
//! after a `clone` or `fork` by the system call, as far as what the child uses of libc allows it: after the latter ones it must not allocate
//! while threads of the parent do. Captures that ran are the parent's. Libraries that the child loads have no tables for
//! stacks. A handler of forks that was registered before the profiler's, at the first allocation by [`ProfiledAllocator`] or at
//! [`start`], sees the child as one without handlers does.
//!
//! Between `vfork` and `execve` memory is the parent's: nothing of this crate may be used there, nor of any other.
//!
//! # Features
//!
//! - `tracing` (default): `layer` puts tracing spans on the span stack.
//! - `parking_lot` (default): the locks of `parking_lot` 0.13, and wrappers for any raw lock of `lock_api`
//!   0.5. Needs Rust 1.95; everything else needs 1.92.

mod budget;
mod buffer;
mod callsite;
mod capture;
mod capturing;
mod clock;
mod config;
mod encode;
mod error;
mod first;
mod kind;
mod labels;
mod live;
mod loaded;
mod memory;
mod merge;
mod own_thread;
mod per_process;
mod profile;
mod profiler;
#[cfg_attr(profiler_native, path = "stack/mod.rs")]
#[cfg_attr(not(profiler_native), path = "stack/unsupported.rs")]
mod stack;
mod sys;
mod view;

pub use capture::alloc::ProfiledAllocator;
pub use capture::birth as thread;
pub use capture::custom::{CustomProfile, Entry};
pub use capture::labels::with_labels;
#[cfg(feature = "tracing")]
pub use capture::layer::{LayerOptions, layer, layer_with};
#[cfg(feature = "parking_lot")]
pub use capture::lock::parking_lot;
pub use capture::lock::sync;
pub use capture::wait::wait;
pub use capturing::Capture;
pub use config::{Config, Rates};
pub use error::{ConfigError, StartError, Unavailable};
pub use kind::{Description, Kind, Read, TextForm, ValueType};
pub use labels::{LabelPairs, Labels};
pub use memory::{Allocations, Memory, memory, release_memory};
pub use profile::{Frame, LabelValue, Profile, Sample, TopEntry};
pub use profiler::{
    Stats, count, default_view, kinds, rates, set_rates, snapshot, snapshot_with, start, stats,
    symbol, write_threads,
};
pub use profiler_macros::profiled;
pub use view::{LabelView, StackView, Symbols, ThreadView, View};

#[doc(hidden)]
pub mod __private;
