//! An endpoint in a process that forks: a service that becomes a daemon serves from the child, and whoever asks is answered or
//! refused, never left waiting.
//!
//! Each test's program runs alone. One that becomes a daemon is no child of the test, so it says what it has found.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "processes are forked by hand")]

use std::ffi::c_long;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, thread};

use profiler_core::Kind;
use profiler_http::{Endpoint, ServeError, serve};
use profiler_tests::program;
use profiler_tests::server::Request;

profiler_tests::programs! {
    "nothing" => nothing,
    "again" => again,
    "again, clone" => again_by_clone,
    "shutdown" => shutdown,
    "beside its parent" => beside_its_parent,
    "closes all" => closes_all,
    "busy" => busy,
}

/// A client that waits longer was left waiting.
const PATIENCE: Duration = Duration::from_secs(300);

fn open() -> (Endpoint, SocketAddr) {
    let endpoint = serve("127.0.0.1:0").expect("a free port");
    let address = endpoint.local_addr().expect("it is not switched off");
    (endpoint, address)
}

/// Has a client whose answer takes longer than anything here.
fn client(server: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(server).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("a time");
    let request = "GET /debug/pprof/mutex?seconds=3000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(request.as_bytes()).expect("it reads");
    client
}

/// Waits until so many threads answer clients, beside the one that accepts.
fn answers(clients: usize) {
    let names = || {
        let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
        tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
    };
    while names().filter(|name| name == "profiler-http\n").count() != 1 + clients {
        thread::yield_now();
    }
}

#[track_caller]
fn is_answered(server: SocketAddr) {
    let answer = Request::get("/debug/pprof/goroutine?debug=1").send(server);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[track_caller]
fn is_refused(server: SocketAddr) {
    let error = TcpStream::connect(server).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

fn fork() -> libc::pid_t {
    // SAFETY: the child calls what the profiler allows after a fork.
    unsafe { libc::fork() }
}

/// Calls no handler of forks.
fn clone() -> libc::pid_t {
    let [none, signal] = [0, c_long::from(libc::SIGCHLD)];
    // SAFETY: without a stack of its own the child is one of a fork.
    let child = unsafe { libc::syscall(libc::SYS_clone, signal, none, none, none, none) };
    libc::pid_t::try_from(child).expect("a number of a process")
}

/// Goes on in the child, once the parent has ended.
fn become_daemon(fork: fn() -> libc::pid_t) {
    let parent = std::process::id();
    let child = fork();
    assert!(child >= 0);
    if child > 0 {
        // SAFETY: ends the parent.
        unsafe { libc::_exit(0) };
    }
    program::end_if_it_hangs();
    // SAFETY: takes nothing.
    while unsafe { libc::getppid() }.cast_unsigned() == parent {
        thread::yield_now();
    }
}

/// What a daemon writes when it has found all as it must be.
const WELL: &str = "all is well";

#[track_caller]
fn is_well(name: &str) {
    let said = program::run(name);
    assert!(said.ends_with(WELL), "{name}: {said}");
}

fn nothing() {
    let (_endpoint, address) = open();
    let mut waiting = client(address);
    answers(1);
    let (mut tell, mut told) = UnixStream::pair().expect("sockets");
    // Another process's, so that the daemon has only the server's end of the connection.
    if fork() == 0 {
        program::end_if_it_hangs();
        let ended = waiting.read(&mut [0]);
        let is_over = |error: ErrorKind| error == ErrorKind::ConnectionReset;
        let is_over = ended.map_or_else(|error| is_over(error.kind()), |read| read == 0);
        tell.write_all(&[u8::from(is_over)]).expect("the daemon listens");
        return;
    }
    drop((waiting, tell));
    become_daemon(fork);
    is_refused(address);
    let mut is_over = [0];
    told.read_exact(&mut is_over).expect("the client tells");
    assert_eq!(is_over, [1], "the client is left waiting");
    print!("{WELL}");
}

/// A daemon that does nothing about it refuses, and clients of before learn that the parent has ended.
#[test]
fn a_daemon_that_does_not_serve_refuses() {
    is_well("nothing");
}

fn serves_again(fork: fn() -> libc::pid_t) {
    let (before, address) = open();
    is_answered(address);
    become_daemon(fork);
    let here = serve(address).expect("the parent's is closed");
    is_answered(address);
    let error = serve("127.0.0.1:0").expect_err("one serves");
    assert!(matches!(error, ServeError::AlreadyServing { .. }), "{error}");
    // That of the parent is not this process's.
    before.shutdown();
    is_answered(address);
    assert!(serve("127.0.0.1:0").is_err(), "one serves still");
    here.shutdown();
    is_refused(address);
    let (again, address) = open();
    is_answered(address);
    again.shutdown();
    print!("{WELL}");
}

fn again() {
    serves_again(fork);
}

fn again_by_clone() {
    serves_again(clone);
}

#[test]
fn a_daemon_serves_again() {
    is_well("again");
    is_well("again, clone");
}

fn shutdown() {
    let (endpoint, address) = open();
    let _waiting = client(address);
    answers(1);
    become_daemon(fork);
    endpoint.shutdown();
    is_refused(address);
    let again = serve(address).expect("it was shut down");
    is_answered(address);
    drop(again);
    is_answered(address);
    print!("{WELL}");
}

#[test]
fn a_daemon_shuts_down_and_serves() {
    is_well("shutdown");
}

/// Waits until a child has ended well.
#[track_caller]
fn ended_well(child: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the status is a live exclusive value.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child was killed by {}", libc::WTERMSIG(status));
}

/// Has a child do that.
#[track_caller]
fn in_child(fork: fn() -> libc::pid_t, body: impl FnOnce()) {
    let child = fork();
    if child == 0 {
        program::end_if_it_hangs();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(done.is_err())) };
    }
    ended_well(child);
}

/// What children do with what they have of their parent's endpoint, and with endpoints of their own, is nothing to their parent.
fn beside_its_parent() {
    let (endpoint, address) = open();
    let mut waiting = client(address);
    answers(1);
    let mut kept = Some(endpoint);
    for fork in [fork, clone] {
        in_child(fork, || {
            let endpoint = kept.take().expect("the parent's");
            let in_use = serve(address).expect_err("the parent serves there");
            assert!(matches!(in_use, ServeError::Bind { .. }), "{in_use}");
            endpoint.shutdown();
            let (own, of_own) = open();
            assert_ne!(of_own, address);
            is_answered(of_own);
            is_answered(address);
            own.shutdown();
            is_answered(address);
        });
    }
    waiting.set_read_timeout(Some(Duration::from_millis(10))).expect("a time");
    let nothing_yet = waiting.read(&mut [0]).expect_err("it takes 3,000 seconds");
    assert_eq!(nothing_yet.kind(), ErrorKind::WouldBlock, "{nothing_yet}");
    is_answered(address);
    kept.take().expect("the parent's").shutdown();
    assert_eq!(waiting.read(&mut [0]).expect("it hangs up"), 0);
    is_refused(address);
}

#[test]
fn a_child_serves_beside_its_parent() {
    program::run("beside its parent");
}

/// Daemons close all that they inherit; what they open then by the same numbers is theirs.
fn closes_all() {
    let (endpoint, address) = open();
    let _waiting = client(address);
    answers(1);
    in_child(clone, || {
        for descriptor in 3..100 {
            // SAFETY: closes what nobody uses in this process.
            unsafe { libc::close(descriptor) };
        }
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/proc/self/status")).collect();
        let _here = serve("127.0.0.1:0").expect("a free port");
        endpoint.shutdown();
        for file in files {
            let mut text = String::new();
            file.expect("Linux").read_to_string(&mut text).expect("it is open still");
        }
    });
    is_answered(address);
}

#[test]
fn a_child_closes_nothing_of_its_own() {
    program::run("closes all");
}

/// Whatever the parent's threads were at: places that were taken, locks that were held.
fn busy() {
    static DONE: AtomicBool = AtomicBool::new(false);
    let (endpoint, address) = open();
    let long: Vec<_> = (0..7).map(|_| client(address)).collect();
    let asks = || {
        while !DONE.load(Ordering::Relaxed) {
            let paths = ["", "goroutine?debug=1", "mutex", "cmdline", "symbol?1", "threadcreate"];
            for path in paths {
                let answer = Request::get(&format!("/debug/pprof/{path}")).send(address);
                assert!([200, 503].contains(&answer.status), "{answer:?}");
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(asks);
        }
        for _ in 0..30 {
            in_child(fork, || {
                let (own, address) = open();
                // All eight collections at one time.
                let waiting: Vec<_> = (0..7).map(|_| client(address)).collect();
                answers(waiting.len());
                is_answered(address);
                assert!(profiler_core::snapshot(Kind::Mutex).is_ok());
                own.shutdown();
                is_refused(address);
            });
        }
        DONE.store(true, Ordering::Relaxed);
    });
    drop(long);
    endpoint.shutdown();
}

#[test]
fn a_child_of_a_busy_server_serves() {
    program::run("busy");
}
