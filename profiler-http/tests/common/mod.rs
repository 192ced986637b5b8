//! A client that sends exactly what a test says and returns all that comes back.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sends bytes and reads until the server ends.
#[track_caller]
pub(crate) fn exchange(address: SocketAddr, request: &str) -> String {
    let mut client = connect(address, request);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the server answers and ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends bytes and returns the open connection.
#[track_caller]
pub(crate) fn connect(address: SocketAddr, request: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).expect("the server listens");
    client.write_all(request.as_bytes()).expect("the server reads");
    client
}

/// Returns a request with nothing but what it must have, and some headers, each ended by CRLF.
pub(crate) fn request(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

/// Sends a request without a body.
#[track_caller]
pub(crate) fn ask(address: SocketAddr, line: &str) -> String {
    exchange(address, &request(line, ""))
}

/// Returns the status of an answer.
#[track_caller]
pub(crate) fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {answer:?}"))
}

/// Returns the value of a header, empty if it is not there.
pub(crate) fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    head.split("\r\n")
        .filter_map(|line| line.split_once(": "))
        .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
        .unwrap_or_default()
}

/// Returns what comes after the head.
pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Lets one test at a time have what the process has once.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    // A test that failed is no reason for the others to fail.
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the body of a test in a process of its own, because what it needs exists once a process:
/// the test calls itself again.
#[track_caller]
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    const AGAIN: &str = "PROFILER_TEST_OWN_PROCESS";
    if std::env::var_os(AGAIN).is_some() {
        return body();
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(AGAIN, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
