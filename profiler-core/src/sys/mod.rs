//! The platform contract: everything that depends on the operating system or the processor.
//!
//! The only folder with `cfg`s of platforms. Linux on x86_64 and aarch64 is served by `linux.rs`
//! and `arch.rs`; everything else, and Linux under `--cfg profiler_unsupported`, compiles through
//! `unsupported.rs`, where nothing native is known: stacks are empty and profiles are logical.

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(profiler_unsupported)
))]
#[path = "linux.rs"]
mod platform;
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(profiler_unsupported)
)))]
#[path = "unsupported.rs"]
mod platform;

pub(crate) use platform::*;
