//! The real `go tool pprof` on `heap` and `allocs`: all four columns, differences, the text form after
//! the rate has changed, sizes, labels and spans.

#![allow(unsafe_code, reason = "an allocator is called by hand")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex as Turn, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use profiler_core::{
    Config, Kind, ProfiledAllocator, Rates, profiled, set_rates, snapshot, with_labels,
};
use profiler_tests::check;
use profiler_tests::pprof::{Profile, Stack};
use profiler_tests::server::Request;
use profiler_tests::tool::Tool;

/// Not the program's own: what the tests do not allocate stands still.
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

const KINDS: [Kind; 2] = [Kind::Heap, Kind::Allocs];
const COLUMNS: [&str; 4] = ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"];

/// A block that is given back when it is dropped.
struct Block(*mut u8, Layout);

// SAFETY: it is its owner's alone.
unsafe impl Send for Block {}
// SAFETY: as for Send; nobody reads or writes it.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody uses it.
        unsafe { ALLOCATOR.dealloc(self.0, self.1) };
    }
}

/// A function that allocates so many blocks of a size; it is the leaf of their stacks.
macro_rules! makes {
    ($name:ident, $count:expr, $size:expr) => {
        #[inline(never)]
        fn $name() -> Vec<Block> {
            let layout = Layout::from_size_align($size, 8).expect("a layout");
            let mut blocks = Vec::with_capacity($count);
            for _ in 0..$count {
                // SAFETY: the size is not zero.
                let block = unsafe { ALLOCATOR.alloc(layout) };
                assert!(!block.is_null());
                blocks.push(Block(block, layout));
            }
            blocks
        }
    };
}

makes!(stock, 30, 1000);
makes!(serve, 50, 200);
makes!(order, 400, 4096);
makes!(wrap, 10, 64);
makes!(lend, 50_000, 48);
makes!(grow, 10, 104);

#[profiled]
fn pack() -> Vec<Block> {
    wrap()
}

/// What every test looks at: the endpoint, and what is alive until the end.
struct Shop {
    address: SocketAddr,
    _alive: Vec<Vec<Block>>,
}

fn at_rate<R>(rate: u64, body: impl FnOnce() -> R) -> R {
    set_rates(Rates::ALL.heap_bytes(rate));
    let result = body();
    set_rates(Rates::ALL.heap_bytes(0));
    result
}

static SHOP: LazyLock<Shop> = LazyLock::new(|| {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    let alive = at_rate(1, || {
        drop(serve());
        vec![stock(), pack(), with_labels([("tenant", "blue")], stock)]
    });
    // A hundred samples, to be scaled by 1.6, 1.02 and 128 or not at all.
    let scaled = [4096, 1024, 512 << 10].map(|rate| at_rate(rate, order));
    let address = endpoint.local_addr().expect("the endpoint is not switched off");
    Shop { address, _alive: alive.into_iter().chain(scaled).collect() }
});

/// Nothing is allocated while a test has its turn, but what the test itself does.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Turn<()> = Turn::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LazyLock::force(&SHOP);
    turn
}

fn url(path: impl std::fmt::Display) -> String {
    format!("http://{}/debug/pprof/{path}", SHOP.address)
}

fn fetch(path: impl std::fmt::Display) -> Profile {
    let response = Request::get(&format!("/debug/pprof/{path}")).send(SHOP.address);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    check::valid(&response.body)
}

#[test]
fn every_column_is_shown_with_its_total_and_functions() {
    let _turn = turn();
    let tool = Tool::new();
    for kind in KINDS {
        let profile = fetch(kind);
        assert_eq!(profile.totals(), snapshot(kind).expect("it is available").totals(), "{kind}");
        for (column, name) in COLUMNS.iter().enumerate() {
            let top = tool.top(&[&format!("-{name}"), &url(kind)]);
            assert!(top.header.contains(&format!("Type: {name}")), "{kind}: {top:?}");
            assert_eq!(top.total, profile.totals()[column], "{kind} -{name}");
            top.shows(&profile, column);
        }
    }
}

#[test]
fn what_is_shown_is_what_was_allocated() {
    let _turn = turn();
    let tool = Tool::new();
    for (function, expected) in [
        ("heap_tool::serve", [50, 10_000, 0, 0]),
        ("heap_tool::stock", [60, 60_000, 60, 60_000]),
        ("heap_tool::wrap", [10, 640, 10, 640]),
    ] {
        for (column, expected) in COLUMNS.iter().zip(expected) {
            let top = tool.top(&[&format!("-{column}"), &url("heap")]);
            let flat = top.row(function).map_or(0, |row| row.flat);
            assert_eq!(flat, expected, "{function} {column}: {top:?}");
        }
    }
    // Without a column each kind shows the one that it is for.
    for (kind, column) in [(Kind::Heap, "inuse_space"), (Kind::Allocs, "alloc_space")] {
        let top = tool.top(&[&url(kind)]);
        assert!(top.header.contains(&format!("Type: {column}")), "{top:?}");
        assert_eq!(top.row("heap_tool::serve").is_some(), kind == Kind::Allocs, "{top:?}");
    }
}

/// Values are scaled when they are sampled, each by its rate, and the text says that they need no more.
#[test]
fn the_text_form_has_the_same_totals_whatever_the_rates_were() {
    let _turn = turn();
    let tool = Tool::new();
    let program = std::env::current_exe().expect("the path of the test binary");
    let program = program.to_str().expect("text");
    for kind in KINDS {
        let text = url(format_args!("{kind}?debug=1"));
        let profile = fetch(kind);
        for (column, name) in COLUMNS.iter().enumerate() {
            let index = format!("-{name}");
            let by_binary = tool.top(&["-symbolize=local", &index, program, &text]);
            let by_server = tool.top(&["-symbolize=remote", &index, &text]);
            let total = profile.totals()[column];
            assert_eq!((by_binary.total, by_server.total), (total, total), "{kind} {name}");
            let order = profile.flat("heap_tool::order")[column];
            assert!(order > 0, "{profile:?}");
            // The tool names functions of a binary by programs that a machine need not have.
            let shown = by_server.row("heap_tool::order").map(|row| row.flat);
            assert_eq!(shown, Some(order), "{kind} {name}: {by_server:?}");
        }
    }
}

/// Ends what runs beside a test, also one that fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `body` while memory is allocated all the time, and what was lent before is given back.
fn while_growing<R>(body: impl FnOnce() -> R) -> R {
    at_rate(1, || {
        let mut lent = lend();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let _done = Done(&is_done);
            scope.spawn(|| {
                let mut grown = Vec::new();
                while !is_done.load(Ordering::Relaxed) {
                    grown.push(grow());
                    lent.pop().expect("enough for a minute");
                    thread::sleep(Duration::from_millis(1));
                }
            });
            body()
        })
    })
}

#[test]
fn a_difference_over_seconds_has_what_came_and_what_went() {
    let _turn = turn();
    let tool = Tool::new();
    for kind in KINDS {
        let difference = while_growing(|| fetch(format_args!("{kind}?seconds=1")));
        assert!(difference.tables.duration_nanos > 0, "{difference:?}");
        let grown = difference.flat("heap_tool::grow");
        assert!(grown[0] > 0, "{kind}: {grown:?}");
        assert_eq!(grown, [grown[0], grown[0] * 104, grown[0], grown[0] * 104], "{kind}");
        let back = difference.flat("heap_tool::lend");
        assert!(back[2] < 0, "{kind}: {back:?}");
        assert_eq!(back, [0, 0, back[2], back[2] * 48], "{kind}");
        let others = ["stock", "serve", "order", "wrap"];
        for other in others.map(|name| format!("heap_tool::{name}")) {
            assert_eq!(difference.cumulative(&other), [0; 4], "{kind}: {other}");
        }

        let before = snapshot(kind).expect("it is available").totals()[0];
        let (objects, bytes) = while_growing(|| {
            let read = |column| tool.top(&["-seconds=1", column, &url(kind)]);
            (read("-alloc_objects"), read("-inuse_space"))
        });
        let most = snapshot(kind).expect("it is available").totals()[0] - before;
        assert!(objects.header.iter().any(|line| line.starts_with("Duration: ")), "{objects:?}");
        assert!((10..=most).contains(&objects.total), "{kind}: {objects:?}, {most}");
        assert_eq!(objects.row("heap_tool::grow").map(|row| row.flat), Some(objects.total));
        assert!(bytes.row("heap_tool::grow").is_some_and(|row| row.flat >= 1040), "{bytes:?}");
        assert!(bytes.row("heap_tool::lend").is_some_and(|row| row.flat < 0), "{bytes:?}");
    }
}

#[test]
fn sizes_are_a_number_that_can_be_focused_on() {
    let _turn = turn();
    let tool = Tool::new();
    let profile = fetch("heap");
    let size = |sample: &Stack| sample.numbers.get("bytes").map_or(0, |(value, _)| *value);
    let of = |function: &str| {
        let samples = profile.samples.iter().filter(|sample| sample.names[0] == function);
        samples.map(size).collect::<Vec<_>>()
    };
    assert_eq!(of("heap_tool::wrap"), [64]);
    assert_eq!(of("heap_tool::order"), [4096]);
    // Classes are eight to a doubling.
    assert_eq!(of("heap_tool::stock"), [1024, 1024]);
    for (focus, least, most) in [("4096b", 4096, 4096), ("1kb:2kb", 1024, 2048), (":64b", 0, 64)] {
        let in_focus = |sample: &&Stack| (least..=most).contains(&size(sample));
        let expected: i64 =
            profile.samples.iter().filter(in_focus).map(|sample| sample.values[3]).sum();
        assert!(expected > 0, "{focus}: {:?}", profile.samples);
        let traces =
            tool.traces(&["-inuse_space", &format!("-tagfocus=bytes={focus}"), &url("heap")]);
        let shown: i64 = traces.iter().map(|trace| trace.value).sum();
        assert_eq!(shown, expected, "{focus}: {traces:?}");
    }
}

#[test]
fn labels_and_spans_stand_on_what_is_allocated() {
    let _turn = turn();
    let tool = Tool::new();
    let blue = tool.top(&["-inuse_space", "-tagfocus=tenant=blue", &url("heap")]);
    assert_eq!(blue.rows[0].name, "heap_tool::stock", "{blue:?}");
    assert_eq!(blue.rows[0].flat, 30_000, "{blue:?}");

    let spans = fetch("heap?labels=span");
    let in_span = spans.samples.iter().filter(|sample| sample.labels.contains_key("span"));
    let in_span: Vec<_> = in_span.collect();
    let [packed] = in_span[..] else { panic!("{in_span:#?}") };
    assert_eq!(packed.names[0], "heap_tool::wrap");
    assert!(packed.labels["span"].ends_with("pack"), "{packed:?}");
    assert_eq!(packed.values, [10, 640, 10, 640]);

    let logical = fetch("heap?stack=logical");
    assert_eq!(logical.totals(), fetch("heap").totals());
    let top = tool.top(&["-inuse_objects", &url("heap?stack=logical")]);
    let row = top.row("heap_tool::pack").expect("the span is shown");
    assert_eq!((row.flat, row.cum), (10, 10), "{top:?}");
    assert!(top.row("heap_tool::wrap").is_none(), "{top:?}");
}
