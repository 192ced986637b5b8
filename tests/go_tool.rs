//! The real `go tool pprof` on every endpoint: what it shows is what the profiler holds.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex as Turn, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use profiler_core::parking_lot::Mutex;
use profiler_core::{
    Config, CustomProfile, Entry, Kind, Rates, Read, profiled, snapshot, with_labels,
};
use profiler_tests::check;
use profiler_tests::parked::ThreadId;
use profiler_tests::pprof::{Profile, Stack};
use profiler_tests::server::Request;
use profiler_tests::tool::Tool;

static STOCK: Mutex<u32> = Mutex::named("stock", 0);
static CARTS: CustomProfile = CustomProfile::new("carts");

/// Starts a thread that waits for the stock, and returns when it does.
fn start_waiter() -> JoinHandle<()> {
    let (say, said) = mpsc::channel();
    let waiter = thread::spawn(move || {
        say.send(ThreadId::current()).expect("the holder listens");
        wait_for_stock();
    });
    said.recv().expect("the waiter is there").wait_until_parked();
    waiter
}

#[inline(never)]
fn wait_for_stock() {
    *STOCK.lock() += 1;
}

trait Sell {
    fn sell(&self) -> JoinHandle<()>;
}

struct Till;

impl Sell for Till {
    #[inline(never)]
    fn sell(&self) -> JoinHandle<()> {
        let mut stock = STOCK.lock();
        *stock += 1;
        start_waiter()
    }
}

struct Pool<T>(T);

impl<T: Copy> Pool<T> {
    #[inline(never)]
    fn take(&self) -> (T, JoinHandle<()>) {
        let _stock = STOCK.lock();
        (self.0, start_waiter())
    }
}

#[profiled]
#[inline(never)]
fn checkout() {
    let in_closure = || {
        let _stock = STOCK.lock();
        start_waiter()
    };
    in_closure().join().expect("the waiter ends");
}

#[inline(never)]
fn fill_cart() -> Entry {
    CARTS.enter()
}

/// What every test looks at: the endpoint, and things that exist until the end.
struct Shop {
    address: SocketAddr,
    _carts: [Entry; 3],
}

static SHOP: LazyLock<Shop> = LazyLock::new(|| {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    Till.sell().join().expect("the waiter ends");
    Pool(1_u8).take().1.join().expect("the waiter ends");
    Pool("one").take().1.join().expect("the waiter ends");
    checkout();
    for tenant in ["blue", "green"] {
        with_labels([("tenant", tenant)], || Till.sell()).join().expect("the waiter ends");
    }
    Shop {
        address: endpoint.local_addr().expect("the endpoint is not switched off"),
        _carts: [fill_cart(), fill_cart(), fill_cart()],
    }
});

/// Nothing is recorded while a test has its turn, but what the test itself does.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Turn<()> = Turn::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands still while nobody sells. The heap and captures never do; they have tests of their own.
fn kinds() -> Vec<Kind> {
    let moving = [Kind::Allocs, Kind::Heap, Kind::Profile, Kind::Wall];
    let still = Kind::ALL.iter().copied().filter(|kind| !moving.contains(kind));
    still.chain([Kind::Custom("carts")]).collect()
}

fn url(path: &str) -> String {
    format!("http://{}/debug/pprof/{path}", SHOP.address)
}

fn fetch(path: &str) -> Profile {
    let response = Request::get(&format!("/debug/pprof/{path}")).send(SHOP.address);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    check::valid(&response.body)
}

#[test]
fn every_profile_is_shown_with_its_names_and_totals() {
    let _turn = turn();
    let tool = Tool::new();
    for kind in kinds() {
        let profile = fetch(kind.name());
        let top = tool.top(&[&url(kind.name())]);
        let column = kind.default_column();
        if kind == Kind::Threadcreate {
            // The harness makes threads meanwhile; those that answer requests are none of the program's.
            assert!(top.total >= profile.totals()[column], "{top:?}");
            assert!(top.rows.iter().all(|row| row.name == "[unknown]"), "{top:?}");
            continue;
        }
        assert_eq!(top.total, profile.totals()[column], "{kind}");
        if kind == Kind::Goroutine {
            // Each look finds the threads of the server elsewhere.
            continue;
        }
        assert_eq!(profile.totals(), snapshot(kind).expect("it is available").totals(), "{kind}");
        assert!(!profile.samples.is_empty(), "{kind}");
        top.shows(&profile, column);
    }
}

#[test]
fn every_column_is_shown_with_its_total() {
    let _turn = turn();
    let tool = Tool::new();
    for kind in [Kind::Block, Kind::Mutex, Kind::Spans] {
        let totals = snapshot(kind).expect("it is available").totals();
        for (column, total) in kind.values().iter().zip(totals) {
            let index = format!("-sample_index={}", column.name);
            assert_eq!(tool.top(&[&index, &url(kind.name())]).total, total, "{kind} {index}");
        }
    }
}

#[test]
fn holders_are_named_in_full() {
    let _turn = turn();
    let top = Tool::new().top(&[&url("mutex")]);
    let holders: Vec<_> =
        top.rows.iter().filter(|row| row.flat > 0).map(|row| row.name.as_str()).collect();
    assert!(holders.contains(&"<go_tool::Till as go_tool::Sell>::sell"), "{holders:?}");
    assert!(holders.contains(&"go_tool::checkout::{{closure}}"), "{holders:?}");
    let pool = |name: &&&str| name.starts_with("go_tool::Pool<") && name.ends_with(">::take");
    assert_eq!(holders.iter().filter(pool).count(), 1, "{holders:?}");
    assert!(top.row("go_tool::checkout").is_some_and(|row| row.cum > 0), "{:?}", top.rows);
}

#[test]
fn waiters_are_named() {
    let _turn = turn();
    let waiter = "go_tool::wait_for_stock";
    let waits = fetch("block").flat(waiter)[0];
    assert!(waits >= 6, "{waits}");
    let top = Tool::new().top(&["-sample_index=contentions", &url("block")]);
    assert_eq!(top.row(waiter).map(|row| row.flat), Some(waits), "{top:?}");
}

#[test]
fn traces_are_the_stacks_of_the_profile() {
    let _turn = turn();
    let profile = fetch("mutex");
    let mut traces = Tool::new().traces(&[&url("mutex")]);
    let as_trace = |sample: &Stack| (sample.names.clone(), sample.values[1]);
    let mut expected: Vec<_> = profile.samples.iter().map(as_trace).collect();
    expected.sort();
    traces.sort_by(|a, b| (&a.names, a.value).cmp(&(&b.names, b.value)));
    let traces: Vec<_> = traces.into_iter().map(|trace| (trace.names, trace.value)).collect();
    assert_eq!(traces, expected);
}

#[test]
fn raw_shows_types_period_and_the_program_first() {
    let _turn = turn();
    let raw = Tool::new().report(&["-raw", &url("mutex")]);
    assert!(raw.contains("PeriodType: contentions count\nPeriod: 1\n"), "{raw}");
    assert!(raw.contains("\nSamples:\ncontentions/count delay/nanoseconds\n"), "{raw}");
    let mappings = raw.split("\nMappings\n").nth(1).expect("mappings");
    let program = std::env::current_exe().expect("the path of the test binary");
    let first = mappings.lines().next().expect("a mapping");
    assert!(first.starts_with("1: "), "{first}");
    assert!(first.contains(program.to_str().expect("text")), "{first}");
    assert!(first.contains("[FN]"), "{first}");
}

#[test]
fn the_text_form_is_read_too() {
    let _turn = turn();
    let tool = Tool::new();
    let program = std::env::current_exe().expect("the path of the test binary");
    let program = program.to_str().expect("text");
    for kind in kinds() {
        let text = url(&format!("{kind}?debug=1"));
        let totals = snapshot(kind).expect("it is available").totals();
        // Text holds one column of `spans`, the calls.
        let total = if kind == Kind::Spans { totals[0] } else { *totals.last().expect("a column") };
        let by_binary = tool.top(&["-symbolize=local", program, &text]);
        let by_server = tool.top(&["-symbolize=remote", &text]);
        if kind == Kind::Threadcreate {
            let grows = total <= by_binary.total && by_binary.total <= by_server.total;
            assert!(grows, "{by_server:?}");
        } else if kind != Kind::Goroutine {
            assert_eq!(by_binary.total, total, "{kind}");
            assert_eq!(by_server.total, total, "{kind}");
        }
    }
    let top = tool.top(&["-symbolize=remote", &url("mutex?debug=1")]);
    assert!(top.row("<go_tool::Till as go_tool::Sell>::sell").is_some(), "{:?}", top.rows);
}

#[test]
fn addresses_without_names_are_named_by_the_server() {
    let _turn = turn();
    let tool = Tool::new();
    let nameless = fetch("mutex?symbols=none");
    let is_mark = |sample: &Stack| sample.names.iter().all(|name| name.starts_with('['));
    assert!(nameless.samples.iter().all(is_mark), "{:?}", nameless.samples);
    let top = tool.top(&["-symbolize=remote", &url("mutex?symbols=none")]);
    let with_names = tool.top(&[&url("mutex")]);
    let sell = "<go_tool::Till as go_tool::Sell>::sell";
    let cum = |top: &profiler_tests::tool::Top| top.row(sell).map(|row| row.cum);
    assert_eq!(cum(&top), cum(&with_names), "{:?}", top.rows);
    assert!(cum(&top).is_some());
}

#[test]
fn a_base_is_subtracted() {
    let _turn = turn();
    let tool = Tool::new();
    let save = |name: &str| {
        let body = Request::get("/debug/pprof/mutex").send(SHOP.address).body;
        let path = tool.home().join(name);
        fs::write(&path, &body).expect("a file");
        (path.to_str().expect("text").to_owned(), check::valid(&body))
    };
    let (before_path, before) = save("before");
    checkout();
    let (after_path, after) = save("after");
    let base = format!("-base={before_path}");
    let top = tool.top(&[&base, &after_path]);
    let holder = "go_tool::checkout::{{closure}}";
    let grown = after.flat(holder)[1] - before.flat(holder)[1];
    assert!(grown > 0);
    assert_eq!(top.row(holder).map(|row| row.flat), Some(grown), "{top:?}");
    let others = top.rows.iter().filter(|row| row.flat != 0 && row.name != holder);
    let others: Vec<_> = others.filter(|row| !row.name.starts_with('[')).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn labels_can_be_focused_on() {
    let _turn = turn();
    let tool = Tool::new();
    let profile = fetch("mutex");
    let blue = |sample: &&Stack| sample.labels.get("tenant").is_some_and(|value| value == "blue");
    let expected: i64 = profile.samples.iter().filter(blue).map(|sample| sample.values[1]).sum();
    assert!(expected > 0, "{:?}", profile.samples);
    let traces = tool.traces(&["-tagfocus=tenant=blue", &url("mutex")]);
    assert_eq!(traces.iter().map(|trace| trace.value).sum::<i64>(), expected);
    let tags = tool.report(&["-tags", &url("mutex")]);
    for word in ["tenant", "blue", "green", "lock", "stock"] {
        assert!(tags.contains(word), "{word} is not among the tags:\n{tags}");
    }
}

#[test]
fn long_waits_can_be_focused_on() {
    let _turn = turn();
    let tool = Tool::new();
    let profile = fetch("block?labels=wait");
    let bucket = |sample: &Stack| sample.numbers.get("wait").map_or(0, |(value, _)| *value);
    let longest = profile.samples.iter().map(bucket).max().expect("samples");
    assert!(longest > 0, "{:?}", profile.samples);
    let selected = profile.samples.iter().filter(|sample| bucket(sample) == longest);
    let expected: i64 = selected.map(|sample| sample.values[1]).sum();
    let focus = format!("-tagfocus=wait={longest}ns:");
    let traces = tool.traces(&[&focus, &url("block?labels=wait")]);
    assert_eq!(traces.iter().map(|trace| trace.value).sum::<i64>(), expected);
}

#[test]
fn a_difference_over_seconds_is_fetched() {
    let _turn = turn();
    let tool = Tool::new();
    for kind in kinds().into_iter().filter(|kind| kind.description().delta) {
        let first = || snapshot(kind).expect("it is available").totals()[0];
        let before = first();
        let index = format!("-sample_index={}", kind.values()[0].name);
        let top = while_selling(|| tool.top(&["-seconds=1", &index, &url(kind.name())]));
        let most = first() - before;
        assert!(top.header.iter().any(|line| line.starts_with("Duration: ")), "{kind}: {top:?}");
        if kind.description().read == Read::Cumulative {
            assert!((1..=most).contains(&top.total), "{kind}: {} of {most}", top.total);
        }
    }
}

/// Runs `body` while there is contention all the time.
fn while_selling<T>(body: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let shop = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                checkout();
            }
        });
        let result = body();
        is_done.store(true, Ordering::Relaxed);
        shop.join().expect("the shop closes");
        result
    })
}

#[test]
fn refusals_are_shown_to_the_user() {
    let _turn = turn();
    let tool = Tool::new();
    let said = tool.refusal(&["-top", &url("trade")]);
    assert!(said.contains("404 Not Found"), "{said}");
    assert!(said.contains("Unknown profile"), "{said}");
    let said = tool.refusal(&["-top", &url("heap")]);
    assert!(said.contains("501 Not Implemented"), "{said}");
    assert!(said.contains("ProfiledAllocator"), "{said}");
    let said = tool.refusal(&["-top", "-seconds=1", &url("carts")]);
    assert!(said.contains("\"seconds\" parameter is not supported for this profile"), "{said}");
    let said = tool.refusal(&["-top", "-seconds=1", &url("mutex?debug=1")]);
    assert!(said.contains("seconds and debug params are incompatible"), "{said}");
}

#[test]
fn the_logical_stack_is_made_of_spans() {
    let _turn = turn();
    let tool = Tool::new();
    let profile = fetch("mutex?stack=logical");
    let total = snapshot(Kind::Mutex).expect("it is available").totals()[1];
    assert_eq!(profile.totals()[1], total);
    let top = tool.top(&[&url("mutex?stack=logical")]);
    assert_eq!(top.total, total);
    let spans: Vec<_> = top.rows.iter().filter(|row| row.name.contains("checkout")).collect();
    assert_eq!(spans.len(), 1, "{top:?}");
    assert_eq!(spans[0].flat, profile.flat(&spans[0].name)[1]);
}
