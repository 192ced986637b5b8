//! What the documents say, held against what is there.
//!
//! Each check is a function from a text to violations, so that a planted fault can show that it fires.

use std::fs;

use profiler_core::Kind;
use profiler_tests::sources::{PACKAGES, repository, root};

/// The table of the README that has a row for `mutex` has one for every kind, in order. A row whose
/// first cell is no `name`, for example the heading, says nothing about a kind.
fn kinds_table(readme: &str) -> Vec<String> {
    let lines: Vec<_> = readme.lines().collect();
    let mut tables = lines.split(|line| !line.starts_with('|'));
    let is_mutex = |row: &&str| first_name(row) == Some("mutex");
    let table = tables.find(|table| table.iter().any(is_mutex)).unwrap_or_default();
    let found: Vec<_> = table.iter().filter_map(|row| first_name(row)).collect();
    let expected: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    if found == expected {
        Vec::new()
    } else {
        vec![format!("the table of kinds holds {found:?}, Kind::ALL is {expected:?}")]
    }
}

/// The name in the first cell of a row: what stands between the first two backticks.
fn first_name(row: &str) -> Option<&str> {
    row.split('|').nth(1)?.split('`').nth(1)
}

/// The files and folders that the tables of a document name and that do not exist. A name is what
/// stands between backticks and ends in `.rs`, or begins with a package or with `…/`, which stands for
/// the sources of profiler-core. A file's name alone may be that of any.
fn missing_files(document: &str, paths: &[String]) -> Vec<String> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let in_package = |name: &str| {
        let first = name.split_once('/').map(|(first, _)| first);
        first.is_some_and(|first| PACKAGES.contains(&first))
    };
    let is_missing = |name: &&str| {
        let path = name.replacen("…/", "profiler-core/src/", 1);
        let (file, folder, end) = (path.clone() + ".rs", path.clone() + "/", format!("/{path}"));
        match (in_package(&path), name.ends_with(".rs")) {
            (true, _) => {
                !paths.iter().any(|it| *it == path || *it == file || it.starts_with(&folder))
            }
            (false, true) => !paths.iter().any(|it| it.ends_with(&end)),
            (false, false) => false,
        }
    };
    names.filter(is_missing).map(|name| format!("{name} does not exist")).collect()
}

fn read(document: &str) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"))
}

#[track_caller]
fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn the_readme_lists_every_kind() {
    none(&kinds_table(&read("README.md")));
}

#[test]
fn the_architecture_names_files_that_exist() {
    let paths: Vec<_> = repository().into_iter().map(|(path, _)| path).collect();
    none(&missing_files(&read("ARCHITECTURE.md"), &paths));
}

#[test]
fn a_planted_gap_in_the_readme_is_found() {
    let row = |kind: &Kind| format!("| `{kind}` | yes |\n");
    let table = |kinds: &[Kind]| {
        let rows: String = kinds.iter().map(row).collect();
        let other = "| feature | buys |\n|---|---|\n| `tracing` | spans |\n";
        format!(
            "# Title\n\n{other}\n| kind | Linux |\n|---|---|\n{rows}| custom | yes |\n\nMore.\n"
        )
    };
    none(&kinds_table(&table(Kind::ALL)));
    assert_eq!(kinds_table(&table(&Kind::ALL[1..])).len(), 1);
    assert_eq!(kinds_table("no table").len(), 1);
}

#[test]
fn planted_names_of_files_that_do_not_exist_are_found() {
    let paths = ["tests/tidy.rs", "tests/loom/main.rs", "profiler-core/src/stack/rule.rs"];
    let paths = paths.map(str::to_owned);
    let check = |row: &str, expected: &[&str]| {
        let expected: Vec<_> =
            expected.iter().map(|name| format!("{name} does not exist")).collect();
        assert_eq!(missing_files(row, &paths), expected, "{row}");
    };
    check("| order | `tests/tidy.rs`, unit tests of `rule.rs`, `tests/loom` |", &[]);
    check("| stacks | `…/stack`, `…/stack/rule`, `stack/rule.rs`, `net/http/pprof` |", &[]);
    check("| order | `tests/untidy.rs` |", &["tests/untidy.rs"]);
    check("| order | unit tests of `ule.rs`, `tests/rule.rs` |", &["ule.rs", "tests/rule.rs"]);
    check("| stacks | `…/stacks`, `…/stack` |", &["…/stacks"]);
    check("Not in a table: `tests/untidy.rs`.", &[]);
}
