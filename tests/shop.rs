//! The example `shop` under its own load, seen by the real `go tool pprof`: the profiles name the
//! function that is known to hold a lock for too long, and the one that is known to leak.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use profiler_tests::check;
use profiler_tests::examples::example;
use profiler_tests::pprof::Profile;
use profiler_tests::server::Request;
use profiler_tests::tool::{Tool, Top};
use tempfile::TempDir;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a profile.
const BETWEEN: Duration = Duration::from_millis(100);

/// The function that holds the stock for too long.
const CULPRIT: &str = "reprice_catalog";
/// The function that makes what is never freed, as the profile names it.
const LEAK: &str = "shop::audit::Audit::remember";
const MIB: i64 = 1 << 20;
/// Has `go tool pprof` show the shop's own functions alone, and count for them what they called. What the
/// HTTP library and the runtime hold on threads of their own, some MiB, comes and goes.
const SHOW_OWN: &str = "-show=^<?shop::";
/// Leaves out what is held outside of all spans, as above, and what the shop's report holds while it reads
/// profiles.
const IGNORE_OTHERS: &str = r"-ignore=^profiler_core::profiler::|^\[no span\]$";

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| example("shop"))
}

/// A shop that runs, with a directory for what it leaves behind; ended at the latest when dropped.
struct Shop {
    process: Child,
    output: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Shop {
    fn open(arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut process = Command::new(program())
            .args(arguments)
            .env("TMPDIR", directory.path())
            .env("PROFILER_ADDR", "127.0.0.1:0")
            // A shop that was not optimised leaks slowly: see it soon.
            .env("PROFILER_HEAP_BYTES", "16384")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the shop can be started");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, output, directory }
    }

    /// Reads on until the shop says something about `what`, and returns that line.
    fn says(&mut self, what: &str) -> String {
        for line in self.output.by_ref().lines() {
            let line = line.expect("the shop writes text");
            if line.starts_with(what) {
                return line;
            }
        }
        panic!("the shop ended without a word about {what:?}");
    }

    /// Returns where the profiler listens.
    fn profiler(&mut self) -> SocketAddr {
        let line = self.says("profiler");
        let address = line.split('/').nth(2).expect("a URL");
        address.parse().unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until a profile holds `function` as the leaf of stacks that count at least `least`.
fn wait_for(profiler: SocketAddr, kind: &str, function: &str, least: i64) {
    let count = |profile: &Profile| {
        let is_it = |name: &String| name.contains(function);
        let samples =
            profile.samples.iter().filter(|sample| sample.names.first().is_some_and(is_it));
        samples.map(|sample| sample.values[0]).sum()
    };
    wait_until(profiler, kind, function, least, count);
}

/// Waits until what is counted in a profile is at least so much, and returns the profile's bytes.
fn wait_until(
    profiler: SocketAddr,
    kind: &str,
    function: &str,
    least: i64,
    count: impl Fn(&Profile) -> i64,
) -> Vec<u8> {
    let begin = Instant::now();
    loop {
        let response = Request::get(&format!("/debug/pprof/{kind}")).send(profiler);
        let count = count(&check::valid(&response.body));
        if count >= least {
            return response.body;
        }
        assert!(begin.elapsed() < PATIENCE, "{kind} counts {count} of {function}, not {least}");
        thread::sleep(BETWEEN);
    }
}

fn top(profiler: SocketAddr, kind: &str) -> Top {
    Tool::new().top(&[&format!("http://{profiler}/debug/pprof/{kind}")])
}

#[test]
fn the_mutex_profile_names_the_culprit_first() {
    let mut shop = Shop::open(&["--load", "8", "--seconds", "600"]);
    let profiler = shop.profiler();
    wait_for(profiler, "mutex", CULPRIT, 3);

    let top = top(profiler, "mutex");
    assert!(top.rows[0].name.contains(CULPRIT), "{top:?}");
}

#[test]
fn the_heap_profile_names_the_leak_first_and_shows_it_grow() {
    let mut shop = Shop::open(&["--load", "8", "--seconds", "600", "--no-repricing"]);
    let profiler = shop.profiler();
    // The catalog takes some 2 MiB.
    let wait_for_leak = |least: i64| {
        let alive = |profile: &Profile| profile.cumulative(LEAK)[3];
        wait_until(profiler, "heap", LEAK, least * MIB, alive)
    };
    let first = wait_for_leak(4);

    let tool = Tool::new();
    let heap = format!("http://{profiler}/debug/pprof/heap");
    let by_function = tool.top(&["-inuse_space", IGNORE_OTHERS, SHOW_OWN, &heap]);
    assert_eq!(by_function.rows[0].name, LEAK, "{by_function:?}");
    let by_span = tool.top(&["-inuse_space", IGNORE_OTHERS, &format!("{heap}?stack=logical")]);
    assert_eq!(by_span.rows[0].name, LEAK, "{by_span:?}");
    // As it is, what the culprit called for the memory stands before it.
    let plain = tool.top(&["-inuse_space", &heap]);
    let (leak, format) = (plain.row(LEAK), plain.row("alloc::fmt::format"));
    assert!(leak.is_some_and(|row| row.flat == 0 && row.cum > 3 * MIB), "{plain:?}");
    assert!(format.is_some_and(|row| row.flat > 3 * MIB), "{plain:?}");

    wait_for_leak(6);
    let path = tool.home().join("first");
    std::fs::write(&path, first).expect("a file");
    let base = format!("-base={}", path.display());
    let grown = tool.top(&["-inuse_space", IGNORE_OTHERS, SHOW_OWN, &base, &heap]);
    assert_eq!(grown.rows[0].name, LEAK, "{grown:?}");
    assert!(grown.rows[0].flat > MIB, "{grown:?}");

    while !shop.says("  alive, made by").ends_with(LEAK) {}
}

#[test]
fn the_block_profile_names_who_waits_for_it() {
    let mut shop = Shop::open(&["--load", "8", "--seconds", "600"]);
    let profiler = shop.profiler();
    wait_for(profiler, "block", "reserve", 5);

    let url = format!("http://{profiler}/debug/pprof/block");
    let stock = Tool::new().top(&["-tagfocus=lock=stock", &url]);
    assert!(stock.rows[0].name.contains("reserve"), "{stock:?}");
}

#[test]
fn without_their_part_of_the_load_the_culprits_are_gone() {
    let quiet = ["--no-repricing", "--no-audit"];
    let mut shop = Shop::open(&[&["--load", "8", "--seconds", "600"][..], &quiet].concat());
    let profiler = shop.profiler();
    wait_for(profiler, "spans", "carry_out", 500);

    let top = top(profiler, "mutex");
    assert!(!top.rows.iter().any(|row| row.name.contains(CULPRIT)), "{top:?}");
    let heap = Tool::new().top(&[&format!("http://{profiler}/debug/pprof/heap")]);
    assert!(heap.total > 0 && heap.row(LEAK).is_none(), "{heap:?}");
}

#[test]
fn spans_of_tracing_stand_beside_profiled_functions() {
    let mut shop = Shop::open(&["--load", "2", "--seconds", "600"]);
    let profiler = shop.profiler();
    wait_for(profiler, "spans", "quote", 100);

    let response = Request::get("/debug/pprof/spans").send(profiler);
    let paths: Vec<_> =
        check::valid(&response.body).samples.into_iter().map(|sample| sample.names).collect();
    let is_there = |leaf: &str, caller: &str| {
        paths
            .iter()
            .any(|path| path.len() > 1 && path[0].contains(leaf) && path[1].contains(caller))
    };
    assert!(is_there("quote", "carry_out"), "{paths:?}");
    assert!(is_there("quote", "show_price"), "{paths:?}");
    assert!(is_there("publish", CULPRIT), "{paths:?}");
}

#[track_caller]
fn closes_after_its_time(arguments: &[&str], profiler: &str) {
    let mut shop = Shop::open(&[arguments, &["--load", "2", "--seconds", "1"]].concat());
    let said = shop.says("profiler");
    assert!(said.contains(profiler), "{said}");
    let mut said = String::new();
    shop.output.read_to_string(&mut said).expect("the shop writes text");
    let summary = said.lines().last().expect("a summary");
    assert!(summary.contains(" requests in ") && !summary.starts_with("0 requests"), "{said}");
    assert!(summary.ends_with("; 0 failed"), "{said}");
    assert!(shop.process.wait().expect("its status").success());
    let left = shop.directory.path().read_dir().expect("the directory").count();
    assert_eq!(left, 0, "the shop leaves files behind");
}

#[test]
fn the_shop_closes_after_its_time_and_leaves_nothing_behind() {
    closes_after_its_time(&[], "http://127.0.0.1:");
}

#[test]
fn the_shop_runs_without_the_profiler() {
    closes_after_its_time(&["--no-profiler"], "off");
}

#[track_caller]
fn refuses(arguments: &[&str], complaint: &str) {
    let output = Command::new(program()).args(arguments).output().expect("it can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with(&format!("shop: {complaint}\n")), "{said}");
    assert!(said.contains("Usage: shop [options]"), "{said}");
}

#[test]
fn bad_options_are_refused_in_a_sentence() {
    refuses(&["--sell"], "invalid option '--sell'");
    refuses(&["now"], "unexpected argument \"now\"");
    refuses(&["--seconds"], "missing argument for option '--seconds'");
    refuses(&["--load", "many"], "--load cannot be \"many\": invalid digit found in string");
}
