//! The Go toolchain that `tests/run` installs.

#![allow(unsafe_code, reason = "a group of processes is ended by a system call")]

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Returns a command that runs `go`, offline, with its cache under the target directory and
/// nothing read from or written to the user's home.
///
/// # Panics
///
/// There is no toolchain: run `tests/run` once.
#[must_use]
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(executable());
    command
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("GOCACHE", target().join("go-cache"))
        .env("GOENV", "off")
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off")
        .env("GOSUMDB", "off")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0");
    command
}

/// A command that runs until this is dropped, with all that it has started: `go` itself starts what it
/// is asked to run.
#[derive(Debug)]
pub struct Started(Child);

/// Starts a command, whose output is thrown away.
///
/// # Panics
///
/// It cannot be started.
#[must_use]
pub fn start(command: &mut Command) -> Started {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Started(command.process_group(0).spawn().expect("go can be started"))
}

impl Started {
    /// Says whether it runs still.
    ///
    /// # Panics
    ///
    /// The kernel does not say.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.0.try_wait().expect("it is ours").is_none()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let group = -self.0.id().cast_signed();
        // SAFETY: sends a signal to the group that `start` made, which is there until it is waited for.
        unsafe { libc::kill(group, libc::SIGKILL) };
        // Nothing can be done about a failure, and a test may be on its way to say so.
        let _ = self.0.wait();
    }
}

fn executable() -> OsString {
    std::env::var_os("PROFILER_GO").unwrap_or_else(|| {
        let installed = target().join("go-venv/bin/go");
        assert!(installed.exists(), "there is no Go toolchain yet: run tests/run once");
        installed.into()
    })
}

/// The target directory that holds the Go toolchain, or should: an ancestor of the test binary.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test binary");
    let holds_go = |directory: &&Path| directory.join("go-venv").exists();
    let debug = test.ancestors().nth(2).expect("a test binary is in target/debug/deps");
    let outermost = debug.parent().expect("target/debug has a parent");
    test.ancestors().find(holds_go).unwrap_or(outermost).to_owned()
}
