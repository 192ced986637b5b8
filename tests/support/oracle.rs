//! A Go program that serves the real `net/http/pprof`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use tempfile::TempDir;

use crate::go;

/// The running program. It ends with this handle, and by itself if the test dies first, because
/// its standard input is then closed.
#[derive(Debug)]
pub struct Oracle {
    child: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Oracle {
    /// Builds the program and waits until it listens.
    ///
    /// # Panics
    ///
    /// It cannot be built or started.
    #[must_use]
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let program = directory.path().join("oracle");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle/main.go");
        let build = go::command(directory.path())
            .args(["build", "-o"])
            .args([&program, &source])
            .output()
            .expect("go can be started");
        let said = String::from_utf8_lossy(&build.stderr);
        assert!(build.status.success(), "the oracle cannot be built: {said}");

        let mut child = std::process::Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle can be started");
        let mut line = String::new();
        let output = child.stdout.take().expect("the output is a pipe");
        BufReader::new(output).read_line(&mut line).expect("the oracle says its address");
        let address = line.trim().parse().expect("the oracle says an address");
        Self { child, address, _directory: directory }
    }

    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
