//! The profiler in a library that is loaded by `dlopen`, as extensions of Python and Java are: its
//! thread-locals are allocated when a thread first uses them, which no signal handler may do.

#![allow(unsafe_code, reason = "a library is loaded by the loader's functions")]

use std::ffi::CString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let target = test.ancestors().nth(3).expect("a test is in target/PROFILE/deps");
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--quiet", "--package=profiler-tests", "--example=library"])
        .arg("--target-dir")
        .arg(target)
        .status();
    assert!(built.is_ok_and(|built| built.success()), "the library could not be built");
    target.join("debug/examples/liblibrary.so")
}

#[test]
fn it_says_that_it_cannot_sample_threads_and_does_the_rest_though_it_is_closed() {
    let path = CString::new(build().to_str().expect("text")).expect("no zero in it");
    // SAFETY: the library runs nothing when it is loaded.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "{path:?} cannot be loaded");
    // SAFETY: loaded above, and the name is a text.
    let function = unsafe { libc::dlsym(library, c"profiles_what_it_can".as_ptr()) };
    assert!(!function.is_null());
    // SAFETY: a function of this type.
    let function: extern "C" fn() -> u32 = unsafe { std::mem::transmute(function) };
    assert_eq!(function(), 0);

    // Its thread works on in the code of the library, which stays for that.
    // SAFETY: loaded above.
    assert_eq!(unsafe { libc::dlclose(library) }, 0);
    std::thread::sleep(Duration::from_millis(200));
    // SAFETY: it loads nothing.
    let again = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    assert!(!again.is_null(), "the library is gone");
}
