//! What is done, a round at a time.

#![allow(unsafe_code, reason = "threads of C, libraries and forks are made by calls of C")]

use std::hint::black_box;
use std::panic::catch_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{process, ptr, thread};

use profiler_core::sync::{Mutex, RwLock};
use profiler_core::{
    Capture, Kind, Symbols, ThreadView, View, parking_lot, profiled, snapshot_with, with_labels,
    write_threads,
};
use profiler_http::Endpoint;
use profiler_tests::cpu::{MILLISECOND, fastest, finish_unnamed, for_cpu_time};
use profiler_tests::server::Request;

/// Names, and what makes a round.
pub(crate) const ALL: [(&str, fn()); 17] = [
    ("CPU captures", captures_of_cpu_time),
    ("more CPU captures", captures_of_cpu_time),
    ("wall captures", captures_of_wall_time),
    ("the dump of threads", dump_of_threads),
    ("profiles of all threads", profiles_of_threads),
    ("snapshots", snapshots),
    ("HTTP", fetches),
    ("threads of std", threads_of_std),
    ("threads of the profiler", threads_of_the_profiler),
    ("threads of C", threads_of_c),
    ("panics", panics),
    ("libraries", libraries),
    ("children that go on", children_that_go_on),
    ("children that execute", children_that_execute),
    ("allocations", allocations),
    ("locks", locks),
    ("more locks", locks),
];

fn unnamed() -> View {
    View::default().symbols(Symbols::None)
}

fn a_while() {
    thread::sleep(Duration::from_millis(50));
}

fn captures_of_cpu_time() {
    let captures = [1000, 100].map(|rate| {
        let capture = Capture::start_with(Kind::Profile, rate).expect("Linux has timers");
        a_while();
        capture
    });
    for capture in captures {
        a_while();
        black_box(finish_unnamed(capture));
    }
}

fn captures_of_wall_time() {
    let captures = [1000, 100].map(|rate| {
        let capture = Capture::start_with(Kind::Wall, rate).expect("Linux has threads");
        a_while();
        capture
    });
    for capture in captures {
        a_while();
        assert!(finish_unnamed(capture).totals()[1] > 0, "threads are somewhere");
    }
}

fn dump_of_threads() {
    let mut text = Vec::new();
    write_threads(&mut text).expect("memory takes all");
    assert!(text.starts_with(b"goroutine "));
    a_while();
}

fn profiles_of_threads() {
    for view in [unnamed().threads(ThreadView::All), unnamed()] {
        let profile = snapshot_with(Kind::Goroutine, view).expect("Linux has threads");
        assert!(profile.totals()[0] > 1, "{profile:?}");
    }
    a_while();
}

fn snapshots() {
    for kind in [Kind::Heap, Kind::Allocs, Kind::Mutex, Kind::Block, Kind::Spans] {
        let profile = snapshot_with(kind, unnamed()).expect("it is available");
        let mut body = Vec::new();
        profile.write_to(&mut body).expect("memory takes all");
    }
    a_while();
}

pub(crate) fn endpoint() -> &'static Endpoint {
    static ENDPOINT: OnceLock<Endpoint> = OnceLock::new();
    ENDPOINT.get_or_init(|| profiler_http::serve("127.0.0.1:0").expect("a port is free"))
}

fn fetches() {
    const TARGETS: [&str; 8] = [
        "heap",
        "mutex?debug=1",
        "block",
        "spans",
        "goroutine?debug=2",
        "goroutine?threads=all",
        "profile?seconds=1",
        "wall?seconds=1",
    ];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let target = TARGETS[NEXT.fetch_add(1, Ordering::Relaxed) % TARGETS.len()];
    let address = endpoint().local_addr().expect("it is open");
    let response = Request::get(&format!("/debug/pprof/{target}")).send(address);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
}

/// What a thread does that is born and dies.
#[inline(never)]
fn live() {
    with_labels([("part", "short life")], || {
        for_cpu_time(MILLISECOND, || {
            black_box(vec![0_u8; black_box(100)]);
        });
    });
    locks();
}

fn threads_of_std() {
    let threads = [(); 4].map(|()| thread::spawn(live));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

fn threads_of_the_profiler() {
    let threads = [(); 4].map(|()| profiler_core::thread::spawn(live));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

extern "C" fn of_c(argument: *mut libc::c_void) -> *mut libc::c_void {
    for_cpu_time(MILLISECOND, || ());
    argument
}

fn threads_of_c() {
    let threads = [(); 4].map(|()| {
        let mut thread = std::mem::MaybeUninit::uninit();
        // SAFETY: the function is of the type that is asked for.
        let made = unsafe {
            libc::pthread_create(thread.as_mut_ptr(), ptr::null(), of_c, ptr::null_mut())
        };
        assert_eq!(made, 0);
        // SAFETY: written above.
        unsafe { thread.assume_init() }
    });
    for thread in threads {
        // SAFETY: joined once.
        assert_eq!(unsafe { libc::pthread_join(thread, ptr::null_mut()) }, 0);
    }
}

/// Panics so many calls below.
#[inline(never)]
fn unwind(depth: u32) {
    let _dropped = black_box(String::from("on the way"));
    if depth == 0 {
        // Without the hook, which would print.
        std::panic::resume_unwind(Box::new(black_box(1)));
    }
    unwind(depth - 1);
}

fn panics() {
    for depth in 0..20 {
        assert!(catch_unwind(|| unwind(depth)).is_err());
    }
}

fn libraries() {
    // SAFETY: this part of the C library runs nothing when it is loaded.
    let library = unsafe { libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW) };
    if !library.is_null() {
        // SAFETY: loaded above, and nothing of it is in use.
        unsafe { libc::dlclose(library) };
    }
}

/// Forks; the child does that, and ends.
fn forked(body: impl FnOnce() -> i32) {
    // SAFETY: the child calls what the profiler allows after a fork, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let status = body();
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "killed by {}", libc::WTERMSIG(status));
}

fn children_that_go_on() {
    forked(|| {
        let own = fastest();
        // Ten of the kernel's ticks, at which it looks at the timers, or more.
        for_cpu_time(40 * MILLISECOND, || {
            black_box(vec![0_u8; black_box(100)]);
        });
        let view = unnamed().threads(ThreadView::All);
        let threads = snapshot_with(Kind::Goroutine, view).expect("Linux has threads");
        if threads.totals()[0] > 0 && finish_unnamed(own).totals()[1] > 0 { 0 } else { 3 }
    });
}

fn children_that_execute() {
    forked(|| {
        let arguments = [c"true".as_ptr(), ptr::null()];
        // SAFETY: texts ended by zero, in a list ended by null.
        unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
        3
    });
    let status = process::Command::new("true").status().expect("it runs");
    assert!(status.success(), "{status}");
}

fn allocations() {
    let (send, receive) = std::sync::mpsc::sync_channel(16);
    thread::scope(|scope| {
        // Freed by another thread than the one that allocates.
        scope.spawn(move || receive.into_iter().for_each(drop::<Vec<u8>>));
        for size in 0..2000 {
            let mut bytes = vec![0; 1 + 37 * (size % 500)];
            bytes.push(1);
            send.send(bytes).expect("the other thread listens");
        }
        drop(send);
    });
}

#[profiled]
fn locks() {
    static STD: Mutex<u64> = Mutex::named("soak", 0);
    static SHARED: RwLock<u64> = RwLock::named("soak shared", 0);
    static OTHER: parking_lot::Mutex<u64> = parking_lot::Mutex::new(0);
    for round in 0..20_u64 {
        hold(|| *STD.lock().expect("no panic") += 1);
        hold(|| *OTHER.lock() += 1);
        if round.is_multiple_of(4) {
            hold(|| *SHARED.write().expect("no panic") += 1);
        } else {
            hold(|| drop(black_box(SHARED.read().expect("no panic"))));
        }
    }
}

#[profiled]
#[inline(never)]
fn hold(body: impl FnOnce()) {
    body();
}
