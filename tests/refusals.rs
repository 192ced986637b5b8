//! What a container refuses costs what needs it, and a sentence says so; nothing crashes, hangs, or is silently wrong.
//!
//! Each refusal is a program of its own: this file's binary, told by variables which system calls the kernel shall
//! refuse it by a filter, before the profiler starts.

#![allow(unsafe_code, reason = "a filter of system calls is installed by system calls")]

use std::env;
use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use profiler_core::sync::Mutex;
use profiler_core::{
    Capture, Config, Kind, Profile, Rates, StackView, Symbols, ThreadView, View, kinds, profiled,
    snapshot_with, write_threads,
};

const REFUSED: &str = "REFUSALS_CALLS";
const ERROR: &str = "REFUSALS_ERROR";

/// What a program that is refused nothing sees, in the order it is looked for.
const KNOWN_CPU: &str = "CPU time of known threads";
const OTHER_CPU: &str = "CPU time of other threads";
const KNOWN_WALL: &str = "where known threads wait";
const KNOWN_STACK: &str = "stacks of known threads";
const OTHER_STACK: &str = "stacks of other threads";
const HOLDER: &str = "holders of locks";
const NAMES: &str = "names of functions";

/// System calls, what is missing without them, and what is said of it.
const CASES: &[(&[libc::c_long], &[&str], &str)] = &[
    (&[], &[], "; 0 threads without a timer"),
    (&[libc::SYS_timer_create], &[], " threads without a timer"),
    (&[libc::SYS_timer_settime], &[], " threads without a timer"),
    (&[libc::SYS_timer_gettime], &[], ""),
    (&[libc::SYS_timer_delete], &[], ""),
    (
        &[libc::SYS_rt_tgsigqueueinfo],
        &[KNOWN_WALL, KNOWN_STACK, OTHER_STACK],
        "the system refuses rt_tgsigqueueinfo",
    ),
    (
        &[libc::SYS_rt_tgsigqueueinfo, libc::SYS_timer_create],
        &[KNOWN_CPU, OTHER_CPU, KNOWN_WALL, KNOWN_STACK, OTHER_STACK],
        "the system refuses rt_tgsigqueueinfo",
    ),
    (&[libc::SYS_tgkill], &[], ""),
    (&[libc::SYS_process_vm_readv], &[], ""),
    (&[libc::SYS_pipe2], &[], ""),
    (
        &[libc::SYS_rt_sigaction],
        // What a thread waits for it publishes itself.
        &[KNOWN_CPU, OTHER_CPU, KNOWN_WALL, OTHER_STACK],
        "the system refuses a handler of SIGPROF",
    ),
    (&[libc::SYS_sigaltstack], &[], ""),
    (
        &[libc::SYS_clock_gettime],
        &[KNOWN_CPU, OTHER_CPU, KNOWN_WALL],
        "the system refuses the clocks of threads",
    ),
    (&[libc::SYS_madvise], &[], ""),
    // As without `/proc`.
    (
        &[libc::SYS_openat],
        &[OTHER_CPU, OTHER_STACK, NAMES],
        "/proc/self/task cannot be read: only those are known that profiler_core::thread has started",
    ),
    // As with a `/proc` that hides threads.
    (&[libc::SYS_getdents64], &[OTHER_CPU, OTHER_STACK], "/proc/self/task cannot be read: only"),
];

fn main() {
    if let Ok(calls) = env::var(REFUSED) {
        return play(&calls);
    }
    let program = env::current_exe().expect("the path of this binary");
    let mut wrong = Vec::new();
    for (calls, missing, told) in CASES {
        let calls: Vec<_> = calls.iter().map(libc::c_long::to_string).collect();
        for error in [libc::EPERM, libc::ENOSYS] {
            let output = Command::new(&program)
                .env(REFUSED, calls.join(" "))
                .env(ERROR, error.to_string())
                .output()
                .expect("it runs");
            let said = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            let found = said.lines().filter_map(|line| line.strip_prefix("missing: "));
            let is_right =
                output.status.success() && said.contains(told) && found.eq(missing.iter().copied());
            println!("{calls:?} refused with {error}: {}", if is_right { "ok" } else { "WRONG" });
            if !is_right {
                wrong.push(format!("{calls:?} {error}: {}\n{said}\n{errors}", output.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Has the kernel refuse those system calls to this thread and all that it starts.
fn refuse(calls: &[u32], error: u32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const COMPARE: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    // The number stands at the front of what a filter is given.
    let mut filter = vec![step(LOAD, 0, 0)];
    for (position, call) in calls.iter().enumerate() {
        let to_refusal = u8::try_from(calls.len() - position).expect("few");
        filter.push(step(COMPARE, to_refusal, *call));
    }
    filter.push(step(RETURN, 0, libc::SECCOMP_RET_ALLOW));
    filter.push(step(RETURN, 0, libc::SECCOMP_RET_ERRNO | error));
    let filter = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("few"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: the filter and its steps live.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) }, 0);
}

static UNTIL: AtomicBool = AtomicBool::new(false);
/// How far the known thread and the other one have come.
static KNOWN: AtomicU64 = AtomicU64::new(0);
static OTHER: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
fn computes(progress: &AtomicU64) {
    while !UNTIL.load(Ordering::Relaxed) {
        for _ in 0..100_000 {
            black_box(0);
        }
        progress.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until both have used some 50 ms of CPU time, which cannot be asked for where clocks are refused.
fn let_compute() {
    let progress = || [&KNOWN, &OTHER].map(|progress| progress.load(Ordering::Relaxed));
    let begin = progress();
    while progress().iter().zip(begin).any(|(now, begin)| now - begin < 200) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[profiled]
#[inline(never)]
fn known_computes() {
    computes(&KNOWN);
}

#[profiled]
#[inline(never)]
fn known_waits(lock: &Mutex<()>) {
    drop(lock.lock());
    black_box(0);
}

/// The kernel's number of the calling thread.
fn number() -> libc::c_long {
    // SAFETY: takes nothing.
    unsafe { libc::syscall(libc::SYS_gettid) }
}

fn play(calls: &str) {
    // SAFETY: the signal has no handler, and so ends a program that hangs.
    unsafe { libc::alarm(300) };
    let calls: Vec<u32> =
        calls.split_ascii_whitespace().map(|call| call.parse().unwrap()).collect();
    refuse(&calls, env::var(ERROR).unwrap().parse().unwrap());
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");

    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock().expect("nobody panics");
    let (tell, told) = mpsc::channel();
    let other = std::thread::spawn({
        let tell = tell.clone();
        move || {
            tell.send(number()).unwrap();
            computes(&OTHER);
        }
    });
    let other_number = told.recv().unwrap();
    let computing = profiler_core::thread::spawn(known_computes);
    let waiting = profiler_core::thread::spawn({
        let lock = Arc::clone(&lock);
        move || {
            tell.send(number()).unwrap();
            known_waits(&lock);
        }
    });
    let waiting_number = told.recv().unwrap();
    // It publishes what it waits for.
    let waits = |profile: &Profile| {
        profile.samples().any(|sample| sample.label("kind").is_some_and(|kind| kind == "mutex"))
    };
    let unnamed = View::default().symbols(Symbols::None);
    while !waits(&snapshot_with(Kind::Goroutine, unnamed).expect("Linux has threads")) {
        std::thread::yield_now();
    }

    let missing = |fact: &str, is_there: bool| {
        if !is_there {
            println!("missing: {fact}");
        }
    };
    let profile = capture(Kind::Profile);
    // Each a part of what they have used, as far as it is known: half of it all at the most.
    let total = profile.as_ref().map_or(0, |profile| profile.totals()[1]);
    let share = |name| profile.as_ref().map_or(0, |profile| leaf_sum(profile, name));
    missing(KNOWN_CPU, share("refusals::known_computes") > total / 5);
    missing(OTHER_CPU, share("[no span]") > total / 5);
    let wall = capture(Kind::Wall);
    let waits = wall.map_or(0, |profile| leaf_sum(&profile, "refusals::known_waits"));
    missing(KNOWN_WALL, waits > 0);

    let mut dump = Vec::new();
    write_threads(&mut dump).expect("memory takes all");
    let dump = String::from_utf8(dump).expect("text");
    let has_stack = |number| {
        let start = format!("goroutine {number} [");
        let part = dump.split("\n\n").find(|part| part.starts_with(&start));
        // Three lines of a marker alone.
        part.is_some_and(|part| part.lines().count() > 3 && !part.contains("no_stack"))
    };
    missing(KNOWN_STACK, has_stack(waiting_number));
    missing(OTHER_STACK, has_stack(other_number));
    missing(HOLDER, dump.contains("held_by"));
    missing(NAMES, dump.contains("\nrefusals::"));
    println!("{dump}");

    for kind in kinds() {
        if let Ok(profile) = snapshot_with(kind, unnamed.threads(ThreadView::All)) {
            println!("{kind} {:?} {:?}", profile.totals(), profile.comments());
            profile.write_to(std::io::sink()).expect("it takes all");
            profile.write_text(std::io::sink()).expect("it takes all");
        }
    }
    UNTIL.store(true, Ordering::Relaxed);
    drop(held);
    other.join().expect("no panic");
    for thread in [computing, waiting] {
        thread.join().expect("no panic");
    }
}

/// Captures while threads compute.
fn capture(kind: Kind) -> Option<Profile> {
    let capture = match Capture::start_with(kind, 1000) {
        Ok(capture) => capture,
        Err(reason) => {
            println!("{reason}");
            return None;
        }
    };
    let_compute();
    let profile = capture.finish_with(View::default().stack(StackView::Logical).idle(true));
    println!("{kind} {:?} {:?}", profile.totals(), profile.comments());
    Some(profile)
}

/// The nanoseconds of samples with that leaf.
fn leaf_sum(profile: &Profile, name: &str) -> i64 {
    let is_leaf = |sample: &profiler_core::Sample<'_>| {
        sample.frames().next().is_some_and(|frame| frame.function == Some(name))
    };
    profile.samples().filter(is_leaf).map(|sample| sample.values()[1]).sum()
}
