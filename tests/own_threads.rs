//! The profiler's threads keep out of the program's way: they have a name, and no signal ever goes to one.
//!
//! Each test's program runs alone: a thread of the test harness would get its signals.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "signals are blocked, sent and waited for by system calls")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::ptr;
use std::thread;
use std::time::Duration;

use profiler_core::{Capture, Config, Kind};
use profiler_tests::program;
use profiler_tests::server::Request;

profiler_tests::programs! {
    "all" => all,
    "sigwait" => sigwait,
    "signalfd" => signalfd,
    "signal-hook" => signal_hook,
    "tokio" => tokio,
    "threadcreate" => threadcreate,
}

/// Starts the endpoint.
fn serve() -> SocketAddr {
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    endpoint.local_addr().expect("it is not switched off")
}

/// Sends a request whose answer takes a while, and returns before it comes.
fn ask(server: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server).expect("it listens");
    write!(stream, "GET /debug/pprof/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("it reads");
    stream
}

/// The numbers of the threads of this process.
fn tasks() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc/self/task").expect("Linux");
    let name = |entry: fs::DirEntry| entry.file_name().to_str().expect("text").parse();
    entries.map(|entry| name(entry.expect("an entry")).expect("a number")).collect()
}

/// What a thread is called, and the signals that it blocks; nothing if it is gone.
fn of_task(task: u32) -> Option<(String, u64)> {
    let status = fs::read_to_string(format!("/proc/self/task/{task}/status")).ok()?;
    let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
    let blocked = u64::from_str_radix(field("SigBlk:").trim(), 16).expect("a number");
    Some((field("Name:").trim().to_owned(), blocked))
}

fn set_of(signals: impl IntoIterator<Item = libc::c_int>) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is written.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: initialised above, and the signal exists.
        assert_eq!(unsafe { libc::sigaddset(set.as_mut_ptr(), signal) }, 0);
    }
    // SAFETY: initialised above.
    unsafe { set.assume_init() }
}

fn block(signals: &libc::sigset_t) {
    // SAFETY: a live set; the old one is not asked for.
    let done = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals, ptr::null_mut()) };
    assert_eq!(done, 0);
}

/// The signals that a fault of the thread itself raises. Where one is blocked the kernel ends the process,
/// past the handlers that report a crash or, as sandboxes do, stand in for a system call.
const FAULTS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// All signals but faults, as the kernel shows them.
fn all_but_faults() -> u64 {
    let everything = thread::spawn(|| {
        let mut all = MaybeUninit::uninit();
        // SAFETY: the set is written.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: written above.
        block(&unsafe { all.assume_init() });
        // SAFETY: takes nothing.
        let task = unsafe { libc::gettid() };
        of_task(task.cast_unsigned()).expect("it runs").1
    });
    let everything = everything.join().expect("no panic");
    FAULTS.iter().fold(everything, |set, fault| set & !(1 << (fault - 1)))
}

fn all() {
    let all_but_faults = all_but_faults();
    let mine = tasks();
    let server = serve();
    let _captures = [Kind::Profile, Kind::Wall].map(|kind| Capture::start(kind).expect("Linux"));
    let _asked = [ask(server, "profile?seconds=60"), ask(server, "mutex?seconds=60")];
    let _refused = TcpStream::connect(server).expect("it listens");
    let expected = ["profiler", "profiler-http", "profiler-wall"];
    // The thread that accepts, and one for each client.
    let is_complete = |names: &[String]| {
        expected.iter().all(|name| names.iter().any(|it| it == name))
            && names.iter().filter(|name| *name == "profiler-http").count() >= 4
            && names.iter().all(|name| expected.contains(&name.as_str()))
    };
    loop {
        let ours: Vec<_> = tasks().difference(&mine).copied().filter_map(of_task).collect();
        for (name, blocked) in &ours {
            // Also in one that has just been born. Faults too, while it makes another one.
            let missing = all_but_faults & !blocked;
            assert_eq!(missing, 0, "{name}: {blocked:x} of {all_but_faults:x}");
        }
        let is_settled = ours.iter().all(|(_, blocked)| *blocked == all_but_faults);
        let names: Vec<_> = ours.into_iter().map(|(name, _)| name).collect();
        if is_settled && is_complete(&names) {
            break;
        }
        thread::yield_now();
    }
}

#[test]
fn every_thread_of_ours_blocks_all_signals_and_has_a_name() {
    program::run("all");
}

/// Sends this process a signal, which any thread may get that does not block it.
fn send(signal: libc::c_int) {
    let process = std::process::id().cast_signed();
    // SAFETY: takes numbers; a signal to this process.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

/// Has the profiler do all that it does with threads; then the program prepares to wait for a signal, and waits many times,
/// each time with one under way. Sees that the endpoint answers still.
fn with_all_threads<W: FnMut()>(signal: libc::c_int, prepare: impl FnOnce() -> W) {
    let server = serve();
    assert_eq!(Request::get("/debug/pprof/cmdline").send(server).status, 200);
    let mut wait = prepare();
    let _captures = [Kind::Profile, Kind::Wall].map(|kind| Capture::start(kind).expect("Linux"));
    let _asked = [ask(server, "profile?seconds=60"), ask(server, "mutex?seconds=60")];
    for _ in 0..200 {
        send(signal);
        wait();
    }
    let answer = Request::get("/debug/pprof/cmdline").send(server);
    assert_eq!(answer.status, 200);
}

fn sigwait() {
    with_all_threads(libc::SIGUSR1, || {
        let set = set_of([libc::SIGUSR1]);
        block(&set);
        move || {
            let mut signal = 0;
            // SAFETY: a live set, and room for a number.
            assert_eq!(unsafe { libc::sigwait(&raw const set, &raw mut signal) }, 0);
            assert_eq!(signal, libc::SIGUSR1);
        }
    });
}

#[test]
fn a_signal_that_is_waited_for_comes_to_who_waits() {
    program::run("sigwait");
}

fn signalfd() {
    with_all_threads(libc::SIGTERM, || {
        let set = set_of([libc::SIGUSR1, libc::SIGTERM]);
        block(&set);
        // SAFETY: a live set; -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
        assert!(descriptor >= 0);
        move || {
            let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
            let size = size_of::<libc::signalfd_siginfo>();
            // SAFETY: an open descriptor, and room of that size.
            let read = unsafe { libc::read(descriptor, info.as_mut_ptr().cast(), size) };
            assert_eq!(read, size.cast_signed());
            // SAFETY: zeroed is a value of this type, and so is what was written.
            assert_eq!(unsafe { info.assume_init() }.ssi_signo, libc::SIGTERM.cast_unsigned());
        }
    });
}

#[test]
fn a_signal_that_is_read_comes_to_who_reads() {
    program::run("signalfd");
}

fn signal_hook() {
    with_all_threads(libc::SIGUSR1, || {
        let mut signals =
            signal_hook::iterator::Signals::new([libc::SIGUSR1]).expect("it installs");
        move || assert_eq!(signals.forever().next(), Some(libc::SIGUSR1))
    });
}

#[test]
fn a_signal_comes_to_signal_hooks_iterator() {
    program::run("signal-hook");
}

fn tokio() {
    use tokio::signal::unix::{SignalKind, signal};
    with_all_threads(libc::SIGUSR1, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.expect("it starts");
        let signals = runtime.block_on(async { signal(SignalKind::user_defined1()) });
        let mut signals = signals.expect("it installs");
        move || assert!(runtime.block_on(signals.recv()).is_some())
    });
}

#[test]
fn a_signal_comes_to_tokio() {
    program::run("tokio");
}

/// How many threads were created, by whomever.
fn created() -> i64 {
    profiler_core::snapshot(Kind::Threadcreate).expect("Linux").totals()[0]
}

fn threadcreate() {
    profiler_core::start(Config::default()).expect("the first start");
    let before = created();
    let server = serve();
    for _ in 0..20 {
        let capture = Capture::start(Kind::Wall).expect("Linux");
        thread::sleep(Duration::from_millis(1));
        drop(capture);
        assert_eq!(Request::get("/debug/pprof/heap?debug=1").send(server).status, 501);
        let mut answer = Vec::new();
        ask(server, "threadcreate?debug=1").read_to_end(&mut answer).expect("it answers");
        assert_eq!(created(), before, "{}", String::from_utf8_lossy(&answer));
    }
    profiler_core::thread::spawn(|| ()).join().expect("no panic");
    assert_eq!(created(), before + 1);
}

#[test]
fn threads_of_ours_are_not_the_programs() {
    program::run("threadcreate");
}
