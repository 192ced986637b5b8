//! Forks while a thread is halted, at one allocation after another of what it does: whatever it holds then, it
//! holds in the child for ever.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::sink;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use profiler_core::{
    Capture, Config, Kind, Rates, Symbols, View, profiled, span, sync, with_labels, write_threads,
};
use tracing_subscriber::layer::SubscriberExt;

use crate::{THINGS, bare_fork, fork, in_child, read, start};

/// The allocator below the profiled one: halts a thread that has asked for it.
pub(crate) struct Halting;

thread_local! {
    /// Allocations until the thread is halted; 0 for never.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

static HALTED: AtomicBool = AtomicBool::new(false);
static RELEASED: AtomicBool = AtomicBool::new(false);

// SAFETY: all is passed on.
unsafe impl GlobalAlloc for Halting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let left = ALLOCATIONS.get();
        ALLOCATIONS.set(left.saturating_sub(1));
        if left == 1 {
            HALTED.store(true, Ordering::SeqCst);
            while !RELEASED.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        // SAFETY: asked as we are.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: asked as we are.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What a process says that never came to the allocation at which it was to be halted.
const IS_OVER: i32 = 77;

/// Halts a thread that does `body` at one allocation in so many, each in a process of its own that has done what
/// prepares it, and has children do the same.
fn at_every(step: usize, prepare: fn(), body: fn() -> bool) {
    for allocation in (1..).step_by(step) {
        let process = fork();
        if process == 0 {
            let status = catch_unwind(|| halted_at(allocation, prepare, body)).unwrap_or(3);
            // SAFETY: ends the process.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: the status is a live exclusive value.
        assert_eq!(unsafe { libc::waitpid(process, &raw mut status, 0) }, process);
        let (signal, exit) = (libc::WTERMSIG(status), libc::WEXITSTATUS(status));
        assert!(signal == 0 && [0, IS_OVER].contains(&exit), "{allocation}: {signal}, {exit}");
        if exit == IS_OVER {
            assert!(allocation > 1, "it allocates");
            return;
        }
    }
}

fn halted_at(allocation: u64, prepare: fn(), body: fn() -> bool) -> i32 {
    static IS_OVER_NOW: AtomicBool = AtomicBool::new(false);

    profiler_tests::program::end_if_it_hangs();
    prepare();
    let thread = thread::spawn(move || {
        ALLOCATIONS.set(allocation);
        let is_right = body();
        ALLOCATIONS.set(0);
        IS_OVER_NOW.store(true, Ordering::SeqCst);
        is_right
    });
    let is_over = loop {
        if HALTED.load(Ordering::SeqCst) {
            break false;
        }
        if IS_OVER_NOW.load(Ordering::SeqCst) {
            break true;
        }
        thread::yield_now();
    };
    if !is_over {
        in_child(fork, body);
        in_child(bare_fork, body);
    }
    RELEASED.store(true, Ordering::SeqCst);
    assert!(thread.join().expect("no panic"), "it does what it does");
    if is_over { IS_OVER } else { 0 }
}

/// Of a type elsewhere: its path as a reader would write it has to be made.
mod elsewhere {
    pub(crate) struct Kettle;
}

impl elsewhere::Kettle {
    #[profiled]
    fn boils(&self) {
        let _inner = span!("within");
        with_labels([("label", "value")], || drop(THINGS.enter()));
    }
}

/// Does all for the first time, and is seen to have done it.
fn records() -> bool {
    static MUTEX: sync::Mutex<()> = sync::Mutex::new(());
    static CONDVAR: sync::Condvar = sync::Condvar::new();
    let entry = THINGS.enter();
    tracing::info_span!("traced").in_scope(|| elsewhere::Kettle.boils());
    let held = MUTEX.lock().expect("no panic");
    let short = std::time::Duration::from_micros(1);
    drop(CONDVAR.wait_timeout(held, short).expect("no panic"));
    CONDVAR.notify_all();
    let is_there = read(Kind::Custom("things")).totals()[0] > 0;
    drop(entry);
    is_there && read(Kind::Spans).samples().count() > 0
}

fn starts() -> bool {
    let config = Config::default().rates(Rates::ALL).symbols(Symbols::None);
    // It was started, perhaps, by who is halted.
    let _ = profiler_core::start(config.dump_on_sigquit(true));
    profiler_core::stats().started && records()
}

pub(crate) fn in_start() {
    at_every(13, || (), starts);
}

fn start_with_layer() {
    start();
    let subscriber = tracing_subscriber::registry().with(profiler_core::layer());
    tracing::subscriber::set_global_default(subscriber).expect("the first");
}

pub(crate) fn in_records() {
    at_every(17, start_with_layer, records);
}

pub(crate) fn in_names() {
    let prepare = || {
        start_with_layer();
        elsewhere::Kettle.boils();
    };
    at_every(7, prepare, || read(Kind::Spans).samples().count() > 0);
}

pub(crate) fn in_readers() {
    let prepare = || {
        start_with_layer();
        assert!(records());
    };
    let body = || {
        let kinds = [Kind::Block, Kind::Goroutine, Kind::Heap, Kind::Mutex, Kind::Threadcreate];
        let _read = kinds.map(read);
        let _name = profiler_core::symbol(in_readers as fn() as usize as u64);
        profiler_core::kinds().len() > kinds.len() && write_threads(sink()).is_ok()
    };
    at_every(101, prepare, body);
}

pub(crate) fn in_captures() {
    let body = || {
        [Kind::Profile, Kind::Wall].into_iter().all(|kind| {
            let view = View::default().symbols(Symbols::None);
            Capture::start(kind).is_ok_and(|capture| capture.finish_with(view).totals().len() > 1)
        })
    };
    at_every(17, start, body);
}
