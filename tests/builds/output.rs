//! The program, built as a row says, and what it left after a run.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use profiler_tests::check;
use profiler_tests::pprof::Profile;
use tempfile::TempDir;

use crate::table::{Build, COMMON};

/// The profiles that the program writes.
pub(crate) const KINDS: [&str; 5] = ["profile", "goroutine", "mutex", "block", "heap"];

#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) program: PathBuf,
    /// Profiles by the names of their kinds.
    pub(crate) profiles: HashMap<&'static str, Profile>,
    /// What the process knew of itself: the name of a fact and what is known.
    pub(crate) facts: HashMap<String, String>,
    directory: Arc<TempDir>,
}

impl Output {
    /// Builds and runs the program.
    pub(crate) fn of(build: &Build) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let program = make(build, directory.path());
        let ended = Command::new(&program)
            .arg(directory.path())
            // Names in place of addresses or the other way round would be the environment's doing.
            .env_remove("PROFILER_SYMBOLS")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{}: {}: {said}", build.name, ended.status);
        let profile = |kind: &'static str| {
            let body = fs::read(directory.path().join(kind)).expect("the program has written it");
            (kind, check::valid(&body))
        };
        let facts = fs::read_to_string(directory.path().join("facts")).expect("the same");
        let fact = |line: &str| {
            let (name, fact) = line.split_once(' ').expect("a name and a fact");
            (name.to_owned(), fact.to_owned())
        };
        Self {
            program,
            profiles: KINDS.map(profile).into(),
            facts: facts.lines().map(fact).collect(),
            directory: Arc::new(directory),
        }
    }

    /// Returns where a profile was written.
    pub(crate) fn path(&self, kind: &str) -> PathBuf {
        self.directory.path().join(kind)
    }
}

/// Builds the program and copies it, since the next row is built over it.
fn make(build: &Build, directory: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = target();
    // Build scripts and macros are built without the flags if a target is named.
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // What matters where all is linked needs no other crate built again.
    let flags = COMMON.iter().chain(build.flags).copied();
    let is_for_linker = |flag: &&str| {
        ["-Clink-arg", "-Crelocation-model"].iter().any(|start| flag.starts_with(start))
    };
    let (last, all): (Vec<_>, Vec<_>) = flags.partition(is_for_linker);
    let built = Command::new(env!("CARGO"))
        .current_dir(tests.parent().expect("the repository"))
        .args(["rustc", "--locked", "--quiet", "--release", "--package=profiler-builds"])
        .args([
            "--config=tests/builds/subject/dependencies.toml",
            "--config=profile.release.debug='none'",
        ])
        .args(build.profile.iter().map(|setting| format!("--config=profile.release.{setting}")))
        .arg(format!("--target={triple}"))
        .arg("--target-dir")
        .arg(&target)
        .arg("--")
        .args(last)
        // Replaces those of the repository's configuration.
        .env("CARGO_ENCODED_RUSTFLAGS", all.join("\u{1f}"))
        .status()
        .expect("cargo can be started");
    assert!(built.success(), "{} could not be built", build.name);
    let program = directory.join("subject");
    fs::copy(target.join(triple).join("release/subject"), &program).expect("it was built");
    if let [command, arguments @ ..] = build.afterwards {
        let done = Command::new(command).args(arguments).arg(&program).status();
        assert!(done.is_ok_and(|done| done.success()), "{command} failed");
    }
    program
}

/// A directory beside that of the tests, so that nothing else is built again.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let target = test.ancestors().nth(3).expect("a test is in target/PROFILE/deps");
    target.join("builds")
}
