//! Holds what each feature set pulls in, with its licence: a new dependency is a decision, and shows
//! as a changed line in `dependencies.txt`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// The feature sets: heading, the heading whose packages it shares, the arguments of `cargo tree`.
/// The table shows of each what it adds to the one that it builds on.
const SETS: &[(&str, &str, &[&str])] = &[
    ("profiler-macros", "", &["-p", "profiler-macros"]),
    ("profiler-core", "profiler-macros", &["-p", "profiler-core", "--no-default-features"]),
    (
        "profiler-core with tracing",
        "profiler-core",
        &["-p", "profiler-core", "--no-default-features", "--features=tracing"],
    ),
    (
        "profiler-core with parking_lot",
        "profiler-core",
        &["-p", "profiler-core", "--no-default-features", "--features=parking_lot"],
    ),
    ("profiler-core with tracing and parking_lot", "both", &["-p", "profiler-core"]),
    ("profiler-http", "profiler-core", &["-p", "profiler-http"]),
];

/// A dependency must be offered under one of these, or under several at once.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
    "0BSD",
];

/// Returns name and licence of everything that users of a feature set compile, on the one platform
/// whose table is kept.
fn tree(arguments: &[&str]) -> BTreeSet<(String, String)> {
    let output = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository"))
        .args(["tree", "--locked", "--edges=normal,build", "--prefix=none", "--format={p}|{l}"])
        .args(["--target=x86_64-unknown-linux-gnu"])
        .args(arguments)
        .output()
        .expect("cargo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree {arguments:?} failed: {said}");
    let lines = String::from_utf8(output.stdout).expect("text");
    let split = |line: &str| {
        let (package, licence) = line.split_once('|').expect("the form that was asked for");
        let name = package.split(' ').next().expect("a name");
        // A package that stands in the tree again is marked behind its licence.
        (name.to_owned(), licence.trim_end_matches(" (*)").to_owned())
    };
    lines.lines().map(split).collect()
}

/// Whether an SPDX expression can be met with the licences above.
///
/// It understands what crates write: `A OR B`, `A/B`, and `(A OR B) AND C`.
fn is_allowed(expression: &str) -> bool {
    let is_one = |licence: &str| LICENCES.contains(&licence.trim().trim_matches(['(', ')']));
    expression
        .replace('/', " OR ")
        .split(" AND ")
        .all(|alternatives| alternatives.split(" OR ").any(is_one))
}

#[test]
fn dependencies_and_licences_are_those_of_the_table() {
    let mut seen: Vec<(&str, BTreeSet<_>)> = Vec::new();
    let mut found = String::new();
    for (heading, base, arguments) in SETS {
        let packages = tree(arguments);
        let shared: BTreeSet<_> = seen
            .iter()
            .filter(|(name, _)| name == base || *base == "both")
            .flat_map(|(_, packages)| packages)
            .cloned()
            .collect();
        let gone: Vec<_> = shared.difference(&packages).collect();
        assert!(gone.is_empty(), "{heading} lacks {gone:?} of {base}");
        let base = if base.is_empty() { String::new() } else { format!(" adds to {base}") };
        writeln!(found, "{heading}{base}").expect("a string");
        for (name, licence) in packages.difference(&shared) {
            writeln!(found, "  {name}: {licence}").expect("a string");
        }
        seen.push((heading, packages));
    }
    let expected = include_str!("dependencies.txt");
    assert!(
        found == expected,
        "the dependencies have changed; if that is meant, put this into tests/dependencies.txt:\n\
         {found}"
    );
}

#[test]
fn every_licence_is_allowed() {
    for (_, _, arguments) in SETS {
        for (name, licence) in tree(arguments) {
            assert!(is_allowed(&licence), "{name} has the licence {licence:?}");
        }
    }
}

#[test]
fn a_licence_that_is_not_allowed_is_found() {
    for allowed in ["MIT", "MIT OR GPL-3.0", "Unlicense/MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"]
    {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR Apache-2.0) AND LGPL-2.1", "MITx"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
