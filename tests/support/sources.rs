//! The sources of the repository, for tests that read them.

use std::fs;
use std::path::Path;

/// A source file: its path from the root of the repository, and its text.
pub type File = (String, String);

/// The packages of the repository; `tests` holds the model checker's too.
pub const PACKAGES: [&str; 6] =
    ["profiler-macros", "profiler-core", "profiler-http", "examples", "tests", "benches"];

/// Returns the root of the repository.
///
/// # Panics
///
/// This package is not in it.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the repository")
}

/// Returns all Rust sources, by path.
///
/// # Panics
///
/// They cannot be read.
#[must_use]
pub fn repository() -> Vec<File> {
    let mut files = Vec::new();
    for package in PACKAGES {
        read(&root().join(package), &mut files);
    }
    assert!(files.len() > 20, "the sources were not found: {}", files.len());
    files.sort();
    files
}

fn read(directory: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("inside").to_str().expect("text");
            files.push((name.to_owned(), fs::read_to_string(&path).expect("a source file")));
        }
    }
}
