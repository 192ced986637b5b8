//! Stage 4: a profile as bytes.
//!
//! The binary form that `go tool pprof`, Parca and Pyroscope read, and the text of `debug=1`.

mod pprof;
mod proto;
mod report;
mod text;

#[cfg(test)]
mod check;
pub(crate) mod dump;
#[cfg(test)]
pub(crate) mod testing;
