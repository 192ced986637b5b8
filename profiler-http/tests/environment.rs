//! What the environment says about endpoints. Each case is a process of its own: this program
//! again, with the variables of the case and the name of what it does.

mod common;

use std::net::SocketAddr;
use std::process::Command;

use common::{ask, exchange, request, status};
use http_body_util::Empty;
use profiler_http::{Access, Endpoint, ServeError, serve, serve_with, service};
use tower::ServiceExt as _;

const STEP: &str = "PROFILER_TEST_STEP";

/// What the processes do, by name.
const STEPS: &[(&str, fn())] = &[
    ("serves loopback openly", || {
        let address = open(serve("127.0.0.1:0"));
        assert_eq!(status(&ask(address, "GET /debug/pprof/cmdline")), 200);
    }),
    ("serves with the token sesame", || with_token(serve("127.0.0.1:0"))),
    ("the program's token gives way", || {
        with_token(serve_with("127.0.0.1:0", Access::token("of the program")));
    }),
    ("what is protected needs the token too", || {
        with_token(serve_with("127.0.0.1:0", Access::already_protected()));
    }),
    ("the service needs the token sesame", || {
        let status = |authorization: Option<&str>| {
            ask_service(Access::already_protected(), authorization).as_u16()
        };
        assert_eq!(status(None), 401);
        assert_eq!(status(Some("Bearer sesame")), 200);
    }),
    ("the address is replaced", || {
        // The program's own would be refused.
        let address = open(serve("192.0.2.1:6060"));
        assert!(address.ip().is_loopback());
        assert_ne!(address.port(), 6060);
    }),
    ("the address is open, with the token sesame", || {
        let address = serve("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(address.ip().is_unspecified());
        guarded(SocketAddr::from(([127, 0, 0, 1], address.port())));
    }),
    ("the address is open, with the program's token", || {
        let endpoint = serve_with("127.0.0.1:0", Access::token("sesame")).unwrap();
        assert!(endpoint.local_addr().unwrap().ip().is_unspecified());
    }),
    ("protection elsewhere does not open the address", || {
        println!("{}", serve_with("127.0.0.1:0", Access::already_protected()).unwrap_err());
    }),
    ("is disabled", || {
        let endpoint = serve("not even an address").unwrap();
        assert_eq!((endpoint.local_addr(), endpoint.url()), (None, None));
        endpoint.shutdown();
        assert_eq!(ask_service(Access::token("any"), None).as_u16(), 503);
        assert!(!profiler_core::stats().started);
    }),
    ("started before, so its environment does not count", || {
        profiler_core::start(profiler_core::Config::default()).unwrap();
        open(serve("127.0.0.1:0"));
        service(Access::already_protected()).unwrap();
    }),
    ("refuses to serve", || println!("{}", serve("127.0.0.1:0").unwrap_err())),
    ("refuses to make a service", || {
        println!("{}", service(Access::already_protected()).unwrap_err());
    }),
];

fn main() {
    if let Some(step) = std::env::var_os(STEP) {
        let step = STEPS.iter().find(|(name, _)| step == *name).expect("a step of that name");
        return step.1();
    }
    let file = std::env::temp_dir().join(format!("profiler-token-{}", std::process::id()));
    std::fs::write(&file, "sesame\n").unwrap();
    let path = file.to_str().unwrap();

    passes("serves loopback openly", &[]);
    passes("serves loopback openly", &[("PROFILER_DISABLED", "0")]);
    passes("serves with the token sesame", &[("PROFILER_TOKEN", "sesame")]);
    passes("serves with the token sesame", &[("PROFILER_TOKEN_FILE", path)]);
    passes("the program's token gives way", &[("PROFILER_TOKEN", "sesame")]);
    passes("what is protected needs the token too", &[("PROFILER_TOKEN", "sesame")]);
    passes("the service needs the token sesame", &[("PROFILER_TOKEN", "sesame")]);
    passes("the address is replaced", &[("PROFILER_ADDR", "localhost:0")]);
    let open = ("PROFILER_ADDR", "0.0.0.0:0");
    passes("the address is open, with the token sesame", &[open, ("PROFILER_TOKEN", "sesame")]);
    passes("the address is open, with the program's token", &[open]);
    passes("is disabled", &[("PROFILER_DISABLED", "1")]);
    let started = "started before, so its environment does not count";
    passes(started, &[("PROFILER_BLOCK_NS", "often")]);
    passes("is disabled", &[("PROFILER_DISABLED", "true"), ("PROFILER_TOKEN", "")]);

    let guard = "unless PROFILER_TOKEN or PROFILER_TOKEN_FILE is set";
    says("refuses to serve", &[open], &["PROFILER_ADDR", "0.0.0.0:0", guard]);
    says("protection elsewhere does not open the address", &[open], &["PROFILER_ADDR", guard]);
    for step in ["refuses to serve", "refuses to make a service"] {
        let rate = ("PROFILER_BLOCK_NS", "often");
        says(step, &[rate], &["PROFILER_BLOCK_NS", "often"]);
        let disabled = ("PROFILER_DISABLED", "maybe");
        says(step, &[disabled], &["PROFILER_DISABLED", "maybe", "0, 1, true or false"]);
        says(step, &[("PROFILER_TOKEN", "")], &["PROFILER_TOKEN", "at least one character"]);
        let both = [("PROFILER_TOKEN", "a"), ("PROFILER_TOKEN_FILE", path)];
        says(step, &both, &["PROFILER_TOKEN", "PROFILER_TOKEN_FILE", "only one of the two"]);
        let missing = [("PROFILER_TOKEN_FILE", "no/such/file")];
        says(step, &missing, &["PROFILER_TOKEN_FILE", "no/such/file", "cannot be read"]);
    }
    let bad = [("PROFILER_ADDR", "nowhere")];
    says("refuses to serve", &bad, &["PROFILER_ADDR", "nowhere", "such as 127.0.0.1:6060"]);
    std::fs::remove_file(&file).unwrap();
}

/// Runs a step with these variables and no others of ours, and returns what it says.
fn run(step: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROFILER_") {
            command.env_remove(name);
        }
    }
    let output = command.env(STEP, step).envs(variables.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn passes(step: &str, variables: &[(&str, &str)]) {
    let (passed, said) = run(step, variables);
    assert!(passed, "{step} with {variables:?}: {said}");
}

#[track_caller]
fn says(step: &str, variables: &[(&str, &str)], words: &[&str]) {
    let (passed, said) = run(step, variables);
    assert!(passed, "{step} with {variables:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{step} with {variables:?}: no {word:?} in {said:?}");
    }
}

#[track_caller]
fn open(endpoint: Result<Endpoint, ServeError>) -> SocketAddr {
    endpoint.unwrap().local_addr().unwrap()
}

#[track_caller]
fn with_token(endpoint: Result<Endpoint, ServeError>) {
    guarded(open(endpoint));
}

#[track_caller]
fn guarded(address: SocketAddr) {
    let get =
        |headers: &str| status(&exchange(address, &request("GET /debug/pprof/cmdline", headers)));
    assert_eq!(get(""), 401);
    assert_eq!(get("Authorization: Bearer of the program\r\n"), 401);
    assert_eq!(get("Authorization: Bearer sesame\r\n"), 200);
}

fn ask_service(access: Access, authorization: Option<&str>) -> http::StatusCode {
    let mut request = http::Request::get("/debug/pprof/cmdline");
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(service(access).unwrap().oneshot(request)).unwrap().status()
}
