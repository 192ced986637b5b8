//! A reader that is halted anywhere keeps nobody from allocating and freeing.
//!
//! The inner allocator takes no lock, since the reader may be halted within it.

#![allow(unsafe_code, reason = "an allocator is called by hand, and a signal halts a thread")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use profiler_core::{Config, Kind, ProfiledAllocator, Rates, Symbols, View, memory, snapshot_with};
use profiler_tests::bits::Bits;

static ALLOCATOR: ProfiledAllocator<Bits> = ProfiledAllocator::new(Bits);

/// Counts up while the reader is to stand still, and up again when it may go on.
static HALT: AtomicU64 = AtomicU64::new(0);
static HALTED: AtomicBool = AtomicBool::new(false);
static DONE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
static STOP: AtomicBool = AtomicBool::new(false);

/// Halts the thread that it strikes.
extern "C" fn halt(_: libc::c_int) {
    let now = HALT.load(Ordering::SeqCst);
    HALTED.store(true, Ordering::SeqCst);
    while HALT.load(Ordering::SeqCst) == now {
        // SAFETY: takes nothing; a system call.
        unsafe { libc::sched_yield() };
    }
    HALTED.store(false, Ordering::SeqCst);
}

fn work(done: &AtomicUsize) {
    let layout = Layout::from_size_align(40, 8).expect("a layout");
    while !STOP.load(Ordering::Relaxed) {
        // SAFETY: the size is not zero.
        let block = unsafe { ALLOCATOR.alloc(layout) };
        assert!(!block.is_null());
        // SAFETY: allocated with this layout.
        unsafe { ALLOCATOR.dealloc(block, layout) };
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits for what must come; a wait of a minute is a hang.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > Duration::from_secs(60) {
            eprintln!("hangs: {what}");
            std::process::abort();
        }
        thread::yield_now();
    }
}

#[test]
fn allocations_and_frees_go_on_while_a_reader_is_halted() {
    // SAFETY: the handler touches atomics alone.
    unsafe { libc::signal(libc::SIGUSR1, halt as extern "C" fn(_) as libc::sighandler_t) };
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    thread::scope(|scope| {
        for done in &DONE {
            scope.spawn(|| work(done));
        }
        let (say, said) = std::sync::mpsc::channel();
        let reader = scope.spawn(move || {
            // SAFETY: takes nothing and cannot fail.
            say.send(unsafe { libc::pthread_self() }).expect("the test listens");
            let view = View::default().symbols(Symbols::None);
            let mut sum = 0;
            while !STOP.load(Ordering::Relaxed) {
                sum += memory().allocations.map_or(0, |exact| exact.allocated_objects);
                if let Ok(profile) = snapshot_with(Kind::Heap, view) {
                    profile.write_to(std::io::sink()).expect("a sink takes all");
                    sum += profile.len() as u64;
                }
            }
            sum
        });
        let thread = said.recv().expect("the reader lives");
        wait_for("the first allocation", || {
            DONE.iter().all(|done| done.load(Ordering::Relaxed) > 0)
        });
        for moment in 0..300_u32 {
            // Another step of the reader each time.
            for _ in 0..moment.wrapping_mul(7919) % 20_000 {
                spin_loop();
            }
            // SAFETY: the thread lives until it is told to stop.
            assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
            wait_for("the reader is not struck", || HALTED.load(Ordering::SeqCst));
            let before: Vec<_> = DONE.iter().map(|done| done.load(Ordering::Relaxed)).collect();
            wait_for("allocations, while a reader is halted", || {
                DONE.iter().zip(&before).all(|(done, at)| done.load(Ordering::Relaxed) > at + 10)
            });
            HALT.fetch_add(1, Ordering::SeqCst);
            wait_for("the reader is not let go", || !HALTED.load(Ordering::SeqCst));
        }
        STOP.store(true, Ordering::Relaxed);
        assert!(reader.join().expect("no panic") > 0);
    });
}
