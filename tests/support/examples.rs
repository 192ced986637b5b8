//! The programs of the examples.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds an example as the tests are built, and returns the path of the program.
///
/// # Panics
///
/// It cannot be built.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let folder = test.ancestors().nth(2).expect("a test is in target/PROFILE/deps");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        name => name.expect("the name of the profile"),
    };
    let built = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository"))
        .args(["build", "--locked", "--quiet", "--package=profiler-examples"])
        .arg(format!("--bin={name}"))
        .arg(format!("--profile={profile}"))
        .arg("--target-dir")
        .arg(folder.parent().expect("the target directory"))
        .status()
        .expect("cargo can be started");
    assert!(built.success(), "the example {name} could not be built");
    folder.join(name)
}
