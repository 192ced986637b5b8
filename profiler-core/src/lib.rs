//! In-process profiles for Rust, in the formats of Go's pprof.

mod buffer;
mod callsite;
mod capture;
mod clock;
mod config;
mod encode;
mod error;
mod kind;
mod labels;
mod live;
mod merge;
mod per_process;
mod profile;
mod profiler;
#[cfg_attr(profiler_native, path = "stack/mod.rs")]
#[cfg_attr(not(profiler_native), path = "stack/unsupported.rs")]
mod stack;
mod sys;

pub use capture::birth as thread;
pub use capture::custom::{CustomProfile, Entry};
pub use capture::labels::with_labels;
#[cfg(feature = "tracing")]
pub use capture::layer::{LayerOptions, layer, layer_with};
#[cfg(feature = "parking_lot")]
pub use capture::lock::parking_lot;
pub use capture::lock::sync;
pub use capture::wait::wait;
pub use config::{Config, LabelView, Rates, StackView, Symbols, View};
pub use error::{ConfigError, StartError, Unavailable};
pub use kind::{Description, Kind, Read, TextForm, ValueType};
pub use labels::Labels;
pub use profile::{Frame, LabelValue, Profile, Sample, TopEntry};
pub use profiler::{
    Stats, count, default_view, kinds, rates, set_rates, snapshot, snapshot_with, start, stats,
    symbol, write_threads,
};
pub use profiler_macros::profiled;

#[doc(hidden)]
pub mod __private;
