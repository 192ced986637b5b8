//! `?seconds=N`: what came in that time, and nothing else.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use profiler_core::parking_lot::Mutex;
use profiler_core::{Config, Kind, Profile, Rates, snapshot};
use profiler_tests::keep;
use profiler_tests::parked::start_parked;
use profiler_tests::server::Request;
use profiler_tests::{check, pprof};

const KINDS: [Kind; 2] = [Kind::Mutex, Kind::Block];

static MUTEX: Mutex<()> = Mutex::named("contended", ());

/// Lets another thread wait; both functions are on the stack of what is recorded.
macro_rules! contend {
    ($hold:ident, $wait:ident) => {
        #[inline(never)]
        fn $hold() {
            thread::scope(|scope| {
                let guard = MUTEX.lock();
                start_parked(scope, $wait);
                drop(guard);
            });
            keep!();
        }

        #[inline(never)]
        fn $wait() {
            drop(MUTEX.lock());
            keep!();
        }
    };
}

contend!(hold_before, wait_before);
contend!(hold_meanwhile, wait_meanwhile);

const BEFORE: [&str; 2] = ["delta::hold_before", "delta::wait_before"];
const MEANWHILE: [&str; 2] = ["delta::hold_meanwhile", "delta::wait_meanwhile"];

/// Where the profiles are, and how they were when nothing had happened yet.
struct Served {
    address: SocketAddr,
    empty: [Profile; 2],
    empty_differences: [Vec<u8>; 2],
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    let address = endpoint.local_addr().expect("the endpoint is not switched off");
    let empty = KINDS.map(|kind| snapshot(kind).expect("available"));
    let empty_differences = KINDS.map(|kind| fetch(address, &format!("{kind}?seconds=1")));
    hold_before();
    Served { address, empty, empty_differences }
});

fn fetch(address: SocketAddr, path: &str) -> Vec<u8> {
    let response = Request::get(&format!("/debug/pprof/{path}")).send(address);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    response.body
}

/// Values of the stacks with one of these functions.
fn of(profile: &pprof::Profile, functions: [&str; 2]) -> [i64; 2] {
    let sums = functions.map(|function| profile.cumulative(function));
    [sums[0][0] + sums[1][0], sums[0][1] + sums[1][1]]
}

#[track_caller]
fn check_header(difference: &pprof::Profile) {
    let types = [("contentions", "count"), ("delay", "nanoseconds")];
    let types = types.map(|(name, unit)| (name.to_owned(), unit.to_owned()));
    assert_eq!(difference.sample_types, types);
    assert_eq!(difference.period_type, types[0]);
    assert!(difference.tables.duration_nanos > 0, "{difference:?}");
}

#[test]
fn a_difference_shows_only_what_came_after_its_start() {
    let address = SERVED.address;
    for kind in KINDS {
        let is_done = AtomicBool::new(false);
        let difference = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    hold_meanwhile();
                }
            });
            let fetching = scope.spawn(|| fetch(address, &format!("{kind}?seconds=1")));
            let body = fetching.join();
            is_done.store(true, Ordering::Relaxed);
            check::valid(&body.expect("it was fetched"))
        });
        check_header(&difference);
        assert_eq!(of(&difference, BEFORE), [0, 0], "{kind}");
        let meanwhile = of(&difference, MEANWHILE);
        assert!(meanwhile.into_iter().all(|value| value > 0), "{kind}: {meanwhile:?}");

        let full = check::valid(&fetch(address, kind.name()));
        assert_eq!(full.tables.duration_nanos, 0);
        let before = of(&full, BEFORE);
        assert!(before.into_iter().all(|value| value > 0), "{kind}: {before:?}");
        let all = of(&full, MEANWHILE);
        assert!(meanwhile[0] <= all[0] && meanwhile[1] <= all[1], "{kind}: {meanwhile:?}, {all:?}");
    }
}

#[test]
fn a_difference_in_which_nothing_comes_is_empty_and_valid() {
    for body in &SERVED.empty_differences {
        let difference = check::valid(body);
        check_header(&difference);
        assert_eq!(difference.samples, []);
    }
}

#[test]
fn a_difference_from_an_empty_profile_is_the_profile() {
    for empty in &SERVED.empty {
        assert!(empty.is_empty());
        let full = snapshot(empty.kind()).expect("available");
        let difference = full.since(empty);
        let bodies = [&full, &difference].map(|profile| {
            let mut body = Vec::new();
            profile.write_to(&mut body).expect("memory takes all");
            check::valid(&body)
        });
        let [full, difference] = bodies;
        assert!(!difference.samples.is_empty());
        assert_eq!(difference.samples, full.samples);
        assert_eq!(difference.sample_types, full.sample_types);
        assert_eq!(difference.period_type, full.period_type);
        assert!(difference.tables.duration_nanos > 0);
    }
}
