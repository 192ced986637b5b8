//! Profiles of one program, built in each way that people build: names, lines, inlined calls and whole
//! stacks are there or not as `docs/builds.md` says.
//!
//! The program is `subject`, a package of its own beside this file, so that little is built again for
//! each row: it takes most of the time.

mod check;
mod output;
mod table;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use profiler_tests::tool::Tool;

use crate::check::violations;
use crate::output::Output;
use crate::table::{Build, Names, PLAIN, Stacks};

/// Makes the table and a test of each row.
macro_rules! builds {
    ($($test:ident: $build:expr;)*) => {
        const BUILDS: &[Build] = &[$($build),*];

        $(
            #[test]
            fn $test() {
                let build = find(stringify!($test));
                holds(build);
            }
        )*

        fn position(test: &str) -> usize {
            [$(stringify!($test)),*].iter().position(|name| *name == test).expect("a row")
        }
    };
}

builds! {
    plain: PLAIN;
    debug_limited: Build {
        name: "debug information",
        profile: &["debug = \"limited\""],
        names: Names::Debug,
        lines: true,
        inlined: true,
        ..PLAIN
    };
    line_tables: Build {
        name: "line tables",
        profile: &["debug = \"line-tables-only\""],
        names: Names::Debug,
        lines: true,
        inlined: true,
        ..PLAIN
    };
    frame_pointers: Build {
        name: "with frame pointers",
        flags: &["-Cforce-frame-pointers=yes"],
        ..PLAIN
    };
    stripped: Build {
        name: "stripped by Cargo",
        profile: &["strip = true"],
        names: Names::None,
        ..PLAIN
    };
    stripped_later: Build {
        name: "stripped afterwards",
        profile: &["debug = \"limited\""],
        afterwards: &["strip"],
        names: Names::None,
        ..PLAIN
    };
    separate: Build {
        name: "stripped, with the debug file beside it",
        profile: &["debug = \"limited\""],
        afterwards: &[
            "sh",
            "-c",
            "objcopy --only-keep-debug $0 $0.debug; strip $0; objcopy --add-gnu-debuglink=$0.debug $0",
        ],
        names: Names::Debug,
        lines: true,
        inlined: true,
        ..PLAIN
    };
    unidentified: Build {
        name: "stripped, without build id",
        profile: &["strip = true"],
        flags: &["-Clink-arg=-Wl,--build-id=none"],
        names: Names::None,
        ..PLAIN
    };
    small: Build { name: "small", profile: &["opt-level = \"z\""], ..PLAIN };
    fat_lto: Build { name: "link-time optimisation", profile: &["lto = \"fat\""], ..PLAIN };
    abort: Build { name: "no unwinding", profile: &["panic = \"abort\""], ..PLAIN };
    no_tables: Build {
        name: "no unwind tables",
        profile: &["panic = \"abort\""],
        flags: &["-Cforce-unwind-tables=no"],
        stacks: Stacks::Cut,
        ..PLAIN
    };
    frame_pointers_alone: Build {
        name: "no unwind tables, frame pointers",
        profile: &["panic = \"abort\""],
        flags: &["-Cforce-unwind-tables=no", "-Cforce-frame-pointers=yes"],
        ..PLAIN
    };
    static_pie: Build {
        name: "static, position-independent",
        flags: &["-Ctarget-feature=+crt-static"],
        ..PLAIN
    };
    static_fixed: Build {
        name: "static",
        flags: &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"],
        ..PLAIN
    };
}

fn find(test: &str) -> &'static Build {
    &BUILDS[position(test)]
}

/// What the program of a row left, built and run once.
fn output(build: &Build) -> &'static Output {
    static OUTPUTS: [OnceLock<Output>; BUILDS.len()] = [const { OnceLock::new() }; BUILDS.len()];
    let row = BUILDS.iter().position(|row| row.name == build.name).expect("a row of the table");
    OUTPUTS[row].get_or_init(|| Output::of(&BUILDS[row]))
}

#[track_caller]
fn holds(build: &Build) {
    let output = output(build);
    let found = violations(build, output);
    assert!(found.is_empty(), "{}:\n{}", build.name, found.join("\n"));
    panics_as_built(build, &output.program);
}

/// A panic, while a capture runs and a profiled lock is held, does what the build says.
#[track_caller]
fn panics_as_built(build: &Build, program: &Path) {
    let ended =
        Command::new(program).arg("panic").env_remove("RUST_BACKTRACE").output().expect("it runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("on purpose"), "{said}");
    if build.aborts() {
        assert_eq!(ended.status.signal(), Some(libc::SIGABRT), "{said}");
    } else {
        assert!(ended.status.success(), "{}: {said}", ended.status);
    }
}

/// What is stripped after the build keeps the build id of the file that was kept, and so its names.
#[test]
fn names_come_back_from_the_file_that_was_kept() {
    let stripped = output(find("stripped_later"));
    let kept = output(find("debug_limited"));
    let profile = stripped.path("profile");
    let [kept, profile] = [&kept.program, &profile].map(|path| path.to_str().expect("text"));
    let top = Tool::new().top(&["-cum", kept, profile]);
    // The tool shortens names.
    let leaf = top.rows.iter().find(|row| row.name == "leaf");
    assert!(leaf.is_some_and(|leaf| leaf.cum > 600_000_000), "{top:?}");
    // Positive control: without that file nobody knows.
    let top = Tool::new().top(&["-symbolize=none", "-cum", profile]);
    assert!(!top.rows.iter().any(|row| row.name.contains("leaf")), "{top:?}");
}

/// The tool has no names from a file that holds debug information alone: if it learns that, the page shall say so.
#[test]
fn no_names_come_back_from_the_debug_file_alone() {
    let kept = output(find("separate")).program.with_extension("debug");
    let profile = output(find("stripped_later")).path("profile");
    let [kept, profile] = [&kept, &profile].map(|path| path.to_str().expect("text"));
    let top = Tool::new().top(&["-cum", kept, profile]);
    assert!(!top.rows.iter().any(|row| row.name.contains("leaf")), "{top:?}");
}

/// Each of the expectations is violated by the program of another row.
#[test]
fn every_expectation_can_fail() {
    let fails = |expected: &str, program: &str, violation: &str| {
        let found = violations(find(expected), output(find(program)));
        let is_found = found.iter().any(|found| found.contains(violation));
        assert!(is_found, "{program} as {expected}, no {violation:?}: {found:#?}");
    };
    fails("debug_limited", "plain", "no line of");
    fails("debug_limited", "plain", "a wrong one");
    fails("plain", "debug_limited", "a wrong one");
    fails("plain", "debug_limited", "lines nobody expects");
    fails("plain", "debug_limited", "inlined calls nobody expects");
    fails("plain", "stripped", "no stack of leaf");
    fails("stripped", "plain", "names nobody expects");
    fails("plain", "no_tables", "reach the root");
    fails("no_tables", "plain", "reach the root");
    fails("stripped", "unidentified", "a build id or none");
    fails("static_pie", "plain", "libc lies in");
    fails("plain", "static_pie", "libc lies in");
    fails("static_fixed", "static_pie", "position");
    fails("static_pie", "static_fixed", "position");
}

/// What is expected of all programs alike is missed where the output is damaged.
#[test]
fn damage_is_found() {
    let build = find("debug_limited");
    let check = |damage: fn(&mut Output), violation: &str| {
        let mut damaged = output(build).clone();
        damage(&mut damaged);
        let found = violations(build, &damaged);
        let is_found = found.iter().any(|found| found.contains(violation));
        assert!(is_found, "no {violation:?}: {found:#?}");
    };
    /// Replaces a text of a profile.
    fn replace(output: &mut Output, kind: &str, text: &str, by: &str) {
        let profile = output.profiles.get_mut(kind).expect("it was written");
        for string in profile.tables.strings.iter_mut().filter(|string| string.contains(text)) {
            by.clone_into(string);
        }
    }
    /// Sets a column of all samples of a profile.
    fn set(output: &mut Output, kind: &str, column: usize, value: i64) {
        let profile = output.profiles.get_mut(kind).expect("it was written");
        profile.samples.iter_mut().for_each(|sample| sample.values[column] = value);
    }
    check(|output| *output.facts.get_mut("child").expect("told") = "256".into(), "ended 256");
    check(|output| replace(output, "profile", "[vdso]", "[other]"), "no sample in [vdso]");
    check(|output| replace(output, "profile", "libc.so", "musl.so"), "libc lies in");
    check(|output| replace(output, "profile", "/subject", "/other"), "the first mapping");
    check(|output| replace(output, "heap", "work.rs", ""), "no line of");
    check(|output| set(output, "mutex", 1, 0), "0 ns are charged, ");
    check(|output| set(output, "block", 1, 0), "0 ns were waited");
    check(|output| set(output, "heap", 3, 0), "0 bytes are held");
    check(|output| set(output, "profile", 1, 1), "no stack of leaf");
    let no_names = |output: &mut Output| {
        let threads = output.profiles.get_mut("goroutine").expect("it was written");
        threads.samples.iter_mut().for_each(|sample| drop(sample.labels.remove("thread")));
    };
    check(no_names, "the thread that waits is called None");
    let short = |output: &mut Output| {
        let cpu = output.profiles.get_mut("profile").expect("it was written");
        cpu.samples.iter_mut().for_each(|sample| sample.names.truncate(1));
    };
    check(short, "reach the root");
    let other_lines = |output: &mut Output| {
        let cpu = output.profiles.get_mut("profile").expect("it was written");
        cpu.tables
            .locations
            .iter_mut()
            .flat_map(|place| &mut place.lines)
            .for_each(|line| line.line += 1);
    };
    check(other_lines, "of leaf is");
    let other_id = |output: &mut Output| {
        let tables = &mut output.profiles.get_mut("profile").expect("it was written").tables;
        tables.mappings[0].build_id = 0;
    };
    check(other_id, "the build id is");
}

#[test]
fn the_documentation_has_the_same_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let text = std::fs::read_to_string(root.join("docs/builds.md")).expect("it is there");
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| build ");
    let found: Vec<_> = text.lines().filter(is_row).collect();
    let expected: Vec<_> = BUILDS.iter().map(Build::row).collect();
    assert!(found == expected, "put this table into docs/builds.md:\n{}", expected.join("\n"));
}
