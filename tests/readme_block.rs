//! The dependencies that the README tells work in a workspace of a user's own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use profiler_tests::sources::root;
use tempfile::TempDir;

/// The lines of the README's block, with what `of` makes of the two that name the profiler's packages.
fn block(of: impl Fn(&str) -> String) -> String {
    let readme = fs::read_to_string(root().join("README.md")).expect("it is there");
    let (_, rest) = readme.split_once("```toml\n").expect("a block of dependencies");
    let (block, _) = rest.split_once("```").expect("its end");
    let lines: Vec<_> = block.lines().map(of).collect();
    assert_eq!(lines.iter().filter(|line| line.starts_with("profiler-")).count(), 2, "{block}");
    lines.join("\n")
}

/// A line of the block that has a path, as its comment tells it.
fn by_path(line: &str) -> String {
    match (line.split_once(" = "), line.split_once("# or ")) {
        (Some((name, _)), Some((_, path))) => format!("{name} = {{ {path} }}"),
        _ => line.to_owned(),
    }
}

/// Makes a user's workspace of one package beside `profiler`, and has Cargo read it.
fn read(folder: &Path, workspace: &str, dependencies: &str, options: &[&str]) -> Output {
    let app = folder.join("app");
    fs::create_dir_all(app.join("src")).expect("a folder");
    fs::write(folder.join("Cargo.toml"), format!("[workspace]\nmembers = [\"app\"]\n{workspace}"))
        .expect("a file");
    let package = "[package]\nname = \"app\"\nedition = \"2024\"\n\n";
    fs::write(app.join("Cargo.toml"), package.to_owned() + dependencies).expect("a file");
    fs::write(app.join("src/main.rs"), "fn main() {}\n").expect("a file");
    // What is known there need not be fetched.
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).expect("a file");
    Command::new(env!("CARGO"))
        .current_dir(&app)
        .args(["tree", "--prefix=none", "--depth=1"])
        .args(options)
        .output()
        .expect("cargo can be started")
}

#[track_caller]
fn works(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let tree = String::from_utf8_lossy(&output.stdout);
    for package in ["profiler-core", "profiler-http", "tracing-subscriber"] {
        assert!(tree.lines().any(|line| line.starts_with(package)), "{tree}");
    }
}

#[test]
fn a_checkout_beside_the_package_works_where_the_workspace_excludes_it() {
    let folder = TempDir::new().expect("a temporary directory");
    let folder = folder.path();
    symlink(root(), folder.join("profiler")).expect("a link");
    let options = ["--offline"];
    works(&read(folder, "exclude = [\"profiler\"]\n", &block(by_path), &options));
    // As the README says, it has to.
    let said = read(folder, "", &block(by_path), &options);
    assert!(!said.status.success(), "the README need not speak of `exclude`");
}

#[test]
fn a_repository_works() {
    let folder = TempDir::new().expect("a temporary directory");
    let repository = folder.path().join("profiler.git");
    let cloned = Command::new("git")
        .args(["clone", "--quiet", "--bare"])
        .args([root(), &repository])
        .status();
    assert!(cloned.is_ok_and(|cloned| cloned.success()), "the repository can be cloned");
    let address = format!("file://{}", repository.display());
    let dependencies = block(|line| line.replace("https://HOST/profiler", &address));
    // It is fetched, so this is not offline.
    works(&read(folder.path(), "", &dependencies, &[]));
}
