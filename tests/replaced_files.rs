//! Files that are replaced, rewritten, cut short or removed while a process has them mapped: names are those of the
//! code that runs, or there are none and the profile says why. Never another's, and never a signal.

#![allow(unsafe_code, reason = "plugins are loaded by the loader's functions")]

use std::ffi::{CStr, CString, OsStr, c_void};
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use profiler_core::{Config, Kind, Profile, Rates, snapshot};
use profiler_tests::own_process::in_own_process;
use tempfile::TempDir;

/// The length of names is the same in all versions, so that nothing else differs.
const OLD: &str = "made_in_spring";
const NEW: &str = "made_in_autumn";

#[inline(never)]
fn waits_in_the_running_program() {
    profiler_core::wait("anything", || std::hint::black_box(()));
}

extern "C" fn waits_under_a_plugin() {
    waits_in_the_running_program();
}

fn start() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
}

/// A plugin in a directory of its own.
struct Plugin {
    directory: TempDir,
    path: PathBuf,
}

impl Plugin {
    /// Makes one under a name, which need not be text.
    fn new(name: &OsStr, options: &[&str]) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let path = directory.path().join(name);
        build(OLD, options, &path);
        Self { directory, path }
    }

    /// Builds another version beside it.
    fn other(&self, options: &[&str]) -> PathBuf {
        let path = self.directory.path().join("other.so");
        build(NEW, options, &path);
        path
    }

    /// Loads it for ever, and has it call back.
    fn call(&self) {
        let library = self.load();
        let name = CString::new(OLD).expect("no zero in it");
        call(library, &name);
    }

    fn load(&self) -> *mut c_void {
        let path = CString::new(self.path.as_os_str().as_bytes()).expect("no zero in it");
        // SAFETY: the plugin runs nothing when it is loaded.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null(), "{path:?} cannot be loaded");
        library
    }
}

/// Has a function of a plugin call back.
fn call(library: *mut c_void, name: &CStr) {
    // SAFETY: it is loaded, and the name is a text.
    let function = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!function.is_null());
    // SAFETY: a function of this type.
    let function: extern "C" fn(extern "C" fn()) = unsafe { std::mem::transmute(function) };
    function(waits_under_a_plugin);
}

/// Builds a plugin with a function of that name.
fn build(name: &str, options: &[&str], path: &Path) {
    let source = path.with_file_name("plugin.c");
    let text = format!(
        "#ifdef MORE\nint more_of_it(int a) {{ return a * 3; }}\n#endif\n\
         void {name}(void (*call)(void)) {{ call(); }}\n"
    );
    fs::write(&source, text).expect("room");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-g", "-O0", "-fno-omit-frame-pointer"])
        .args(options)
        .arg(&source)
        .arg("-o")
        .arg(path)
        .status();
    assert!(built.is_ok_and(|built| built.success()), "the plugin could not be built");
}

/// With the build id that tells versions apart, and without.
const IDENTIFIED: &[&str] = &["-Wl,--build-id", NO_END];
const UNIDENTIFIED: &[&str] = &["-Wl,--build-id=none", NO_END];
/// No code of it runs at the end of the process.
const NO_END: &str = "-nostartfiles";

fn names(profile: &Profile) -> Vec<String> {
    let frames = profile.samples().flat_map(|sample| sample.frames());
    frames.filter_map(|frame| frame.function.map(str::to_owned)).collect()
}

fn block() -> Profile {
    snapshot(Kind::Block).expect("it is always there")
}

/// Asserts that the program's names are there and the plugin's are right, or missing with a reason;
/// returns the reason.
#[track_caller]
fn holds(profile: &Profile) -> Option<String> {
    let names = names(profile);
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    assert!(has("waits_in_the_running_program"), "{names:#?}");
    assert!(!has(NEW) && !has("more_of_it"), "another's name: {names:#?}");
    let reason = profile.comments().iter().find(|comment| comment.contains("have no names"));
    assert_ne!(has(OLD), reason.is_some(), "{names:#?} {:#?}", profile.comments());
    reason.cloned()
}

/// Rewrites a file in place, as `cp` does.
fn rewrite(path: &Path, by: &Path) {
    fs::write(path, fs::read(by).expect("a file")).expect("room");
}

fn test_plugin(test: &str, options: &[&str], is_seen_before: bool, change: impl FnOnce(&Plugin)) {
    in_own_process(test, || {
        start();
        let plugin = Plugin::new(OsStr::new("plugin.so"), options);
        plugin.call();
        if is_seen_before {
            // Names of the program alone are asked for, so that none of the plugin's are known.
            drop(snapshot(Kind::Goroutine).expect("Linux"));
        }
        change(&plugin);
        let reason = holds(&block());
        // The second reading says the same.
        assert_eq!(holds(&block()), reason);
    });
}

/// A program is replaced by one whose functions have other names at the same addresses.
#[test]
fn a_program_that_was_replaced_keeps_its_names() {
    const TEST: &str = "a_program_that_was_replaced_keeps_its_names";
    const TRUE: &[u8] = b"waits_in_the_running_program";
    const FALSE: &[u8] = b"waits_in_a_program_of_others";
    if std::env::var("PROFILER_TEST_CHILD").is_err() {
        let directory = TempDir::new().expect("a temporary directory");
        let program = directory.path().join("program");
        let own = std::env::current_exe().expect("the path of the test");
        fs::copy(own, &program).expect("room");
        let ended = Command::new(&program)
            .args(["--exact", TEST, "--nocapture"])
            .env("PROFILER_TEST_CHILD", TEST)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{}: {said}", ended.status);
        return;
    }
    start();
    waits_in_the_running_program();
    let program = std::env::current_exe().expect("the path of the test");
    let mut other = fs::read(&program).expect("a program");
    let places: Vec<_> = memory_of(&other, TRUE);
    assert!(!places.is_empty());
    for place in places {
        other[place..place + TRUE.len()].copy_from_slice(FALSE);
    }
    let beside = program.with_extension("new");
    fs::copy(&program, &beside).expect("room");
    fs::write(&beside, other).expect("room");
    fs::rename(&beside, &program).expect("the same directory");

    let names = names(&block());
    let has = |part: &[u8]| names.iter().any(|name| name.contains(str::from_utf8(part).unwrap()));
    assert!(has(TRUE) && !has(FALSE), "{names:#?}");
    let address = waits_in_the_running_program as *const () as u64 + 1;
    let symbol = profiler_core::symbol(address).expect("a name");
    assert!(symbol.contains(str::from_utf8(TRUE).unwrap()), "{symbol}");
}

/// Returns where a text begins.
fn memory_of(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    let starts = (0..bytes.len() - text.len()).filter(|at| bytes[*at] == text[0]);
    starts.filter(|at| bytes[*at..].starts_with(text)).collect()
}

#[test]
fn a_plugin_has_its_names() {
    in_own_process("a_plugin_has_its_names", || {
        start();
        for options in [IDENTIFIED, UNIDENTIFIED] {
            Plugin::new(OsStr::new("plugin.so"), options).call_and_keep();
            assert_eq!(holds(&block()), None);
        }
    });
}

/// The kernel says the same of files that are gone.
#[test]
fn a_name_may_end_like_the_kernels_remark() {
    in_own_process("a_name_may_end_like_the_kernels_remark", || {
        start();
        Plugin::new(OsStr::new("plugin.so (deleted)"), UNIDENTIFIED).call_and_keep();
        assert_eq!(holds(&block()), None);
    });
}

impl Plugin {
    /// Keeps the file too.
    fn call_and_keep(self) {
        ManuallyDrop::new(self).call();
    }
}

#[test]
fn a_name_that_is_no_text_takes_no_names_of_others() {
    in_own_process("a_name_that_is_no_text_takes_no_names_of_others", || {
        start();
        Plugin::new(OsStr::from_bytes(b"plug\xffin.so"), IDENTIFIED).call_and_keep();
        holds(&block());
    });
}

#[test]
fn a_plugin_is_replaced() {
    let replace = |plugin: &Plugin| {
        fs::rename(plugin.other(IDENTIFIED), &plugin.path).expect("the same directory");
    };
    test_plugin("a_plugin_is_replaced", IDENTIFIED, false, replace);
}

#[test]
fn a_plugin_without_build_id_is_replaced() {
    let replace = |plugin: &Plugin| {
        fs::rename(plugin.other(UNIDENTIFIED), &plugin.path).expect("the same directory");
    };
    test_plugin("a_plugin_without_build_id_is_replaced", UNIDENTIFIED, false, replace);
}

#[test]
fn a_plugin_is_rewritten() {
    let change = |plugin: &Plugin| rewrite(&plugin.path, &plugin.other(IDENTIFIED));
    test_plugin("a_plugin_is_rewritten", IDENTIFIED, true, change);
}

#[test]
fn a_plugin_without_build_id_is_rewritten() {
    let change = |plugin: &Plugin| rewrite(&plugin.path, &plugin.other(UNIDENTIFIED));
    test_plugin("a_plugin_without_build_id_is_rewritten", UNIDENTIFIED, true, change);
}

#[test]
fn a_plugin_is_rewritten_before_it_is_seen() {
    let options = &["-Wl,--build-id", NO_END, "-DMORE"];
    let change = |plugin: &Plugin| rewrite(&plugin.path, &plugin.other(options));
    test_plugin("a_plugin_is_rewritten_before_it_is_seen", IDENTIFIED, false, change);
}

#[test]
fn a_plugin_without_build_id_is_rewritten_before_it_is_seen() {
    let options = &["-Wl,--build-id=none", NO_END, "-DMORE"];
    let change = |plugin: &Plugin| rewrite(&plugin.path, &plugin.other(options));
    let test = "a_plugin_without_build_id_is_rewritten_before_it_is_seen";
    test_plugin(test, UNIDENTIFIED, false, change);
}

/// Who works on a plugin rewrites it while it is not loaded, and it comes to lie where it was.
#[test]
fn a_plugin_that_is_loaded_anew_has_the_names_of_its_new_version() {
    in_own_process("a_plugin_that_is_loaded_anew_has_the_names_of_its_new_version", || {
        start();
        // As people build them, so that the closing is heard.
        let options = &["-Wl,--build-id"];
        let plugin = Plugin::new(OsStr::new("plugin.so"), options);
        let library = plugin.load();
        drop(block());
        // SAFETY: loaded above, and nobody runs it.
        assert_eq!(unsafe { libc::dlclose(library) }, 0);
        rewrite(&plugin.path, &plugin.other(options));
        call(plugin.load(), &CString::new(NEW).expect("no zero in it"));
        let profile = block();
        let names = names(&profile);
        assert!(names.iter().any(|name| name == NEW), "{names:#?} {:#?}", profile.comments());
    });
}

#[test]
fn a_plugin_becomes_a_pipe() {
    test_plugin("a_plugin_becomes_a_pipe", IDENTIFIED, false, |plugin| {
        fs::remove_file(&plugin.path).expect("it was there");
        let path = CString::new(plugin.path.as_os_str().as_bytes()).expect("no zero in it");
        // SAFETY: the path is a text.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    });
}

#[test]
fn a_plugin_becomes_a_directory() {
    test_plugin("a_plugin_becomes_a_directory", IDENTIFIED, false, |plugin| {
        fs::remove_file(&plugin.path).expect("it was there");
        fs::create_dir(&plugin.path).expect("a directory");
    });
}

#[test]
fn a_plugin_is_removed() {
    test_plugin("a_plugin_is_removed", UNIDENTIFIED, false, |plugin| {
        fs::remove_file(&plugin.path).expect("it was there");
    });
}

/// What is mapped behind the new end cannot be read by anybody.
#[test]
fn a_plugin_is_cut_short() {
    cut_short("a_plugin_is_cut_short", 100);
}

#[test]
fn a_plugin_is_emptied() {
    cut_short("a_plugin_is_emptied", 0);
}

fn cut_short(test: &str, length: u64) {
    test_plugin(test, IDENTIFIED, true, |plugin| {
        let file = File::options().write(true).open(&plugin.path);
        file.and_then(|file| file.set_len(length)).expect("a file");
        // Something is loaded, so the list of libraries is gone through again.
        // SAFETY: a library of the system.
        let library = unsafe { libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW) };
        assert!(!library.is_null());
    });
}

/// Whatever a reading meets, it has the old names or none.
#[test]
fn a_plugin_is_cut_short_while_it_is_read() {
    in_own_process("a_plugin_is_cut_short_while_it_is_read", || {
        start();
        for number in 0..40 {
            let plugin = Plugin::new(OsStr::new(&format!("plugin{number}.so")), IDENTIFIED);
            plugin.call();
            let file = File::options().write(true).open(&plugin.path).expect("a file");
            let whole = fs::read(&plugin.path).expect("a file");
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    // Relaxed: nothing else is told.
                    while !is_over.load(Ordering::Relaxed) {
                        cut_and_mend(&file, &whole, number * 97).expect("room");
                    }
                });
                for _ in 0..5 {
                    let names = names(&block());
                    assert!(!names.iter().any(|name| name.contains(NEW)), "{names:#?}");
                }
                is_over.store(true, Ordering::Relaxed);
            });
        }
    });
}

fn cut_and_mend(file: &File, whole: &[u8], length: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.set_len(length)?;
    file.write_all_at(whole, 0)
}
