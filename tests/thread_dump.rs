//! Every thread of the process shows where it is: those that nobody told of, those that sleep in the
//! kernel, those that run. Whoever only reads what is published interrupts nobody.

#![allow(unsafe_code, reason = "threads of C, masks of signals and epoll are made by system calls")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use profiler_core::{
    Config, Kind, Profile, ThreadView, View, profiled, snapshot, snapshot_with, write_threads,
};
use profiler_tests::epoll::interruptions;
use profiler_tests::keep;
use profiler_tests::parked::ThreadId;

/// One test at a time: signals to one would disturb another.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    START.call_once(|| profiler_core::start(Config::default()).expect("the first start"));
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn dump() -> String {
    let mut text = Vec::new();
    write_threads(&mut text).expect("memory takes all");
    String::from_utf8(text).expect("text")
}

/// Returns what the dump says of a thread.
fn of(dump: &str, thread: ThreadId) -> String {
    let start = format!("goroutine {} [", thread.get());
    let found = dump.split("\n\n").find(|part| part.starts_with(&start));
    found.unwrap_or_else(|| panic!("no {start} in\n{dump}")).to_owned()
}

/// Asserts that the thread is in that state, and these functions call each other, innermost first.
#[track_caller]
fn stands(dump: &str, thread: ThreadId, state: &str, functions: &[&str]) {
    let text = of(dump, thread);
    assert!(text.contains(&format!(" [{state}] {{")), "{state}: {text}");
    let mut rest = &*text;
    for function in functions {
        let call = format!("\n{function}(...)\n");
        let at = rest.find(&call).unwrap_or_else(|| panic!("{function} in\n{text}"));
        rest = &rest[at + call.len() - 1..];
    }
}

/// A thread of std that tells nothing to the profiler.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> (ThreadId, JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let builder = thread::Builder::new().name(name.to_owned());
    let handle = builder.spawn(move || {
        tell.send(ThreadId::current()).expect("somebody listens");
        body();
    });
    (told.recv().expect("it has started"), handle.expect("the system has threads"))
}

#[inline(never)]
fn sleeps() {
    thread::sleep(Duration::from_secs(1000));
    keep!();
}

#[inline(never)]
fn reads(mut stream: UnixStream) {
    stream.read_exact(&mut [0]).expect("a byte comes");
    keep!();
}

#[inline(never)]
fn parks() {
    thread::park();
    keep!();
}

#[inline(never)]
fn runs(until: &AtomicBool) {
    while !until.load(Ordering::Relaxed) {
        black_box(0);
    }
}

#[profiled]
#[inline(never)]
fn parks_in_a_span() {
    thread::park();
    keep!();
}

#[inline(never)]
extern "C" fn of_c(end: *mut libc::c_void) -> *mut libc::c_void {
    let mut byte = 0_u8;
    // SAFETY: the end of a pipe, open until the thread is joined, and room for a byte.
    unsafe { libc::read(end.addr() as libc::c_int, (&raw mut byte).cast(), 1) };
    end
}

/// Blocks every signal on the calling thread.
fn block_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the set is written.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: written above; the old mask is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), ptr::null_mut()) };
}

#[test]
fn every_thread_shows_its_stack_and_what_it_does() {
    let _turn = turn();
    static UNTIL: AtomicBool = AtomicBool::new(false);
    let (mine, theirs) = UnixStream::pair().expect("sockets");
    // Not joined: it sleeps on.
    let (sleeper, _) = spawn("sleeper", sleeps);
    let (reader, reading) = spawn("reader", move || reads(theirs));
    let (parked, parking) = spawn("parked", parks);
    let (runner, running) = spawn("runner", || runs(&UNTIL));
    let (deaf, deaf_parking) = spawn("deaf", || {
        block_signals();
        parks();
    });
    let (spanned, span) = spawn("spanned", parks_in_a_span);
    for thread in [sleeper, reader] {
        thread.wait_until_asleep();
    }
    for thread in [parked, deaf, spanned] {
        thread.wait_until_parked();
    }

    let dump = dump();
    let me = ThreadId::current();
    assert!(dump.starts_with(&format!("goroutine {} [running] {{", me.get())), "{dump}");
    stands(&dump, me, "running", &["thread_dump::dump"]);
    stands(&dump, sleeper, "sleep", &["std::thread::functions::sleep", "thread_dump::sleeps"]);
    stands(&dump, reader, "IO wait", &["thread_dump::reads"]);
    stands(&dump, parked, "semacquire", &["std::thread::functions::park", "thread_dump::parks"]);
    stands(&dump, runner, "running", &["thread_dump::runs"]);
    // From the kernel alone.
    stands(&dump, deaf, "semacquire", &["[semacquire]"]);
    assert!(of(&dump, deaf).contains("no_stack: \"blocks SIGPROF\""), "{dump}");
    assert_eq!(dump.matches("no_stack").count(), 1, "{dump}");
    assert!(dump.ends_with("\n\n# 1 threads have no stack: each blocks SIGPROF\n"), "{dump}");
    stands(&dump, spanned, "semacquire", &["thread_dump::parks_in_a_span"]);
    assert!(of(&dump, sleeper).contains("thread: sleeper"), "{dump}");
    assert!(of(&dump, spanned).contains("span: \"thread_dump::parks_in_a_span\""), "{dump}");

    // What is published, for scrapers: no stack, but what it does, and the span path above.
    let published = snapshot(Kind::Goroutine).expect("available");
    let asked = View::default().threads(ThreadView::All);
    let asked = snapshot_with(Kind::Goroutine, asked).expect("available");
    for (profile, leaf, stack) in [
        (&published, "[IO wait]", ""),
        (&published, "[semacquire]", "thread_dump::parks_in_a_span"),
        (&asked, "", "thread_dump::reads"),
        (&asked, "", "thread_dump::runs"),
        (&asked, "[semacquire]", ""),
    ] {
        assert!(has(profile, leaf, stack), "{leaf} {stack} in {profile:?}\n{dump}");
    }
    assert!(!has(&published, "", "thread_dump::reads"));
    assert_eq!(published.comments(), [""; 0]);
    assert_eq!(asked.comments(), ["1 threads have no stack: each blocks SIGPROF"]);
    assert_eq!(asked.totals(), published.totals(), "every thread, either way");

    UNTIL.store(true, Ordering::Relaxed);
    (&mine).write_all(&[0]).expect("the reader reads");
    for handle in [&parking, &deaf_parking, &span] {
        handle.thread().unpark();
    }
    for handle in [reading, parking, running, deaf_parking, span] {
        handle.join().expect("no panic");
    }
}

/// Whether a sample has a leaf that begins so and a function that ends so.
fn has(profile: &Profile, leaf: &str, function: &str) -> bool {
    profile.samples().any(|sample| {
        let names: Vec<_> = sample.frames().filter_map(|frame| frame.function).collect();
        names.first().is_some_and(|name| name.starts_with(leaf))
            && names.iter().any(|name| name.ends_with(function))
    })
}

/// Has the calling thread run on one processor only, the same for all that call this; there, if it is `last`, only when
/// no other thread would run.
fn take_turns(last: bool) {
    let mut all = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a set of that size, which is written.
    let told = unsafe { libc::sched_getaffinity(0, size_of_val(&all), all.as_mut_ptr()) };
    assert_eq!(told, 0);
    // SAFETY: written above.
    let all = unsafe { all.assume_init() };
    // SAFETY: a live set, and a number that it has room for.
    let is_ours = |processor| unsafe { libc::CPU_ISSET(processor, &all) };
    let ours = (0..libc::CPU_SETSIZE as usize).find(|&processor| is_ours(processor));
    // SAFETY: zeroed is the empty set.
    let mut one: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a live set, and a number that it has room for.
    unsafe { libc::CPU_SET(ours.expect("one at the least"), &mut one) };
    // SAFETY: a live set of that size.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size_of_val(&one), &raw const one) }, 0);
    if last {
        let none = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameters live.
        let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) };
        assert_eq!(set, 0);
    }
}

/// An incident is when a machine is busy.
#[test]
fn a_thread_that_gets_no_processor_for_seconds_is_waited_for() {
    const BUSY: usize = 16;
    let _turn = turn();
    static UNTIL: AtomicBool = AtomicBool::new(false);
    let (starved, parking) = spawn("starved", || {
        take_turns(true);
        parks();
    });
    starved.wait_until_parked();
    let busy: Vec<_> = (0..BUSY)
        .map(|_| {
            let (_, handle) = spawn("busy", || {
                take_turns(false);
                runs(&UNTIL);
            });
            handle
        })
        .collect();
    let ender = thread::spawn(|| {
        thread::sleep(Duration::from_secs(4));
        UNTIL.store(true, Ordering::Relaxed);
    });
    let dump = dump();
    stands(&dump, starved, "semacquire", &["thread_dump::parks"]);
    parking.thread().unpark();
    for handle in busy.into_iter().chain([ender, parking]) {
        handle.join().expect("no panic");
    }
}

#[test]
fn a_thread_that_c_made_shows_its_stack() {
    let _turn = turn();
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    let mut thread = MaybeUninit::uninit();
    let end = ptr::without_provenance_mut(ends[0] as usize);
    // SAFETY: the function is of the type that is asked for.
    let made = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), of_c, end) };
    assert_eq!(made, 0);
    // It may not have got there yet.
    let is_there = |dump: &str| dump.contains("\nthread_dump::of_c(...)\n");
    while !is_there(&dump()) {
        thread::yield_now();
    }
    // SAFETY: an open descriptor, and a byte.
    assert_eq!(unsafe { libc::write(ends[1], [0_u8].as_ptr().cast(), 1) }, 1);
    // SAFETY: written when it was made.
    let thread = unsafe { thread.assume_init() };
    // SAFETY: joined once; it ends for the byte.
    assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
}

#[test]
fn whoever_reads_what_is_published_interrupts_nobody() {
    let _turn = turn();
    static UNTIL: AtomicBool = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    let (waiter, waiting) = spawn("waiter", move || {
        tell.send(interruptions(&UNTIL, 10_000)).expect("somebody listens");
    });
    waiter.wait_until_asleep();
    for _ in 0..100 {
        snapshot(Kind::Goroutine).expect("available");
    }
    waiter.wait_until_asleep();
    // The control: one interruption, by the dump, which also ends the loop.
    UNTIL.store(true, Ordering::Relaxed);
    dump();
    assert_eq!(told.recv(), Ok(1));
    waiting.join().expect("no panic");
}
