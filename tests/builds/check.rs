//! What of the output of a program is not as its row says.

use std::collections::BTreeSet;
use std::fs;

use profiler_tests::pprof::{Location, Profile, Stack};

use crate::output::{KINDS, Output};
use crate::table::{Build, Names, Stacks};

/// Of three threads at 250 ms each; one that C has created may be seen a little late.
const WORK: i64 = 600_000_000;
/// What the program holds when the profile of its heap is read.
const HELD: i64 = 1_000_000;

const SOURCE: &str = include_str!("subject/work.rs");

/// Returns a sentence for everything that is not as expected.
pub(crate) fn violations(build: &Build, output: &Output) -> Vec<String> {
    let mut found = Found(Vec::new());
    let views = KINDS.map(|kind| View::new(kind, output));
    let [cpu, threads, mutex, block, heap] = &views;
    program(build, output, &mut found);
    for view in &views {
        view.names(build, &mut found);
        view.lines(build, &mut found);
        view.inlined(build, &mut found);
        view.roots(build, &mut found);
    }
    work(build, cpu, &mut found);
    system(build, cpu, &mut found);
    names_of(threads, &mut found);
    locks(build, mutex, block, &mut found);
    memory(build, heap, &mut found);
    let child = &output.facts["child"];
    found.unless(child == "0", || {
        format!("a child of fork did not sample itself, but ended {child}")
    });
    found.0
}

struct Found(Vec<String>);

impl Found {
    fn unless(&mut self, holds: bool, violation: impl FnOnce() -> String) {
        if !holds {
            self.0.push(violation());
        }
    }
}

/// A profile, and the process that it is of.
struct View<'a> {
    kind: &'static str,
    profile: &'a Profile,
    output: &'a Output,
}

impl<'a> View<'a> {
    fn new(kind: &'static str, output: &'a Output) -> Self {
        Self { kind, profile: &output.profiles[kind], output }
    }

    fn text(&self, index: i64) -> &'a str {
        self.profile.tables.string(index)
    }

    /// The last part of the name of the file that a location lies in.
    fn file(&self, location: &Location) -> &'a str {
        let mappings = &self.profile.tables.mappings;
        let mapping = mappings.iter().find(|mapping| mapping.id == location.mapping);
        let file = mapping.map_or("", |mapping| self.text(mapping.file));
        file.rsplit('/').next().unwrap_or_default()
    }

    /// The lines of locations in the program: function, source file, number.
    fn lines_of_program(&self) -> impl Iterator<Item = (&'a str, &'a str, i64)> {
        let tables = &self.profile.tables;
        let inside = tables.locations.iter().filter(|location| self.file(location) == "subject");
        inside.flat_map(|location| &location.lines).filter_map(|line| {
            let function = tables.functions.iter().find(|known| known.id == line.function)?;
            Some((self.text(function.name), self.text(function.file), line.line))
        })
    }

    /// The outermost location of a stack and its value, and the stack.
    fn stacks(&self) -> impl Iterator<Item = (&'a Location, i64, &'a Stack)> {
        let column = usize::from(matches!(self.kind, "profile" | "mutex" | "block"));
        let both = self.profile.tables.samples.iter().zip(&self.profile.samples);
        both.filter_map(move |(sample, stack)| {
            let last = sample.locations.last()?;
            let last = self.profile.tables.locations.iter().find(|place| place.id == *last)?;
            // What is no code is no stack of the machine, and nobody knows whose that of no file is.
            let is_known = !matches!(self.file(last), "[profiler]" | "anon");
            is_known.then(|| (last, stack.values[column], stack))
        })
    }

    fn names(&self, build: &Build, found: &mut Found) {
        let named = self.lines_of_program().next();
        let unexpected = named.filter(|_| build.names == Names::None);
        found.unless(unexpected.is_none(), || {
            format!("{}: names nobody expects: {unexpected:?}", self.kind)
        });
    }

    fn lines(&self, build: &Build, found: &mut Found) {
        for (function, file, number) in self.lines_of_program() {
            let told = number != 0 && file.ends_with("/work.rs");
            if !build.lines {
                found.unless(number == 0, || format!("lines nobody expects: {function}"));
            } else if function.starts_with("subject::work::") {
                found.unless(told, || format!("no line of {function}"));
            }
            if told && function == "subject::work::leaf" {
                let text = SOURCE.lines().nth(usize::try_from(number - 1).expect("positive"));
                found.unless(text.is_some_and(|text| text.contains("use_up(nano")), || {
                    format!("{}: the line {number} of leaf is {text:?}", self.kind)
                });
            }
        }
        let told = self.lines_of_program().any(|(_, _, number)| number != 0);
        found.unless(told || !build.lines, || format!("{}: no line of anything", self.kind));
    }

    fn inlined(&self, build: &Build, found: &mut Found) {
        let several = self.profile.tables.locations.iter().any(|place| place.lines.len() > 1);
        if !build.inlined {
            found.unless(!several, || format!("{}: inlined calls nobody expects", self.kind));
        }
    }

    fn roots(&self, build: &Build, found: &mut Found) {
        let ends = ["main", "rust", "c"].map(|thread| {
            let last = self.output.facts[thread].rsplit(' ').next().expect("an address");
            u64::from_str_radix(last, 16).expect("the address is a number")
        });
        let (mut all, mut whole, mut cut) = (0, 0, BTreeSet::new());
        for (last, value, stack) in self.stacks() {
            // The system's functions are not shown where they have names.
            let outermost = stack.names.last().expect("a stack with a location");
            let reaches = ends.contains(&(last.address + 1))
                || outermost == "main"
                || outermost == "subject::facts::of_c"
                // What starts threads in libc has no name; without tables libgcc does not get there.
                || stack.names.iter().nth_back(2).is_some_and(|name| name == "subject::facts::of_c")
                // In place of `main`, which jumps to it where size counts.
                || outermost == "std::rt::lang_start"
                || outermost.ends_with("::thread_start");
            all += value;
            if reaches {
                whole += value;
            } else {
                cut.insert(&stack.names);
            }
        }
        let share = whole as f64 / all as f64;
        let expected = match build.stacks {
            Stacks::Whole => share >= 0.99,
            // Functions that may unwind all the same have tables, and some wait or allocate.
            Stacks::Cut => share < 0.5 || self.kind != "profile",
        };
        found.unless(expected, || {
            format!("{}: {whole} of {all} reach the root; not {cut:#?}", self.kind)
        });
    }
}

/// The file is what was asked for, and the profile tells its build id.
fn program(build: &Build, output: &Output, found: &mut Found) {
    const FIXED: u8 = 2;
    let file = fs::read(&output.program).expect("it was built");
    found.unless((file[16] == FIXED) == build.is_fixed(), || {
        "the program's position is not as asked for".into()
    });
    let tables = &output.profiles["profile"].tables;
    let (name, id) = (tables.mappings[0].file, tables.mappings[0].build_id);
    found.unless(tables.string(name) == output.program.to_str().expect("text"), || {
        format!("the first mapping is of {}", tables.string(name))
    });
    let expected = build_id(&file);
    found.unless(expected.is_some() == build.is_identified(), || "a build id or none".into());
    found.unless(expected.as_deref().unwrap_or_default() == tables.string(id), || {
        format!("the build id is {}, not {expected:?}", tables.string(id))
    });
}

/// Finds the note of the linker: lengths of name and id, the kind 3, and the name.
fn build_id(file: &[u8]) -> Option<String> {
    const HEAD: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let at = file.windows(HEAD.len()).position(|bytes| bytes == HEAD)? + HEAD.len();
    Some(file[at..at + 20].iter().map(|byte| format!("{byte:02x}")).collect())
}

/// CPU time is where it was used, by name, with what was inlined where that is known.
fn work(build: &Build, cpu: &View<'_>, found: &mut Found) {
    let path = ["use_up", "leaf", "inlined", "middle", "outer", "run"];
    let path: Vec<_> =
        path.into_iter().filter(|name| build.inlined || *name != "inlined").collect();
    let last = |name: &str| name.rsplit("::").next().unwrap_or_default().to_owned();
    let mut sum = 0;
    for sample in &cpu.profile.samples {
        let names: Vec<_> = sample.names.iter().map(|name| last(name)).collect();
        for (name, caller) in names.iter().zip(names.iter().skip(1)) {
            let step = path.windows(2).find(|step| step[0] == name);
            // A short stack is one thing, a wrong one another.
            found.unless(step.is_none_or(|step| step[1] == caller), || {
                format!("no inlined call, or a wrong one: {caller} calls {name}")
            });
        }
        if names.windows(path.len()).any(|names| names == path) {
            sum += sample.values[1];
        }
    }
    if build.names == Names::None || build.stacks == Stacks::Cut {
        return;
    }
    found.unless(sum >= WORK, || format!("no stack of leaf: {sum} ns in {path:?}"));
    let sum = cpu.profile.cumulative("subject::work::leaf")[1];
    found.unless(sum >= WORK, || format!("no full name of leaf: {sum} ns"));
}

/// The thread that waits is known by its name.
fn names_of(threads: &View<'_>, found: &mut Found) {
    let waits = |sample: &&Stack| sample.labels.get("lock").is_some_and(|lock| lock == "stock");
    let waiter = threads.profile.samples.iter().find(waits);
    let name = waiter.and_then(|sample| sample.labels.get("thread"));
    found.unless(name.is_some_and(|name| name == "tea kettle"), || {
        format!("the thread that waits is called {name:?}")
    });
}

/// Names of libc for what `allocate` calls: which of them a table tells first is chance.
const ALLOCATOR: &[&str] =
    &["malloc", "__malloc", "__libc_malloc", "free", "cfree", "__free", "__libc_free"];

/// Where libc and what the kernel maps are, and that samples in them are found.
fn system(build: &Build, cpu: &View<'_>, found: &mut Found) {
    let tables = &cpu.profile.tables;
    let is_allocator = |location: &&Location| {
        let functions = location.lines.iter().filter_map(|line| {
            tables.functions.iter().find(|function| function.id == line.function)
        });
        let mut names = functions.map(|function| tables.string(function.name));
        names.any(|name| ALLOCATOR.contains(&name))
    };
    let of_libc = tables.locations.iter().filter(is_allocator);
    let files: BTreeSet<_> = of_libc.map(|location| cpu.file(location)).collect();
    let expected = if build.is_static() { "subject" } else { "libc.so.6" };
    found.unless(files == BTreeSet::from([expected]), || {
        format!("libc lies in {files:?}, not in {expected}")
    });
    let in_kernels = tables.locations.iter().any(|location| cpu.file(location) == "[vdso]");
    found.unless(in_kernels, || "no sample in [vdso]".into());
}

/// Who held a lock is charged what the waiter waited, and each is the leaf of its stack.
fn locks(build: &Build, mutex: &View<'_>, block: &View<'_>, found: &mut Found) {
    let by = [
        ("stock", "subject::work::hold", "subject::work::wait_for"),
        (
            "till",
            "subject::work::hold_in_a_vector",
            "subject::work::lend::{{closure}}::{{closure}}",
        ),
    ];
    for (lock, holder, waiter) in by {
        let sum = |view: &View<'_>| -> i64 {
            let of_lock =
                |stack: &&Stack| stack.labels.get("lock").is_some_and(|name| name == lock);
            view.profile.samples.iter().filter(of_lock).map(|stack| stack.values[1]).sum()
        };
        let (charged, waited) = (sum(mutex), sum(block));
        found.unless(waited > 1_000_000 && charged == waited, || {
            format!("{lock}: {charged} ns are charged, {waited} ns were waited")
        });
        if build.names == Names::None || build.stacks == Stacks::Cut {
            continue;
        }
        for (view, function) in [(mutex, holder), (block, waiter)] {
            found.unless(view.profile.flat(function)[1] > 0, || {
                let stacks: Vec<_> =
                    view.profile.samples.iter().map(|stack| &stack.names).collect();
                format!("{}: {function} is no leaf of {stacks:#?}", view.kind)
            });
        }
    }
    if build.names != Names::None && build.stacks != Stacks::Cut {
        found.unless(block.profile.cumulative("subject::lend")[1] > 0, || {
            "a profiled function was inlined".to_owned()
        });
    }
}

fn memory(build: &Build, heap: &View<'_>, found: &mut Found) {
    const IN_USE: usize = 3;
    let held = if build.names == Names::None || build.stacks == Stacks::Cut {
        heap.profile.totals()[IN_USE]
    } else {
        heap.profile.cumulative("subject::work::hold_memory")[IN_USE]
    };
    found.unless(held >= HELD, || format!("{held} bytes are held, by the profile of the heap"));
}
