//! Tells which platforms have a file of their own in `src/sys/` and native stacks.
//!
//! `links` in the manifest needs a build script too.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(profiler_native)");
    let target = |name: &str| env::var(format!("CARGO_CFG_{name}")).unwrap_or_default();
    let served = target("TARGET_OS") == "linux"
        && matches!(target("TARGET_ARCH").as_str(), "x86_64" | "aarch64");
    // RUSTFLAGS="--cfg profiler_unsupported" shows on Linux what other platforms get.
    let refused = env::var_os("CARGO_CFG_PROFILER_UNSUPPORTED").is_some();
    if served && !refused {
        println!("cargo::rustc-cfg=profiler_native");
    }
}
