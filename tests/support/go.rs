//! The Go toolchain that `tests/run` installs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

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
