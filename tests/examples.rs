//! The recipes do what they say: each example is built and run, and its profiles name the function that the work is in.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use profiler_tests::check;
use profiler_tests::examples::example;
use profiler_tests::server::Request;
use profiler_tests::tool::Tool;
use tempfile::TempDir;

#[test]
fn a_batch_writes_its_profiles() {
    let folder = TempDir::new().expect("a temporary directory");
    let ended = Command::new(example("threads")).arg(folder.path()).output().expect("it runs");
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stdout).lines().last(), Some("found 383124 primes"));
    for name in ["cpu.pb.gz", "heap.pb.gz"] {
        let path = folder.path().join(name);
        let top = Tool::new().top(&[path.to_str().expect("text")]);
        let row = top.row("threads::primes").unwrap_or_else(|| panic!("{name}: {top:?}"));
        assert!(row.cum * 2 > top.total, "{name}: {top:?}");
    }
}

#[test]
fn a_parallel_loop_shows_where_its_time_went() {
    let ended = Command::new(example("rayon")).output().expect("it runs");
    assert!(ended.status.success(), "{ended:?}");
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(text.starts_with("the longest way has 596 steps\n# profile: "), "{text}");
    let first = text.lines().nth(3).expect("a table");
    assert!(first.ends_with("rayon::steps") || first.contains("is_multiple_of"), "{text}");
    assert!(text.contains("rayon::steps"), "{text}");
}

/// A program that runs, ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("it runs");
    }
}

#[test]
fn a_service_has_its_profiles_behind_a_token() {
    let process = Command::new(example("axum"))
        .arg("127.0.0.1:0")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut program = Running(process);
    let mut line = String::new();
    let output = program.0.stdout.take().expect("it is piped");
    BufReader::new(output).read_line(&mut line).expect("it writes text");
    let address = line.split('/').nth(2).expect("a URL").parse().expect("an address");
    assert_eq!(Request::get("/").send(address).body, b"visit 1\n");
    let profile = "/debug/pprof/spans";
    assert_eq!(Request::get(profile).send(address).status, 401);
    let answer = Request::get(profile).header("Authorization", "Bearer sesame").send(address);
    let spans = check::valid(&answer.body);
    let is_page = |name: &String| name == "axum::page";
    assert!(spans.samples.iter().any(|sample| sample.names.iter().any(is_page)), "{spans:?}");
}
