//! What it is all for, from end to end: functions with `#[profiled]`, or spans of `tracing` through
//! the layer, are seen in the profiles of locks and threads, fetched as anybody would.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use profiler_core::parking_lot::{Mutex, RwLock};
use profiler_core::{Config, Rates, profiled, sync};
use profiler_tests::check;
use profiler_tests::parked::ThreadId;
use profiler_tests::pprof::{Profile, Stack};
use profiler_tests::server::Request;
use tracing::{info_span, instrument};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let subscriber = Registry::default().with(profiler_core::layer());
    tracing::subscriber::set_global_default(subscriber).expect("the first subscriber");
    let endpoint = profiler_http::serve("127.0.0.1:0").expect("a free port");
    endpoint.local_addr().expect("the endpoint is not switched off")
});

/// One thread holds a lock while another waits for it.
struct Scene {
    lock: &'static str,
    /// How Go calls the wait.
    reason: &'static str,
    /// Holds the lock while the argument runs.
    hold: fn(&dyn Fn()),
    wait: fn(),
    /// The functions that take the lock and wait for it, and the path of each, root first.
    holder: (&'static str, [&'static str; 2]),
    waiter: (&'static str, [&'static str; 2]),
    /// The line in which the holder takes the lock.
    line: &'static AtomicU32,
}

/// Remembers the line in which a lock is taken.
macro_rules! noting {
    ($line:ident, $lock:expr) => {{
        $line.store(line!(), Ordering::Relaxed);
        $lock
    }};
}

mod functions {
    use super::*;

    static STOCK: Mutex<()> = Mutex::named("stock", ());
    pub(crate) static LINE: AtomicU32 = AtomicU32::new(0);

    #[profiled]
    pub(crate) fn nightly(body: &dyn Fn()) {
        reprice(body);
    }

    #[profiled]
    #[inline(never)]
    fn reprice(body: &dyn Fn()) {
        let _stock = noting!(LINE, STOCK.lock());
        body();
    }

    #[profiled]
    pub(crate) fn serve() {
        checkout();
    }

    #[profiled]
    #[inline(never)]
    fn checkout() {
        drop(STOCK.lock());
    }
}

mod spans {
    use super::*;

    static LEDGER: sync::Mutex<()> = sync::Mutex::named("ledger", ());
    pub(crate) static LINE: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn close_month(body: &dyn Fn()) {
        let _span = info_span!("month").entered();
        info_span!("closing", pages = 3).in_scope(|| add_up(body));
    }

    #[inline(never)]
    fn add_up(body: &dyn Fn()) {
        let _ledger = noting!(LINE, LEDGER.lock()).expect("no panic");
        body();
    }

    pub(crate) fn serve() {
        let _span = info_span!("request").entered();
        let _payment = info_span!("payment").entered();
        book();
    }

    #[inline(never)]
    fn book() {
        drop(LEDGER.lock().expect("no panic"));
    }
}

mod instrumented {
    use super::*;

    static PRICES: RwLock<()> = RwLock::named("prices", ());
    pub(crate) static LINE: AtomicU32 = AtomicU32::new(0);

    #[instrument(skip_all)]
    pub(crate) fn refresh(body: &dyn Fn()) {
        download(body);
    }

    #[instrument(skip_all)]
    #[inline(never)]
    fn download(body: &dyn Fn()) {
        let _prices = noting!(LINE, PRICES.write());
        body();
    }

    #[profiled]
    pub(crate) fn serve() {
        quote();
    }

    #[instrument]
    #[inline(never)]
    fn quote() {
        drop(PRICES.read());
    }
}

impl Scene {
    /// Plays the scene on two threads; both profiles are looked at afterwards, and the threads
    /// while one waits.
    fn play(&'static self) {
        let address = *ADDRESS;
        thread::scope(|scope| {
            let holder = thread::Builder::new().name(format!("hold {}", self.lock));
            let holder = holder.spawn_scoped(scope, || {
                (self.hold)(&|| {
                    let (say, said) = std::sync::mpsc::channel();
                    let waiter = thread::Builder::new().name(format!("wait {}", self.lock));
                    let wait = move || {
                        say.send(ThreadId::current()).expect("the holder listens");
                        (self.wait)();
                    };
                    waiter.spawn_scoped(scope, wait).expect("a thread");
                    said.recv().expect("the waiter is there").wait_until_parked();
                    self.check_threads(address);
                    self.check_dump(address);
                    thread::sleep(Duration::from_millis(10));
                });
            });
            holder.expect("a thread").join().expect("the profiles are right");
        });
        self.check_contention(address, "mutex", &self.holder);
        self.check_contention(address, "block", &self.waiter);
    }

    /// Returns the one sample of the lock whose stack is known.
    #[track_caller]
    fn sample(&self, address: SocketAddr, path: &str) -> Stack {
        let profile = fetch(address, path);
        let is_of_lock = |sample: &&Stack| {
            sample.labels.get("lock").is_some_and(|lock| lock == self.lock)
                && !sample.names[0].starts_with('[')
        };
        let samples: Vec<_> = profile.samples.iter().filter(is_of_lock).collect();
        let [sample] = samples[..] else { panic!("{path}: {samples:#?}") };
        sample.clone()
    }

    /// Checks the lock's sample, by spans and by functions.
    #[track_caller]
    fn check_sample(
        &self,
        address: SocketAddr,
        kind: &str,
        (function, path): &(&str, [&str; 2]),
    ) -> [Stack; 2] {
        let logical = self.sample(address, &format!("{kind}?stack=logical"));
        assert_eq!(logical.names, [path[1], path[0]], "{kind}");
        assert_eq!(logical.values[0], 1, "{kind}");

        let native = self.sample(address, &format!("{kind}?labels=span"));
        assert_eq!(native.labels.get("span"), Some(&path.join(" > ")), "{kind}");
        assert_eq!(native.names[0], *function, "{:#?}", native.names);
        assert_eq!(native.values[0], 1, "{kind}");
        [logical, native]
    }

    #[track_caller]
    fn check_contention(&self, address: SocketAddr, kind: &str, who: &(&str, [&str; 2])) {
        let [logical, native] = self.check_sample(address, kind, who);
        assert!(native.values[1] > 0, "{kind}");
        assert_eq!(logical.values, native.values, "{kind}");
    }

    /// Checks what `goroutine` says while one thread waits.
    #[track_caller]
    fn check_threads(&self, address: SocketAddr) {
        self.check_sample(address, "goroutine", &self.waiter);
        // The holder looks on from its spans.
        let path = self.holder.1;
        let logical = fetch(address, "goroutine?stack=logical");
        assert!(
            logical.samples.iter().any(|sample| sample.names == [path[1], path[0]]),
            "{:#?}",
            logical.samples
        );
        let native = fetch(address, "goroutine?labels=span,thread");
        let name = format!("hold {}", self.lock);
        let holder =
            native.samples.iter().find(|sample| sample.labels.get("thread") == Some(&name));
        let holder = holder.unwrap_or_else(|| panic!("{:#?}", native.samples));
        assert_eq!(holder.labels.get("span"), Some(&path.join(" > ")));
    }

    /// Checks what `goroutine?debug=2` says: what the waiter waits for and who holds it.
    #[track_caller]
    fn check_dump(&self, address: SocketAddr) {
        let response = Request::get("/debug/pprof/goroutine?debug=2").send(address);
        let text = response.text();
        let thread = |name: &str| {
            let label = format!("thread: \"{name} {}\"", self.lock);
            let found: Vec<_> =
                text.split("\n\n").filter(|thread| thread.contains(&label)).collect();
            let [thread] = found[..] else { panic!("{label} is there {} times", found.len()) };
            thread.split_once('\n').unwrap_or((thread, ""))
        };
        let (waiter, frames) = thread("wait");
        let (holder, _) = thread("hold");
        // The holder fetches the dump itself.
        for (line, states) in [(waiter, &[self.reason][..]), (holder, &["IO wait", "running"])] {
            let stands = states.iter().any(|state| line.contains(&format!(" [{state}] {{")));
            assert!(stands, "{line}");
        }
        let number = holder.split(' ').nth(1).expect("a number");
        let at = format!("{}:{}:", file!(), self.line.load(Ordering::Relaxed));
        let held_by = format!("held_by: \"thread {number} hold {}, acquired at {at}", self.lock);
        assert!(waiter.contains(&held_by), "{waiter}\nshould tell {held_by}");
        assert!(waiter.contains(&format!("lock: {}, ", self.lock)), "{waiter}");
        for (line, (_, path)) in [(waiter, self.waiter), (holder, self.holder)] {
            let span = format!("span: \"{}\"", path.join(" > "));
            assert!(line.contains(&span), "{line}");
        }
        assert!(frames.starts_with(&format!("{}(...)\n", self.waiter.0)), "{frames}");
        assert!(!frames.contains("thread_start"), "{frames}");
    }
}

fn fetch(address: SocketAddr, path: &str) -> Profile {
    let response = Request::get(&format!("/debug/pprof/{path}")).send(address);
    assert_eq!(response.status, 200, "{path}: {}", response.text());
    check::valid(&response.body)
}

#[test]
fn profiled_functions_are_seen() {
    static SCENE: Scene = Scene {
        lock: "stock",
        reason: "sync.Mutex.Lock",
        hold: functions::nightly,
        wait: functions::serve,
        holder: (
            "main_sentence::functions::reprice",
            ["main_sentence::functions::nightly", "main_sentence::functions::reprice"],
        ),
        waiter: (
            "main_sentence::functions::checkout",
            ["main_sentence::functions::serve", "main_sentence::functions::checkout"],
        ),
        line: &functions::LINE,
    };
    SCENE.play();
}

#[test]
fn plain_spans_of_tracing_are_seen() {
    static SCENE: Scene = Scene {
        lock: "ledger",
        reason: "sync.Mutex.Lock",
        hold: spans::close_month,
        wait: spans::serve,
        holder: (
            "main_sentence::spans::add_up",
            ["main_sentence::spans::month", "main_sentence::spans::closing"],
        ),
        waiter: (
            "main_sentence::spans::book",
            ["main_sentence::spans::request", "main_sentence::spans::payment"],
        ),
        line: &spans::LINE,
    };
    SCENE.play();
}

#[test]
fn both_are_seen_on_one_path() {
    static SCENE: Scene = Scene {
        lock: "prices",
        reason: "sync.RWMutex.RLock",
        hold: instrumented::refresh,
        wait: instrumented::serve,
        holder: (
            "main_sentence::instrumented::download",
            ["main_sentence::instrumented::refresh", "main_sentence::instrumented::download"],
        ),
        waiter: (
            "main_sentence::instrumented::quote",
            ["main_sentence::instrumented::serve", "main_sentence::instrumented::quote"],
        ),
        line: &instrumented::LINE,
    };
    SCENE.play();
}
