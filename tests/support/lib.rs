//! What the tests share: a decoder and a checker of profiles that owe nothing to the code under
//! test, the real `go tool pprof`, a Go server as the oracle, and a small HTTP client.
//!
//! Everything here panics with a sentence when it cannot do its work: a test that cannot run has
//! failed. `tests/run` prepares the Go toolchain that [`tool`] and [`oracle`] need.

pub mod bits;
pub mod bombardment;
pub mod check;
pub mod clock;
pub mod collections;
pub mod context;
pub mod cpu;
pub mod epoll;
pub mod estimate;
pub mod examples;
pub mod foreign;
pub mod go;
pub mod habits;
pub mod imports;
pub mod inner;
pub mod modules;
pub mod oracle;
pub mod own_process;
pub mod parked;
pub mod pprof;
pub mod program;
pub mod server;
pub mod shadow;
pub mod sources;
pub mod steps;
pub mod text;
pub mod tool;
mod wire;

/// The README's example must build.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// Stands at the end of a function that is looked for in a stack: without it an optimiser makes its
/// last call a jump, and functions of the same code one.
#[macro_export]
macro_rules! keep {
    () => {
        ::std::hint::black_box(::std::line!());
    };
}
