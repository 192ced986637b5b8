//! A library is closed and another one is loaded at its addresses: what the first one did never stands under
//! the second one's functions, nor the other way round.

#![allow(unsafe_code, reason = "libraries are loaded by the loader's functions")]

use std::alloc::System;
use std::ffi::{CString, c_char, c_void};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex as Plain;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use profiler_core::sync::Mutex;
use profiler_core::{
    Capture, Config, CustomProfile, Entry, Kind, Profile, ProfiledAllocator, Rates, snapshot,
    symbol, wait, with_labels,
};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

static STOCK: Mutex<u64> = Mutex::new(0);
static CONNECTIONS: CustomProfile = CustomProfile::new("connections");
static KEPT: Plain<Vec<(Vec<u8>, Entry)>> = Plain::new(Vec::new());

/// Profiles of totals.
const TOTALS: [Kind; 6] = [
    Kind::Heap,
    Kind::Allocs,
    Kind::Block,
    Kind::Mutex,
    Kind::Threadcreate,
    Kind::Custom("connections"),
];

/// What each library calls: it leaves something in every profile.
extern "C" fn work() {
    let block = black_box(vec![1_u8; 1 << 16]);
    KEPT.lock().expect("no panic").push((block, CONNECTIONS.enter()));
    wait("reply", || thread::sleep(Duration::from_millis(1)));
    let mut stock = STOCK.lock().expect("no panic");
    let waiter = profiler_core::thread::spawn(|| *STOCK.lock().expect("no panic") += 1);
    // Until the other one waits: then this one is charged.
    thread::sleep(Duration::from_millis(20));
    *stock += 1;
    drop(stock);
    waiter.join().expect("no panic");
}

/// A library with functions `NAME_calls` and `NAME_burns`. Names of one length make libraries of one layout.
fn build(folder: &Path, name: &str) -> PathBuf {
    let source = folder.join(format!("{name}.c"));
    let library = folder.join(format!("lib{name}.so"));
    let text = format!(
        "void {name}_calls(void (*back)(void)) {{ back(); __asm__ volatile(\"\"); }}
        unsigned long {name}_burns(unsigned long rounds) {{
            volatile unsigned long sum = 0;
            for (unsigned long i = 0; i < rounds; i++) sum += i;
            return sum;
        }}"
    );
    std::fs::write(&source, text).expect("the folder can be written");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-fno-omit-frame-pointer", "-Wl,--build-id", "-o"])
        .args([&library, &source])
        .status();
    assert!(built.is_ok_and(|built| built.success()), "{name} could not be built");
    library
}

/// A library that is loaded.
struct Library {
    handle: *mut c_void,
    name: &'static str,
}

impl Library {
    fn open(path: &Path, name: &'static str) -> Self {
        let path = CString::new(path.to_str().expect("text")).expect("no zero in it");
        // SAFETY: the library runs nothing of its own when it is loaded.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null(), "{path:?} cannot be loaded");
        Self { handle, name }
    }

    fn function(&self, end: &str) -> *mut c_void {
        let name = CString::new(format!("{}{end}", self.name)).expect("no zero in it");
        let name: *const c_char = name.as_ptr();
        // SAFETY: the library is open, and the name is a text.
        let function = unsafe { libc::dlsym(self.handle, name) };
        assert!(!function.is_null());
        function
    }

    /// Has it call `work`, under a label that says which library it was.
    fn works(&self) {
        // SAFETY: a function of this type.
        let calls: extern "C" fn(extern "C" fn()) =
            unsafe { std::mem::transmute(self.function("_calls")) };
        with_labels([("library", self.name)], || calls(work));
    }

    /// Has it use CPU time, on a worker.
    fn burns(&self, worker: &Worker) {
        // SAFETY: a function of this type.
        let burns: extern "C" fn(u64) -> u64 =
            unsafe { std::mem::transmute(self.function("_burns")) };
        let name = self.name;
        worker.does(move || {
            with_labels([("library", name)], || black_box(burns(60_000_000)));
        });
    }

    fn close(self) {
        // SAFETY: it was opened, and nothing of it is in use.
        assert_eq!(unsafe { libc::dlclose(self.handle) }, 0);
        assert!(!maps().contains(&format!("lib{}.so", self.name)), "it is still loaded");
    }
}

/// A thread that is there before a capture begins, so that none of its time is missed; wall-clock time leaves out the
/// one that captures.
struct Worker {
    jobs: Sender<Box<dyn FnOnce() + Send>>,
    done: Receiver<()>,
}

impl Worker {
    fn new() -> Self {
        let (jobs, to_do) = channel::<Box<dyn FnOnce() + Send>>();
        let (is_done, done) = channel();
        thread::spawn(move || {
            for job in to_do {
                job();
                is_done.send(()).expect("the test waits");
            }
        });
        Self { jobs, done }
    }

    fn does(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.send(Box::new(job)).expect("it lives");
        self.done.recv().expect("no panic");
    }
}

fn maps() -> String {
    std::fs::read_to_string("/proc/self/maps").expect("Linux has it")
}

fn read(kind: Kind) -> Profile {
    snapshot(kind).expect("available")
}

/// How a library's samples look.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    /// Under its own functions.
    Named,
    /// Under its own functions or none: never under another's.
    NotMistaken,
}
use Shown::{Named, NotMistaken};

/// Checks every sample of a library; there is one at least.
#[track_caller]
fn check(profile: &Profile, library: &str, shown: Shown, others: &[&str]) {
    let samples = count(profile, library, shown, others);
    assert!(samples > 0, "{}: nothing of {library}", profile.kind().name());
}

/// Checks every sample of a library, and returns how many there are.
#[track_caller]
fn count(profile: &Profile, library: &str, shown: Shown, others: &[&str]) -> usize {
    let what = profile.kind().name();
    let mut samples = 0;
    for sample in profile.samples() {
        let is_its = |label: &(&str, profiler_core::LabelValue<'_>)| {
            label.0 == "library" && format!("{:?}", label.1).contains(&format!("\"{library}\""))
        };
        if !sample.labels().any(|label| is_its(&label)) {
            continue;
        }
        samples += 1;
        let names: Vec<_> = sample.frames().filter_map(|frame| frame.function).collect();
        for other in others {
            let is_mistaken = names.iter().any(|name| name.starts_with(&format!("{other}_")));
            assert!(!is_mistaken, "{what}: a sample of {library} under {other}'s: {names:?}");
        }
        for frame in sample.frames() {
            let symbol = symbol(frame.address).unwrap_or_default();
            let is_mistaken = others.iter().any(|other| symbol.starts_with(&format!("{other}_")));
            assert!(!is_mistaken, "{what}: {:#x} of {library} is called {symbol}", frame.address);
        }
        if shown == Named {
            let is_named = names.iter().any(|name| name.starts_with(&format!("{library}_")));
            assert!(is_named, "{what}: a sample of {library} has no name of it: {names:?}");
        }
    }
    samples
}

#[track_caller]
fn check_all(profiles: &[Profile], library: &str, shown: Shown, others: &[&str]) {
    for profile in profiles {
        check(profile, library, shown, others);
    }
}

fn all() -> Vec<Profile> {
    TOTALS.into_iter().map(read).collect()
}

/// Closes one and opens the other at its addresses: where it is loaded elsewhere, that place is taken, until it is not.
fn swap(closed: Library, path: &Path, name: &'static str) -> Library {
    let before = closed.function("_calls");
    closed.close();
    for _ in 0..100 {
        let opened = Library::open(path, name);
        if opened.function("_calls") == before {
            return opened;
        }
        // Seen, so that it is no unknown one that came and went.
        look();
        let (start, end) = place(name);
        opened.close();
        // SAFETY: nothing is there, or the system refuses.
        let taken = unsafe {
            libc::mmap(
                std::ptr::without_provenance_mut(start),
                end - start,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        assert_ne!(taken, libc::MAP_FAILED, "the place was free");
    }
    panic!("{name} is never loaded at the addresses of the first");
}

/// Where a library is in memory.
fn place(name: &str) -> (usize, usize) {
    let maps = maps();
    let lines = maps.lines().filter(|line| line.ends_with(&format!("lib{name}.so")));
    let ranges = lines.filter_map(|line| line.split_once(' ')?.0.split_once('-'));
    let number = |text| usize::from_str_radix(text, 16).expect("hexadecimal");
    let (starts, ends): (Vec<_>, Vec<_>) = ranges.map(|(a, b)| (number(a), number(b))).unzip();
    (starts[0], ends[ends.len() - 1])
}

/// Makes the profiler look at what is loaded; no name of a library is read.
fn look() {
    black_box(read(Kind::Spans));
}

/// The first one's names are read while it is loaded, if `first`, and in any case when it is gone.
fn names_are_right(folder: &Path, [one, other]: [&'static str; 2], first: bool) {
    let paths = [one, other].map(|name| build(folder, name));
    let worker = Worker::new();
    worker.does(|| ());
    let library = Library::open(&paths[0], one);
    let captures = [Kind::Profile, Kind::Wall]
        .map(|kind| Capture::start_with(kind, 1000).expect("Linux has timers"));
    library.works();
    library.burns(&worker);
    look();
    let before = first.then(all);
    if let Some(before) = &before {
        check_all(before, one, Named, &[other]);
    }
    let library = swap(library, &paths[1], other);
    library.works();
    library.burns(&worker);
    let after = all();
    check_all(&after, one, Named, &[other]);
    check_all(&after, other, Named, &[one]);
    let [cpu, wall] = captures.map(Capture::finish);
    check(&cpu, one, Named, &[other]);
    check(&cpu, other, Named, &[one]);
    // On a busy machine it may have been elsewhere at every tick.
    count(&wall, one, NotMistaken, &[other]);
    count(&wall, other, NotMistaken, &[one]);
    for profile in &after {
        are_apart_in_text(profile, [one, other]);
    }
    for (before, after) in before.iter().flatten().zip(&after) {
        let difference = after.since(before);
        let is_of_one = |sample: profiler_core::Sample<'_>| {
            sample.labels().any(|(key, value)| {
                key == "library" && format!("{value:?}").contains(&format!("\"{one}\""))
            })
        };
        assert!(!difference.samples().any(is_of_one), "nothing has come of {one} since");
        check(&difference, other, Named, &[one]);
    }
    library.close();
    check_all(&all(), other, Named, &[one]);
}

/// Both stand in the text, none with a name of the other in its stack.
fn are_apart_in_text(profile: &Profile, names: [&str; 2]) {
    let mut text = Vec::new();
    profile.write_text(&mut text).expect("a vector grows");
    let text = String::from_utf8(text).expect("text");
    for name in names {
        assert!(text.contains(&format!("{name}_calls")), "{}: {name}", profile.kind().name());
    }
    for stack in text.split("\n\n") {
        let has = |name: &&str| stack.contains(&format!("{name}_calls"));
        assert!(!names.iter().all(has), "{stack}");
    }
}

/// The file is gone when the first reading comes: no name can be had, and no other's is taken.
fn a_library_without_a_file_has_no_names(folder: &Path, [one, other]: [&'static str; 2]) {
    let paths = [one, other].map(|name| build(folder, name));
    let library = Library::open(&paths[0], one);
    library.works();
    look();
    std::fs::remove_file(&paths[0]).expect("it is there");
    std::fs::copy(&paths[1], &paths[0]).expect("the folder can be written");
    let library = swap(library, &paths[1], other);
    library.works();
    let after = all();
    check_all(&after, one, NotMistaken, &[other]);
    check_all(&after, other, Named, &[one]);
    library.close();
}

/// Nobody has looked at what is loaded while the first one was there.
fn nobody_has_seen_it(folder: &Path, [one, other]: [&'static str; 2]) {
    let paths = [one, other].map(|name| build(folder, name));
    let library = Library::open(&paths[0], one);
    // SAFETY: a function of this type.
    let calls: extern "C" fn(extern "C" fn()) =
        unsafe { std::mem::transmute(library.function("_calls")) };
    with_labels([("library", one)], || calls(brief_work));
    let library = swap(library, &paths[1], other);
    // SAFETY: as above.
    let calls: extern "C" fn(extern "C" fn()) =
        unsafe { std::mem::transmute(library.function("_calls")) };
    with_labels([("library", other)], || calls(brief_work));
    let after = read(Kind::Heap);
    check(&after, one, NotMistaken, &[other]);
    check(&after, other, NotMistaken, &[one]);
    library.close();
}

/// Takes no time.
extern "C" fn brief_work() {
    let block = black_box(vec![1_u8; 1 << 16]);
    KEPT.lock().expect("no panic").push((block, CONNECTIONS.enter()));
}

#[test]
fn what_a_closed_library_did_never_stands_under_anothers_name() {
    let config = Config::default().rates(Rates::ALL.heap_bytes(1));
    profiler_core::start(config).expect("the first start");
    let folder = TempDir::new().expect("a temporary folder");
    let folder = folder.path();
    names_are_right(folder, ["alpha", "gamma"], true);
    names_are_right(folder, ["delta", "kappa"], false);
    a_library_without_a_file_has_no_names(folder, ["sigma", "theta"]);
    for names in [["aa", "ab"], ["ba", "bb"], ["ca", "cb"], ["da", "db"]] {
        nobody_has_seen_it(folder, names);
    }
    // To the end all of it is there, under its own names.
    let end = all();
    for (one, other) in [("alpha", "gamma"), ("delta", "kappa")] {
        check_all(&end, one, Named, &[other, "theta", "sigma", "ab"]);
        check_all(&end, other, Named, &[one, "theta", "sigma", "ab"]);
    }
}
