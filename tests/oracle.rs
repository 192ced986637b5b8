//! The decoder, the checker and the tool of the support library, tried on what a real Go server
//! serves: a mistake of theirs would otherwise pass for one of ours, or hide one.

use profiler_tests::check;
use profiler_tests::oracle::Oracle;
use profiler_tests::pprof::Profile;
use profiler_tests::server::Request;
use profiler_tests::tool::Tool;

#[test]
fn decoder_and_tool_agree_on_a_profile_of_go() {
    let oracle = Oracle::start();
    let response = Request::get("/debug/pprof/mutex").send(oracle.address());
    assert_eq!(response.status, 200);
    let profile = Profile::decode(&response.body).unwrap();
    assert_eq!(
        profile.sample_types,
        [("contentions", "count"), ("delay", "nanoseconds")].map(|(a, b)| (a.into(), b.into()))
    );
    assert_eq!(profile.period_type, ("contentions".into(), "count".into()));

    // The same bytes: Go's server has locks of its own, whose waits go on.
    let tool = Tool::new();
    let path = tool.home().join("mutex");
    std::fs::write(&path, &response.body).unwrap();
    let path = path.to_str().unwrap();
    let top = tool.top(&[path]);
    let unlock = profile.flat("sync.(*Mutex).Unlock");
    assert!(unlock[1] > 0, "{:?}", profile.samples);
    assert_eq!(top.row("sync.(*Mutex).Unlock").unwrap().flat, unlock[1]);
    assert_eq!(top.row("main.contend").unwrap().cum, profile.cumulative("main.contend")[1]);
    assert_eq!(top.total, profile.totals()[1]);

    let traces = tool.traces(&["-sample_index=contentions", path]);
    let expected = profile.samples.iter().find(|sample| sample.values[1] == unlock[1]).unwrap();
    assert!(traces.iter().any(|trace| trace.names == expected.names), "{traces:?}");
}

#[test]
fn the_checker_finds_in_a_profile_of_go_only_what_go_does_otherwise() {
    let oracle = Oracle::start();
    let response = Request::get("/debug/pprof/mutex").send(oracle.address());
    let profile = Profile::decode(&response.body).unwrap();
    let violations = check::violations(&profile.tables);
    assert!(!violations.is_empty(), "Go repeats names as system names");
    for violation in violations {
        assert!(violation.contains("as its system name too"), "{violation}");
    }
}

#[test]
fn the_tool_refuses_what_is_no_profile() {
    let tool = Tool::new();
    let path = tool.home().join("broken");
    std::fs::write(&path, "no profile").unwrap();
    let said = tool.refusal(&["-top", path.to_str().unwrap()]);
    assert!(said.contains("unrecognized profile format"), "{said}");
}
