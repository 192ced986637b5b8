//! Guards the architecture: what a reviewer would have to remember stands here as a check.
//!
//! Each check is a function from source files to violations, so that a planted fault can show that
//! it fires.

use std::collections::BTreeSet;
use std::fs;

use profiler_tests::imports;
use profiler_tests::sources::{File, repository, root};

/// Longer files have a second noun in them; those that may be longer stand here with the reason.
const MOST_LINES: usize = 450;
const LONG_FILES: &[(&str, &str)] = &[];

/// What must not stand in a library, where it may nevertheless, and why.
const WORDS: &[(&str, &[&str], &str)] = &[
    ("target_os", SYS, PLATFORM),
    ("target_arch", SYS, PLATFORM),
    ("target_env", SYS, PLATFORM),
    ("target_family", SYS, PLATFORM),
    ("target_pointer_width", SYS, PLATFORM),
    ("cfg(unix", SYS, PLATFORM),
    ("cfg(windows", SYS, PLATFORM),
    ("profiler_unsupported", SYS, PLATFORM),
    // The crate's root and the stack pick the file that fits, and hold no other difference.
    ("profiler_native", NATIVE, PLATFORM),
    ("println!", &[], "the output belongs to the application"),
    ("print!", &[], "the output belongs to the application"),
    ("dbg!", &[], "the output belongs to the application"),
    ("todo!", &[], "what is not done is not called"),
    ("unimplemented!", &[], "what is not done is not called"),
    ("#[ignore", &[], "a test that does not run proves nothing"),
    ("profiler_core::__private", &["profiler-macros/src/", "profiler-http/src/"], "it is for ours"),
];
const SYS: &[&str] = &["profiler-core/src/sys/"];
const NATIVE: &[&str] =
    &["profiler-core/src/sys/", "profiler-core/src/stack/", "profiler-core/src/lib.rs"];
const PLATFORM: &str = "platforms differ in sys/ alone";

/// For each part of profiler-core, the parts that it must not import: each stage knows those before
/// it, the capturing side knows nothing of the reading one, and the leaves know nobody.
const FORBIDDEN_IMPORTS: &[(&str, &[&str])] = &[
    ("kind.rs", &["*"]),
    ("loaded.rs", &["*"]),
    ("view.rs", &["*"]),
    ("clock.rs", ABOVE_THE_LEAVES),
    ("callsite.rs", ABOVE_THE_LEAVES),
    ("sys/", ABOVE_THE_LEAVES),
    ("labels/", ABOVE_THE_LEAVES),
    ("stack/", ABOVE_THE_LEAVES),
    ("buffer/", ABOVE_THE_LEAVES),
    ("capture/", &["live", "merge", "profile", "encode", "profiler"]),
    ("live/", &["capture", "profile", "encode", "profiler"]),
    ("merge.rs", &["capture", "live", "profile", "encode", "profiler"]),
    ("profile/", &["capture", "live", "encode", "profiler"]),
    ("encode/", &["capture", "profiler"]),
];
const ABOVE_THE_LEAVES: &[&str] = &["capture", "live", "merge", "profile", "encode", "profiler"];

fn words(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| is_library(path) && !is_test(path)) {
        for &(word, allowed, reason) in WORDS {
            if allowed.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            for (number, _) in code(text).filter(|(_, line)| holds(line, word)) {
                found.push(format!("{path}:{number}: `{word}`, but {reason}"));
            }
        }
    }
    found
}

fn imports(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| !is_test(path)) {
        let Some(part) = path.strip_prefix("profiler-core/src/") else { continue };
        let own = module(part);
        let forbidden = FORBIDDEN_IMPORTS.iter().filter(|(folder, _)| part.starts_with(folder));
        let forbidden: Vec<_> = forbidden.flat_map(|(_, parts)| *parts).collect();
        for name in imported(text) {
            if name != own && forbidden.iter().any(|part| **part == "*" || **part == name) {
                found.push(format!("{path} must not import crate::{name}"));
            }
        }
    }
    found
}

/// The parts of profiler-core that import each other, directly or through others.
fn circles(files: &[File]) -> Vec<String> {
    let mut reached: BTreeSet<(String, String)> = BTreeSet::new();
    for (path, text) in files.iter().filter(|(path, _)| !is_test(path)) {
        if let Some(part) = path.strip_prefix("profiler-core/src/") {
            let to_others = imported(text).into_iter().filter(|name| name != module(part));
            reached.extend(to_others.map(|name| (module(part).to_owned(), name)));
        }
    }
    loop {
        let onward = reached.iter().flat_map(|(from, middle)| {
            reached.iter().filter(move |(start, _)| start == middle).map(move |(_, to)| (from, to))
        });
        let further: Vec<_> = onward.map(|(from, to)| (from.clone(), to.clone())).collect();
        let before = reached.len();
        reached.extend(further);
        if reached.len() == before {
            break;
        }
    }
    let in_circle: Vec<_> = reached.iter().filter(|(from, to)| from == to).collect();
    in_circle
        .iter()
        .map(|(part, _)| format!("crate::{part} imports itself through others"))
        .collect()
}

/// The part of profiler-core that a file belongs to.
fn module(part: &str) -> &str {
    part.trim_end_matches(".rs").split('/').next().unwrap_or_default()
}

/// The files that import themselves through others.
fn circles_of_files(files: &[File]) -> Vec<String> {
    let files: Vec<_> = files.iter().filter(|(path, _)| !is_test(path)).cloned().collect();
    let of_crate = |package: &str| -> Vec<String> {
        let imports = imports::imports(&format!("{package}/src/"), &files);
        let files = imports::in_circles(&imports).into_iter();
        files.map(|file| format!("{package}/src/{file} imports itself through others")).collect()
    };
    ["profiler-core", "profiler-http", "profiler-macros"]
        .into_iter()
        .flat_map(of_crate)
        .collect::<Vec<_>>()
}

fn lengths(files: &[File]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let (lines, listed) = (text.lines().count(), is_in(path, LONG_FILES));
        if lines > MOST_LINES && !listed {
            found.push(format!("{path} has {lines} lines: which is its second noun?"));
        }
        if lines <= MOST_LINES && listed {
            found.push(format!("{path} is listed as long and is not"));
        }
    }
    found
}

/// The files that opt in to unsafe code, a line each, with the reason that each gives.
fn unsafe_files(files: &[File]) -> String {
    let mut found = String::new();
    for (path, text) in files.iter().filter(|(path, _)| is_library(path)) {
        let code: Vec<_> = code(text).map(|(_, line)| line.trim()).collect();
        let code = code.join(" ");
        for (at, _) in code.match_indices("unsafe_code") {
            let reason = code[at..].split(']').next().unwrap_or_default().split('"').nth(1);
            found += &format!("{path}: {}\n", reason.unwrap_or("NO REASON"));
        }
    }
    found
}

/// Cargo runs only the files that the manifest names.
fn unlisted_tests(manifest: &str, names: &[String]) -> Vec<String> {
    let is_listed = |name: &&String| !manifest.contains(&format!("path = \"{name}\""));
    names.iter().filter(is_listed).map(|name| format!("tests/Cargo.toml lacks {name}")).collect()
}

fn is_library(path: &str) -> bool {
    path.starts_with("profiler-") && path.contains("/src/")
}

/// Whether a file holds only tests or what they share.
fn is_test(path: &str) -> bool {
    ["tests.rs", "testing.rs"].iter().any(|name| path.ends_with(name))
}

fn is_in(path: &str, table: &[(&str, &str)]) -> bool {
    table.iter().any(|(listed, _)| *listed == path)
}

/// The lines of code with their numbers, without comments and without the tests in the file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<_> = text.lines().collect();
    let begins_tests = |index: &usize| {
        let is_for_tests =
            ["#[cfg(test)]", "#[cfg(all(test,"].iter().any(|cfg| lines[*index].starts_with(cfg));
        let item = lines[*index..].iter().find(|line| !line.starts_with("#["));
        is_for_tests && item.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    let end = (0..lines.len()).find(begins_tests).unwrap_or(lines.len());
    lines
        .into_iter()
        .take(end)
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
}

/// Whether a line holds a word that is not the end of a longer one.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_')
    })
}

/// The modules named after `crate::`, alone or in a group.
fn imported(text: &str) -> BTreeSet<String> {
    let code: Vec<_> = code(text).map(|(_, line)| line.trim()).collect();
    let code = code.join(" ");
    let mut found = BTreeSet::new();
    for (at, before) in code.match_indices("crate::") {
        let rest = &code[at + before.len()..];
        if code[..at].ends_with('$') {
            continue;
        }
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(identifier(rest));
            continue;
        };
        let mut depth = 0_usize;
        let mut at_start = true;
        for (index, letter) in group.char_indices() {
            match letter {
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                '{' => depth += 1,
                ',' if depth == 0 => at_start = true,
                ' ' => {}
                _ if at_start => {
                    found.insert(identifier(&group[index..]));
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[track_caller]
fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn platforms_differ_in_one_place_and_libraries_print_nothing() {
    none(&words(&repository()));
}

#[test]
fn no_file_imports_itself_through_others() {
    none(&circles_of_files(&repository()));
}

#[test]
fn imports_point_to_the_leaves() {
    none(&imports(&repository()));
    none(&circles(&repository()));
}

#[test]
fn a_file_is_one_noun() {
    none(&lengths(&repository()));
}

#[test]
fn every_use_of_unsafe_is_known() {
    let found = unsafe_files(&repository());
    assert!(
        found == include_str!("unsafe.txt"),
        "the files that opt in to unsafe code have changed; if that is meant, put this into \
         tests/unsafe.txt:\n{found}"
    );
    assert!(!found.contains("NO REASON"), "{found}");
}

#[test]
fn every_test_file_runs() {
    let manifest = fs::read_to_string(root().join("tests/Cargo.toml")).expect("the manifest");
    let names: Vec<_> = repository()
        .into_iter()
        .filter_map(|(path, _)| path.strip_prefix("tests/").map(str::to_owned))
        .filter(|name| !name.contains('/'))
        .collect();
    none(&unlisted_tests(&manifest, &names));
}

/// Asserts that a check finds a planted fault, and that the file without it passes.
#[track_caller]
fn fires(check: impl Fn(&[File]) -> Vec<String>, path: &str, fault: &str, expected: &str) {
    let violations = check(&[(path.into(), fault.into())]);
    assert_eq!(violations.len(), 1, "{fault}: {violations:?}");
    assert!(violations[0].contains(expected), "{violations:?}");
    none(&check(&[(path.into(), "use std::fmt;\n".into())]));
}

#[test]
fn planted_words_are_found() {
    let core = "profiler-core/src/clock.rs";
    fires(words, core, "#[cfg(target_os = \"linux\")]", "clock.rs:1: `target_os`");
    fires(words, core, "\n#[cfg(unix)]", "clock.rs:2: `cfg(unix`");
    fires(words, "profiler-http/src/server.rs", "println!(\"hello\");", "`println!`");
    fires(words, core, "dbg!(x);", "`dbg!`");
    fires(words, core, "profiler_core::__private::f()", "__private");
    none(&words(&[("profiler-core/src/sys/mod.rs".into(), "#[cfg(unix)]".into())]));
    none(&words(&[(core.into(), "// println!(…)\n/// dbg!(x)".into())]));
    none(&words(&[(core.into(), "#[cfg(test)]\nmod tests {\nprintln!()\n}".into())]));
    none(&words(&[("profiler-core/src/stack/tests.rs".into(), "println!()".into())]));
    fires(words, core, "#[cfg(test)]\nmod tests;\nfn f() { println!() }", "clock.rs:3");
}

#[test]
fn planted_imports_are_found() {
    let check = |part: &str, fault: &str, expected: &str| {
        fires(imports, &format!("profiler-core/src/{part}"), fault, expected);
    };
    check("capture/lock/mod.rs", "use crate::profile::Profile;", "crate::profile");
    check("capture/mod.rs", "use crate::{clock, merge::{Key, Row}, sys};", "crate::merge");
    check("capture/mod.rs", "use crate::{\n    clock,\n    live,\n};", "crate::live");
    check("kind.rs", "use crate::clock;", "crate::clock");
    check("buffer/tally.rs", "let x = crate::capture::record();", "crate::capture");
    check("merge.rs", "use crate::profiler::start;", "crate::profiler");
    let allowed = "use crate::{buffer, labels::{self, capture}, clock};\nuse crate::sys;";
    none(&imports(&[("profiler-core/src/capture/mod.rs".into(), allowed.into())]));
}

#[test]
fn a_planted_circle_is_found() {
    let file = |part: &str, text: &str| (format!("profiler-core/src/{part}"), text.to_owned());
    let mut files = vec![
        file("labels/current.rs", "use crate::buffer::thread;"),
        file("buffer/thread.rs", "use crate::{clock, sys};"),
        file("buffer/tally.rs", "use crate::buffer::record;"),
    ];
    none(&circles(&files));
    files.push(file("sys/linux.rs", "use crate::labels::Labels;"));
    let expected = ["buffer", "labels", "sys"];
    assert_eq!(
        circles(&files),
        expected.map(|part| format!("crate::{part} imports itself through others"))
    );
}

#[test]
fn a_planted_circle_of_files_is_found() {
    let file = |part: &str, text: &str| (format!("profiler-core/src/{part}"), text.to_owned());
    let files = [
        file("profile/mod.rs", "pub(crate) use location::Location;"),
        file("profile/labels.rs", "use super::Location;"),
        file("profile/location.rs", "use super::labels::LabelSet;"),
        file("profile/view.rs", "use super::{Location, labels::LabelSet};"),
    ];
    let expected = ["labels", "location"];
    assert_eq!(
        circles_of_files(&files),
        expected.map(|part| format!(
            "profiler-core/src/profile/{part}.rs imports itself through others"
        ))
    );
}

#[test]
fn planted_long_files_are_found() {
    fires(lengths, "profiler-core/src/kind.rs", &"\n".repeat(MOST_LINES + 1), "451 lines");
}

#[test]
fn planted_unsafe_is_found() {
    let check = |text: &str, expected: &str| {
        assert_eq!(unsafe_files(&[("profiler-core/src/kind.rs".into(), text.into())]), expected);
    };
    let reason = "profiler-core/src/kind.rs: for a reason\n";
    check("#![allow(unsafe_code, reason = \"for a reason\")]", reason);
    check("#[expect(\n    unsafe_code,\n    reason = \"for a reason\"\n)]", reason);
    check("#![allow(unsafe_code)]", "profiler-core/src/kind.rs: NO REASON\n");
    check("// allow(unsafe_code)", "");
}

#[test]
fn a_forgotten_test_is_found() {
    let names = ["tidy.rs".to_owned(), "lost.rs".to_owned()];
    assert_eq!(unlisted_tests("path = \"tidy.rs\"", &names), ["tests/Cargo.toml lacks lost.rs"]);
}
