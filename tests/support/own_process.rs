//! Tests that need a process of their own: for what is the process's, and for what may kill it.

use std::env;
use std::process::Command;

/// Says to the child which test it is to run.
const CHILD: &str = "PROFILER_TEST_CHILD";

/// Runs `body` in a process of its own. Call it at the beginning of the test of that name, as the
/// harness shows it.
///
/// # Panics
///
/// The process fails, or is killed.
#[track_caller]
pub fn in_own_process(test: &str, body: impl FnOnce()) {
    if env::var(CHILD).is_ok_and(|child| child == test) {
        return body();
    }
    let program = env::current_exe().expect("the path of the test binary");
    let output = Command::new(program)
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test)
        .output()
        .expect("the test binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("running 1 test"), "no test is called {test}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}\n{errors}", output.status);
}
