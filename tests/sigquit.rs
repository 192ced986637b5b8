//! SIGQUIT has a program say what its threads do, and then does what it did before.
//!
//! Each test's program is a child: this file's binary, told by a variable to play it.

#![allow(unsafe_code, reason = "signals are sent and handled by system calls")]

use std::env;
use std::io::{BufRead, BufReader, Read, stdin};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use profiler_core::{Config, Kind};
use profiler_tests::keep;
use profiler_tests::own_process::in_own_process;
use profiler_tests::parked::start_parked;

const PLAY: &str = "SIGQUIT_PLAY";

#[inline(never)]
fn parks() {
    thread::park();
    keep!();
}

/// If this is the child that plays a test's program, plays it and returns true: until its input ends.
fn plays(test: &str, prepare: impl FnOnce()) -> bool {
    if env::var_os(PLAY).is_none_or(|name| name != test) {
        return false;
    }
    // A shell that is not interactive has its background jobs ignore the signal.
    // SAFETY: nothing else sets handlers yet.
    unsafe { libc::signal(libc::SIGQUIT, libc::SIG_DFL) };
    prepare();
    profiler_core::start(Config::default().dump_on_sigquit(true)).expect("the first start");
    thread::scope(|scope| {
        let parked = start_parked(scope, parks);
        eprintln!("ready");
        stdin().read_to_end(&mut Vec::new()).expect("the input ends");
        parked.thread().unpark();
    });
    true
}

/// A test's program, ready.
struct Program {
    child: Child,
    error: BufReader<ChildStderr>,
}

impl Program {
    fn start(test: &str) -> Self {
        let mut child = Command::new(env::current_exe().expect("the path of the test binary"))
            .args(["--exact", test, "--nocapture"])
            .env(PLAY, test)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let error = BufReader::new(child.stderr.take().expect("it is a pipe"));
        let mut program = Self { child, error };
        program.read_to("ready");
        program
    }

    /// Returns what it writes to its error stream up to that line.
    fn read_to(&mut self, last: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(&format!("{last}\n")) {
            assert_ne!(self.error.read_line(&mut text).expect("it writes text"), 0, "{text}");
        }
        text
    }

    fn quit(&self) {
        // SAFETY: a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGQUIT) }, 0);
    }

    /// Returns what else it writes, and the signal that it ends by.
    fn end(mut self) -> (String, Option<i32>) {
        let mut text = String::new();
        self.error.read_to_string(&mut text).expect("it writes text");
        (text, self.child.wait().expect("it ends").signal())
    }
}

#[test]
fn every_thread_is_written_and_the_program_ends() {
    const TEST: &str = "every_thread_is_written_and_the_program_ends";
    if plays(TEST, || ()) {
        return;
    }
    let program = Program::start(TEST);
    program.quit();
    let (text, signal) = program.end();
    assert!(text.starts_with("SIGQUIT: quit\nprocess "), "{text}");
    assert!(text.contains("\nsigquit::parks(...)\n"), "{text}");
    assert_eq!(signal, Some(libc::SIGQUIT), "{text}");
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    const TEST: &str = "a_second_signal_ends_the_program_at_once";
    if plays(TEST, || ()) {
        return;
    }
    let program = Program::start(TEST);
    program.quit();
    program.quit();
    assert_eq!(program.end().1, Some(libc::SIGQUIT));
}

#[test]
fn a_program_with_a_handler_of_its_own_lives_on() {
    const TEST: &str = "a_program_with_a_handler_of_its_own_lives_on";
    static CALLED: AtomicBool = AtomicBool::new(false);
    extern "C" fn own(_: libc::c_int) {
        CALLED.store(true, Ordering::Relaxed);
    }
    let handle = || {
        // SAFETY: the handler does what handlers may.
        unsafe { libc::signal(libc::SIGQUIT, own as extern "C" fn(_) as libc::sighandler_t) };
    };
    if plays(TEST, handle) {
        assert!(CALLED.load(Ordering::Relaxed), "the program's own handler is called too");
        eprintln!("called");
        return;
    }
    let mut program = Program::start(TEST);
    program.quit();
    program.read_to("sigquit::parks(...)");
    drop(program.child.stdin.take());
    program.read_to("called");
    assert_eq!(program.end().1, None);
}

/// The profiler's thread, which would write the dump, is not in the child.
#[test]
fn the_child_of_a_fork_ends_at_the_first_signal() {
    in_own_process("the_child_of_a_fork_ends_at_the_first_signal", || {
        profiler_core::start(Config::default().dump_on_sigquit(true)).expect("the first start");
        // SAFETY: the child only waits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the signal has no handler, and so ends the child in half a minute.
            unsafe { libc::alarm(30) };
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        // SAFETY: a signal to a child that was not waited for.
        assert_eq!(unsafe { libc::kill(child, libc::SIGQUIT) }, 0);
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(libc::WTERMSIG(status), libc::SIGQUIT);
    });
}

/// As a daemon does that serves.
#[test]
fn the_child_of_a_fork_that_reads_profiles_writes_its_threads() {
    in_own_process("the_child_of_a_fork_that_reads_profiles_writes_its_threads", || {
        profiler_core::start(Config::default().dump_on_sigquit(true)).expect("the first start");
        let (mut ours, theirs) = UnixStream::pair().expect("sockets");
        // SAFETY: the child calls what the profiler allows after a fork, and ends by the signal.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: the signal has no handler, and so ends the child in a minute and a half.
            unsafe { libc::alarm(90) };
            // SAFETY: open descriptors.
            unsafe { libc::dup2(theirs.as_raw_fd(), libc::STDERR_FILENO) };
            profiler_core::snapshot(Kind::Goroutine).expect("Linux has it");
            // SAFETY: sends a signal that has a handler.
            unsafe { libc::raise(libc::SIGQUIT) };
            parks();
        }
        drop(theirs);
        let mut text = String::new();
        ours.read_to_string(&mut text).expect("text");
        let mut status = 0;
        // SAFETY: waits for the child.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(libc::WTERMSIG(status), libc::SIGQUIT, "{text}");
        assert!(text.starts_with(&format!("SIGQUIT: quit\nprocess {child}\n")), "{text}");
        assert!(text.contains(&format!("\ngoroutine {child} [")), "{text}");
    });
}
