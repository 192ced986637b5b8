//! Whole programs within a test's binary: with `main`'s thread as their own, and no thread of the
//! harness, which would get their signals.
//!
//! A test file lists its programs by [`programs!`](crate::programs). They run before `main`, in a process that
//! [`run`] starts, and never get there.

#![allow(unsafe_code, reason = "an alarm is set by a system call")]

use std::env;
use std::panic::catch_unwind;
use std::process::{self, Command, Stdio};

/// Says to the process which program it is to run.
const PROGRAM: &str = "PROFILER_TEST_PROGRAM";
/// One that hangs is ended by SIGALRM after so many seconds, also on a machine that has much else to do.
const PATIENCE: u32 = 600;

/// A program of a test: its name, and what it does.
pub type Program = (&'static str, fn());

/// Runs the program that this process was started for, and ends; returns if it was started for none.
///
/// # Panics
///
/// There is no such program.
pub fn run_if_asked(programs: &[Program]) {
    let Ok(name) = env::var(PROGRAM) else { return };
    end_if_it_hangs();
    let (_, body) = programs.iter().find(|(known, _)| *known == name).expect("a program");
    process::exit(match catch_unwind(body) {
        Ok(()) => 0,
        Err(_) => 101,
    });
}

/// Runs a program of this test's binary in a process of its own, and returns what it wrote.
///
/// # Panics
///
/// It fails, is killed, or hangs.
#[track_caller]
pub fn run(name: &str) -> String {
    let program = env::current_exe().expect("the path of the test binary");
    let mut command = Command::new(program);
    let command = command.env(PROGRAM, name).stdin(Stdio::null());
    let output = command.output().expect("the test binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}: {said}\n{errors}", output.status);
    said
}

/// Has the process end by SIGALRM if it is still there in ten minutes. Each child of a fork needs
/// it anew.
pub fn end_if_it_hangs() {
    // SAFETY: takes a number.
    unsafe { libc::alarm(PATIENCE) };
}

/// Lists the programs of a test file: `programs! { "name" => function }`.
#[macro_export]
macro_rules! programs {
    ($($name:literal => $body:path),+ $(,)?) => {
        #[used]
        #[unsafe(link_section = ".init_array")]
        static BEFORE_MAIN: extern "C" fn() = {
            extern "C" fn before_main() {
                $crate::program::run_if_asked(&[$(($name, $body)),+]);
            }
            before_main
        };
    };
}
