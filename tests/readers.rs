//! Every kind of profile, whole, as a difference and by spans, in the hands of every reader that can be fetched: each
//! reads all of them and finds the sums and the names that are in them.

use std::alloc::System;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, mpsc};
use std::thread;

use profiler_core::parking_lot::Mutex;
use profiler_core::{
    Capture, Config, CustomProfile, Kind, ProfiledAllocator, Rates, Read, StackView, TextForm,
    default_view, profiled, snapshot, snapshot_with, span, wait,
};
use profiler_tests::cpu::{MILLISECOND, use_up};
use profiler_tests::parked::ThreadId;
use profiler_tests::pprof::{Profile, Tables};
use profiler_tests::tool::Tool;
use profiler_tests::{check, keep};
use tempfile::TempDir;

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

static STOCK: Mutex<u32> = Mutex::named("stock", 0);
static CARTS: CustomProfile = CustomProfile::new("carts");

/// A folder of profiles: one of each kind and form.
struct Profiles {
    folder: TempDir,
    list: Vec<(Kind, PathBuf, Profile)>,
}

static PROFILES: LazyLock<Profiles> = LazyLock::new(|| {
    // So little that some stacks are not kept.
    let config = Config::default().rates(Rates::ALL).memory(1 << 20);
    profiler_core::start(config).expect("the first start");
    let mut profiles =
        Profiles { folder: TempDir::new().expect("a temporary directory"), list: Vec::new() };
    let kinds = || Kind::ALL.iter().copied().chain([Kind::Custom("carts")]);
    let live = keep_going();
    many_stacks(10);
    let _cart = CARTS.enter();
    sell();
    let logical = default_view().stack(StackView::Logical);
    for kind in kinds() {
        if kind.description().read == Read::Interval {
            for (form, view) in [("native", default_view()), ("logical", logical)] {
                let capture = Capture::start_with(kind, 1000).expect("Linux has timers");
                thread::spawn(cook).join().expect("no panic");
                cook();
                profiles.keep(form, &capture.finish_with(view));
            }
        } else {
            let earlier = snapshot(kind).expect("it is available");
            sell();
            let _cart = CARTS.enter();
            let later = snapshot(kind).expect("it is available");
            profiles.keep("native", &later);
            if kind.description().delta {
                profiles.keep("difference", &later.since(&earlier));
            }
            profiles.keep("logical", &snapshot_with(kind, logical).expect("it is available"));
        }
    }
    drop(live);
    profiles
});

impl Profiles {
    fn keep(&mut self, form: &str, profile: &profiler_core::Profile) {
        let name = format!("{}-{form}.pb.gz", profile.kind());
        let mut body = Vec::new();
        profile.write_to(&mut body).expect("memory takes all");
        let path = self.folder.path().join(&name);
        fs::write(&path, &body).expect("a file");
        if profile.kind().description().read != Read::Interval {
            profile
                .write_text(fs::File::create(path.with_extension("txt")).expect("a file"))
                .expect("the disk takes it");
        }
        let decoded = check::valid(&body);
        assert!(form != "native" || !decoded.samples.is_empty(), "{name} is empty");
        self.list.push((profile.kind(), path, decoded));
    }

    fn of(&self, path: &str) -> &Profile {
        &self.list.iter().find(|(_, known, _)| known == Path::new(path)).expect("it is ours").2
    }
}

/// Has threads wait in different ways until it is dropped.
fn keep_going() -> Vec<mpsc::Sender<()>> {
    let (stop, stopped) = mpsc::channel::<()>();
    let (say, said) = mpsc::channel();
    profiler_core::thread::spawn(move || {
        let _span = span!("back office");
        say.send(ThreadId::current()).expect("somebody listens");
        wait("orders", || stopped.recv().expect_err("nobody sends"));
    });
    said.recv().expect("it is there").wait_until_parked();
    vec![stop]
}

/// Holds a lock that somebody waits for.
#[profiled]
#[inline(never)]
fn sell() {
    let mut stock = STOCK.lock();
    *stock += 1;
    let (say, said) = mpsc::channel();
    let waiter = profiler_core::thread::spawn(move || {
        say.send(ThreadId::current()).expect("the holder listens");
        *STOCK.lock() += 1;
    });
    said.recv().expect("the waiter is there").wait_until_parked();
    drop(stock);
    waiter.join().expect("no panic");
    keep!();
}

#[inline(never)]
fn cook() {
    use_up(black_box(100 * MILLISECOND));
    keep!();
}

/// Allocates on 2^`depth` different stacks.
#[inline(never)]
fn many_stacks(depth: u32) {
    if depth == 0 {
        drop(black_box(Box::new([0_u8; 24])));
        return;
    }
    many_stacks(depth - 1);
    keep!();
    many_stacks(depth - 1);
    keep!();
}

/// What a reader says of one file.
#[derive(Debug, Default)]
struct Said {
    /// With the names of the columns, if it tells them.
    totals: Vec<(i64, String)>,
    default: String,
    /// With what each has itself, if it tells that.
    names: BTreeMap<String, i64>,
}

/// Where `tests/run` has put the readers.
fn readers() -> PathBuf {
    let place = std::env::var_os("PROFILER_READERS");
    place.expect("PROFILER_READERS is not set: run tests/run once, it prints the path").into()
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("readers").join(name)
}

fn flameshow() -> Command {
    let mut command = Command::new(readers().join("venv/bin/python3"));
    command.arg(script("read_with_flameshow.py"));
    command
}

fn node(name: &str) -> Command {
    let mut command = Command::new(readers().join("node"));
    command.arg(script(name)).arg(readers().join("node_modules"));
    command
}

#[track_caller]
fn read(mut reader: Command, is_read: impl Fn(&Profile) -> bool) -> Vec<(&'static Profile, Said)> {
    let files = || PROFILES.list.iter().filter(|(_, _, profile)| is_read(profile));
    reader.args(files().map(|(_, path, _)| path));
    let output = reader.output().expect("the reader can be started: run tests/run once");
    let (text, error) = (String::from_utf8_lossy(&output.stdout), &output.stderr);
    assert!(output.status.success(), "{reader:?}: {}", String::from_utf8_lossy(error));
    let mut read: Vec<(&Profile, Said)> = Vec::new();
    for line in text.lines() {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        if what == "file" {
            read.push((PROFILES.of(rest), Said::default()));
            continue;
        }
        let said = &mut read.last_mut().expect("the file is said first").1;
        match what {
            "total" => {
                let (total, name) = rest.split_once(' ').unwrap_or((rest, ""));
                said.totals.push((total.parse().expect("a number"), name.to_owned()));
            }
            "default" => rest.clone_into(&mut said.default),
            "name" => {
                let (name, own) = match rest.rsplit_once(' ') {
                    Some((name, own)) if own.parse::<i64>().is_ok() => (name, own),
                    _ => (rest, "0"),
                };
                *said.names.entry(name.to_owned()).or_default() +=
                    own.parse::<i64>().expect("a number");
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!(read.len(), files().count());
    read
}

/// The sum of each column, and its name.
fn totals(profile: &Profile) -> Vec<(i64, String)> {
    let names = profile.sample_types.iter().map(|(name, _)| name.clone());
    profile.totals().into_iter().zip(names).collect()
}

/// The column that is shown first.
fn default_column(profile: &Profile) -> usize {
    let default = profile.tables.string(profile.tables.default_sample_type);
    let types = &profile.sample_types;
    types.iter().position(|(name, _)| name == default).unwrap_or(types.len() - 1)
}

/// All functions that are in a profile.
fn names(profile: &Profile) -> BTreeSet<String> {
    let tables = &profile.tables;
    tables.functions.iter().map(|function| tables.string(function.name).to_owned()).collect()
}

#[test]
fn every_name_in_brackets_that_can_be_made_is_among_them() {
    let names: BTreeSet<String> =
        PROFILES.list.iter().flat_map(|(_, _, profile)| names(profile)).collect();
    for name in ["[handoff]", "[no span]", "[overflow]", "[running]", "[semacquire]", "[unknown]"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    let files = |profile: &Tables| -> BTreeSet<String> {
        profile.mappings.iter().map(|mapping| profile.string(mapping.file).to_owned()).collect()
    };
    assert!(PROFILES.list.iter().any(|(_, _, p)| files(&p.tables).contains("[profiler]")));
}

#[test]
fn flameshow_reads_every_profile() {
    for (profile, said) in read(flameshow(), |_| true) {
        assert_eq!(said.totals, totals(profile));
        assert_eq!(said.names.into_keys().collect::<BTreeSet<_>>(), names(profile));
        if profile.tables.default_sample_type != 0 {
            assert_eq!(said.default, default_column(profile).to_string());
        }
    }
}

#[test]
fn pprof_format_reads_every_profile_and_writes_the_same() {
    for (profile, said) in read(node("pprof_format.mjs"), |_| true) {
        assert_eq!(said.totals, totals(profile));
        assert_eq!(said.default, profile.tables.string(profile.tables.default_sample_type));
        assert_eq!(said.names.into_keys().collect::<BTreeSet<_>>(), names(profile));
    }
    for (_, path, profile) in &PROFILES.list {
        let again = fs::read(format!("{}.again", path.display())).expect("it was written");
        assert_eq!(check::valid(&again).samples, profile.samples, "{}", path.display());
    }
}

#[test]
fn speedscope_reads_every_profile() {
    // Of a location it shows the function that the machine called. Of nobody it takes a difference in which something
    // has become less.
    let never_less = |profile: &Profile| {
        profile.samples.iter().all(|sample| sample.values[default_column(profile)] >= 0)
    };
    let read = read(node("speedscope.mjs"), never_less);
    // What is alive does: `heap`, `allocs`, `goroutine`.
    assert!(read.len() + 3 >= PROFILES.list.len());
    for (profile, said) in read {
        let column = default_column(profile);
        assert_eq!(said.totals, [(profile.totals()[column], String::new())]);
        let tables = &profile.tables;
        let outermost = |id: &u64| {
            let location = tables.locations.iter().find(|location| location.id == *id)?;
            let line = location.lines.last()?;
            let function = tables.functions.iter().find(|known| known.id == line.function)?;
            Some(tables.string(function.name).to_owned())
        };
        let mut expected = BTreeMap::new();
        for sample in tables.samples.iter().filter(|sample| sample.values[column] != 0) {
            let mut stack = sample.locations.iter().filter_map(outermost);
            *expected.entry(stack.next().expect("a name")).or_default() += sample.values[column];
            stack.for_each(|name| _ = expected.entry(name).or_default());
        }
        assert_eq!(said.names, expected);
    }
}

/// Asserts that the tool has read all and complains of nothing.
#[track_caller]
fn without_complaint(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints = ["no such file", "failed", "warning", "missing", "error", "unknown"];
    let complaint = complaints.iter().find(|word| said.to_lowercase().contains(**word));
    assert!(output.status.success() && complaint.is_none(), "{said}");
}

#[test]
fn go_tool_pprof_reads_every_profile() {
    let tool = Tool::new();
    for (kind, path, profile) in &PROFILES.list {
        let file = path.to_str().expect("text");
        let top = tool.top(&[file]);
        let column = kind.default_column();
        // Its total is of what became more and of what became less.
        let sum = profile.samples.iter().map(|sample| sample.values[column].abs()).sum::<i64>();
        assert_eq!(top.total, sum, "{file}");
        top.shows(profile, column);
        let raw = tool.run(&["-raw", file]);
        without_complaint(&raw);
        let raw = String::from_utf8_lossy(&raw.stdout).into_owned();
        let mappings = raw.split_once("\nMappings\n").expect("they stand at the end").1;
        assert!(!mappings.lines().next().expect("the program").contains("[profiler]"), "{file}");
        let traces = tool.traces(&[file]);
        let sum: i64 = traces.iter().map(|trace| trace.value).sum();
        assert_eq!(sum, profile.totals()[column], "{file}");

        // What it writes of twice the same is everything twice, in as many samples.
        let output = tool.home().join("again.pb.gz");
        let option = format!("-output={}", output.display());
        without_complaint(&tool.run(&["-proto", &option, file, file]));
        let again = Profile::decode(&fs::read(&output).expect("a file")).expect("a profile");
        let twice: Vec<i64> = profile.totals().iter().map(|total| total * 2).collect();
        assert_eq!(again.totals(), twice, "{file}");
        assert_eq!(again.samples.len(), profile.samples.len(), "{file}");
        let text = path.with_extension("txt");
        // A difference as text is for people.
        if text.exists() && !file.contains("difference") {
            let top = tool.top(&[text.to_str().expect("text")]);
            // The form has no word for the column that is shown first.
            let totals = profile.totals();
            let column = match kind.description().text {
                TextForm::Count => 0,
                _ => totals.len() - 1,
            };
            assert_eq!(top.total, totals[column], "{}", text.display());
        }
    }
}

/// The fault that this test is for: readers did die of it.
#[test]
fn a_location_without_a_mapping_is_what_flameshow_dies_of() {
    let folder = TempDir::new().expect("a temporary directory");
    let path = folder.path().join("fault.pb");
    // A sample at location 1, which lies nowhere: `{type: 1, unit: 1}`, `{1: [7]}`, `{id: 1}`, "", "n".
    let message =
        b"\x0a\x04\x08\x01\x10\x01\x12\x04\x08\x01\x10\x07\x22\x02\x08\x01\x32\x00\x32\x01n";
    let sound = b"\x1a\x02\x08\x01\x22\x04\x08\x02\x10\x01\x5a\x00";
    let run = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("a file");
        flameshow().arg(&path).output().expect("run tests/run once")
    };
    let output = run(message);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("KeyError: 0"), "{said}");
    // The same with a mapping, as a control of the control.
    let mut with_mapping = b"\x0a\x04\x08\x01\x10\x01\x12\x04\x08\x02\x10\x07".to_vec();
    with_mapping.extend(sound);
    with_mapping.extend(b"\x32\x00\x32\x01n");
    let output = run(&with_mapping);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
