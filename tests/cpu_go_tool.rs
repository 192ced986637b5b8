//! The real `go tool pprof` on a CPU profile in a file: its tables, its listing of the source, and its
//! flame graph.

use std::fs;
use std::hint::black_box;
use std::net::{SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::thread;

use profiler_core::{Capture, Config, Kind, Profile};
use profiler_tests::cpu::{MILLISECOND, cumulative, finish_unnamed, use_up};
use profiler_tests::keep;
use profiler_tests::server::Request;
use profiler_tests::tool::Tool;

#[inline(never)]
fn bake_bread() {
    use_up(black_box(600 * MILLISECOND)); // the line that costs
    keep!();
}

#[inline(never)]
fn sell_bread() {
    use_up(black_box(200 * MILLISECOND));
    keep!();
}

static PROFILE: LazyLock<Profile> = LazyLock::new(|| {
    profiler_core::start(Config::default()).expect("the first start");
    drop(finish_unnamed(Capture::start(Kind::Profile).expect("Linux has timers")));
    let capture = Capture::start_with(Kind::Profile, 1000).expect("Linux has timers");
    for body in [bake_bread, sell_bread] {
        profiler_core::thread::spawn(body).join().expect("no panic");
    }
    capture.finish()
});

/// Writes the profile where the tool finds nothing else of ours.
fn save(tool: &Tool) -> String {
    let mut bytes = Vec::new();
    PROFILE.write_to(&mut bytes).expect("memory takes all");
    let path = tool.home().join("cpu.pb.gz");
    fs::write(&path, bytes).expect("a file");
    path.to_str().expect("text").to_owned()
}

#[test]
fn the_table_is_that_of_the_profile() {
    let tool = Tool::new();
    let top = tool.top(&[&save(&tool)]);
    let header = top.header.join("\n");
    assert!(header.contains("Type: cpu"), "{header}");
    assert!(header.contains("Duration: "), "{header}");
    assert_eq!(top.total, PROFILE.totals()[1]);
    for function in ["cpu_go_tool::bake_bread", "cpu_go_tool::sell_bread"] {
        let row = top.row(function).unwrap_or_else(|| panic!("{function}: {top:?}"));
        assert_eq!(row.cum, cumulative(&PROFILE, function), "{function}");
        assert!(row.cum > 0);
    }
    let samples = tool.top(&["-sample_index=samples", &save(&tool)]);
    assert_eq!(samples.total, PROFILE.totals()[0]);
}

#[test]
fn the_source_is_listed_with_its_costs() {
    let tool = Tool::new();
    let source = format!("-source_path={}/..", env!("CARGO_MANIFEST_DIR"));
    let list = tool.report(&["-list=bake_bread", "-unit=ns", &source, &save(&tool)]);
    let line = list.lines().find(|line| line.contains("// the line that costs"));
    let line = line.unwrap_or_else(|| panic!("the source is not there:\n{list}"));
    let cost = cumulative(&PROFILE, "cpu_go_tool::bake_bread");
    // `.      600ns     21:    use_up(…`: flat, cumulative, the number of the line.
    let shown = line.split_whitespace().nth(1).expect("a column");
    let shown: i64 = shown.trim_end_matches("ns").parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(shown > cost / 2 && shown <= cost, "{line}: {cost}");
}

#[test]
fn the_flame_graph_is_served() {
    let tool = Tool::new();
    // Free when it was asked for; the tool takes no 0.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address: SocketAddr = free.expect("a free port");
    let http = format!("-http={address}");
    let mut server = tool.start(&[&http, "-no_browser", &save(&tool)]);
    let page = loop {
        if let Ok(page) = Request::get("/ui/flamegraph").try_send(address) {
            break page;
        }
        assert!(server.runs(), "the tool has ended");
        thread::yield_now();
    };
    drop(server);
    assert_eq!(page.status, 200, "{}", page.text());
    for function in ["cpu_go_tool::bake_bread", "cpu_go_tool::sell_bread"] {
        assert!(page.text().contains(function), "{function} is not on the page");
    }
}
