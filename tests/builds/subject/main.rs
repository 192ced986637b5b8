//! Does known work under every profile. The test beside it builds it in each way that people build, and
//! compares what its profiles say with what is written down for that way.
//!
//! `subject DIRECTORY` leaves the profiles there, and in `facts` what the process knows of itself.
//! `subject panic` panics while it holds a lock and is sampled; where panics unwind, it goes on.

#![allow(unsafe_code, reason = "threads of C, forks and libgcc's unwinder are called")]

mod facts;
mod work;

use std::alloc::System;
use std::fs::{self, File};
use std::future::Future;
use std::panic::catch_unwind;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};

use profiler_core::{
    Capture, Config, Kind, LabelView, Profile, ProfiledAllocator, Rates, View, parking_lot,
    profiled, set_rates, snapshot_with, sync, thread,
};

use crate::facts::Facts;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// The lock that is fought for.
static STOCK: sync::Mutex<u32> = sync::Mutex::named("stock", 7);

/// The lock that is given up and taken again, by ways that lead through other crates.
static TILL: parking_lot::Mutex<u32> = parking_lot::Mutex::named("till", 7);

const MILLISECOND: u64 = 1_000_000;

fn main() {
    let argument = std::env::args().nth(1).expect("a directory, or the word panic");
    // Of locks everything is recorded, so that sums can be equal; allocations are sampled until they are
    // looked at, so that the sampling is not what the CPU profile shows.
    let rates = Rates::ALL.heap_bytes(Rates::DEFAULT.heap_bytes);
    profiler_core::start(Config::default().rates(rates)).expect("the first start");
    if argument == "panic" {
        panic_while_sampled();
        return;
    }
    let directory = Path::new(&argument);
    let mut facts = Facts::default();

    let cpu = cpu_profile(&mut facts);
    write(&cpu, directory);
    facts.add("child", fork_and_profile());

    write(&contend(), directory);
    lend();
    for kind in [Kind::Mutex, Kind::Block] {
        write(&snapshot(kind), directory);
    }

    set_rates(Rates::ALL);
    let held = work::hold_memory();
    write(&snapshot(Kind::Heap), directory);
    drop(held);

    fs::write(directory.join("facts"), facts.text()).expect("a directory to write to");
}

fn view() -> View {
    View::default().labels(LabelView::from_names("thread").expect("a label"))
}

fn snapshot(kind: Kind) -> Profile {
    snapshot_with(kind, view()).expect("Linux has it")
}

fn write(profile: &Profile, directory: &Path) {
    let file = directory.join(profile.kind().name());
    let file = File::create(file).expect("a directory to write to");
    profile.write_to(file).expect("room to write");
}

/// Samples the main thread, one of Rust and one of C at the same work.
fn cpu_profile(facts: &mut Facts) -> Profile {
    let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
    let of_rust = thread::spawn(work::run);
    let of_c = facts::Thread::start(work::run);
    facts.add_stack("main", &work::run());
    facts.add_stack("rust", &of_rust.join().expect("no panic"));
    facts.add_stack("c", &of_c.join());
    capture.finish_with(view())
}

/// Has one thread wait for the lock that another one holds until it is seen to wait, and returns the
/// threads at that moment.
fn contend() -> Profile {
    let (held, is_held) = std::sync::mpsc::channel();
    let holder = thread::spawn(move || {
        work::hold(&STOCK, || {
            held.send(()).expect("the other end lives");
            loop {
                let threads = snapshot(Kind::Goroutine);
                if threads.samples().any(|sample| sample.label("lock") == Some("stock")) {
                    work::use_up(MILLISECOND);
                    // Once more: it may have got its name while the first one was taken.
                    break snapshot(Kind::Goroutine);
                }
            }
        })
    });
    is_held.recv().expect("the other end lives");
    let waiter = thread::Builder::new().name("tea kettle".to_owned());
    let waiter = waiter.spawn(|| work::wait_for(&STOCK)).expect("a thread");
    waiter.join().expect("no panic");
    holder.join().expect("no panic")
}

/// Gives the till up and waits for it, while another thread holds it. Is called once, by `main`, so it would be part of that if
/// it were not profiled.
#[profiled]
fn lend() {
    let (lent, is_lent) = std::sync::mpsc::channel();
    let (held, is_held) = std::sync::mpsc::channel();
    let borrower = thread::spawn(move || {
        is_lent.recv().expect("the other end lives");
        work::hold_in_a_vector(&TILL, || {
            held.send(()).expect("the other end lives");
            let waits = |sample: profiler_core::Sample<'_>| sample.label("lock") == Some("till");
            while !snapshot(Kind::Goroutine).samples().any(waits) {}
            work::use_up(MILLISECOND);
        });
    });
    let lending = work::lend(&TILL, || {
        lent.send(()).expect("the other end lives");
        is_held.recv().expect("the other end lives");
    });
    // It waits for nothing but the lock.
    let polled = pin!(lending).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready());
    borrower.join().expect("no panic");
}

/// Returns what a child that samples itself ends with: 0 if it got samples.
fn fork_and_profile() -> i32 {
    // SAFETY: the child calls what the profiler allows after a fork, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
        work::use_up(100 * MILLISECOND);
        let sampled = capture.finish().totals()[1];
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(sampled == 0)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

fn panic_while_sampled() {
    let _capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
    for _ in 0..20 {
        let caught = catch_unwind(|| {
            let _stock = STOCK.lock();
            work::use_up(MILLISECOND);
            panic!("on purpose");
        });
        assert!(caught.is_err());
    }
    assert!(STOCK.is_poisoned());
    assert!(
        STOCK.try_lock().is_err_and(|error| !matches!(error, std::sync::TryLockError::WouldBlock))
    );
}
