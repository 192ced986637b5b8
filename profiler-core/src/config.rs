//! Configuration: what is recorded, how deep, and what is shown by default.

use crate::budget;
use crate::error::ConfigError;
use crate::view::{LabelView, Symbols, View};

/// How much of what happens is recorded; change it any time with [`set_rates`](crate::set_rates).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rates {
    /// Waits of at least this many nanoseconds are all recorded; a shorter one with probability
    /// duration/rate, and then for the rate, so that nothing is biased. 1 records all, 0 none.
    pub block_ns: u64,
    /// The same for the waiting that a lock holder caused.
    pub mutex_ns: u64,
    /// One in so many charges to holders is recorded, and counts so many times. 0 records none.
    pub mutex_fraction: u32,
    /// One allocation in so many bytes is sampled in the mean, at random, and stands for the others.
    /// 1 takes every allocation, 0 none. Only with a [`ProfiledAllocator`](crate::ProfiledAllocator).
    pub heap_bytes: u64,
}

impl Rates {
    /// 10 µs for waits and holders, every charge, one allocation in 512 KiB.
    pub const DEFAULT: Self =
        Self { block_ns: 10_000, mutex_ns: 10_000, mutex_fraction: 1, heap_bytes: 512 << 10 };
    /// Everything: no wait, no charge and no allocation is left to chance.
    pub const ALL: Self = Self { block_ns: 1, mutex_ns: 1, mutex_fraction: 1, heap_bytes: 1 };

    /// Sets [`Rates::block_ns`].
    #[must_use]
    pub const fn block_ns(mut self, nanoseconds: u64) -> Self {
        self.block_ns = nanoseconds;
        self
    }

    /// Sets [`Rates::mutex_ns`].
    #[must_use]
    pub const fn mutex_ns(mut self, nanoseconds: u64) -> Self {
        self.mutex_ns = nanoseconds;
        self
    }

    /// Sets [`Rates::mutex_fraction`].
    #[must_use]
    pub const fn mutex_fraction(mut self, fraction: u32) -> Self {
        self.mutex_fraction = fraction;
        self
    }

    /// Sets [`Rates::heap_bytes`].
    #[must_use]
    pub const fn heap_bytes(mut self, bytes: u64) -> Self {
        self.heap_bytes = bytes;
        self
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What the profiler starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    pub(crate) rates: Rates,
    pub(crate) stack_depth: usize,
    pub(crate) memory: usize,
    pub(crate) symbol_cache: usize,
    pub(crate) dump_on_sigquit: bool,
    pub(crate) view: View,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rates: Rates::DEFAULT,
            stack_depth: 128,
            memory: budget::DEFAULT,
            symbol_cache: 4 << 20,
            dump_on_sigquit: false,
            view: View::default(),
        }
    }
}

impl Config {
    /// The deepest stack that can be asked for.
    pub const MAX_STACK_DEPTH: usize = 1024;
    /// The least that can be given to [`Config::memory`], in bytes.
    pub const LEAST_MEMORY: usize = 1 << 20;

    /// Sets what is recorded.
    #[must_use]
    pub const fn rates(mut self, rates: Rates) -> Self {
        self.rates = rates;
        self
    }

    /// Sets how many frames of a stack are kept, 1 to [`Config::MAX_STACK_DEPTH`] (default 128).
    /// The root side is cut. Values outside are taken to the nearest bound.
    #[must_use]
    pub fn stack_depth(mut self, frames: usize) -> Self {
        self.stack_depth = frames.clamp(1, Self::MAX_STACK_DEPTH);
        self
    }

    /// Sets how many bytes stacks, span paths and label sets may take in the whole process (default
    /// 32 MiB, at least 1 MiB). [`Stats::bytes`](crate::Stats::bytes) says what they take.
    ///
    /// A stack of 30 frames takes about 400 bytes, for each thread that records it; a path about 128.
    /// When there is little room left, the stacks of all threads are added up, and those that have not
    /// changed since lose first the values of their labels, which become `[other]`, and then their
    /// frames: they stand under `[overflow]`. Totals stay exact, and new stacks are seen.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes.max(Self::LEAST_MEMORY);
        self
    }

    /// Sets how many bytes of resolved names are kept between two reads (default 4 MiB).
    #[must_use]
    pub const fn symbol_cache(mut self, bytes: usize) -> Self {
        self.symbol_cache = bytes;
        self
    }

    /// Has the program write every thread to the standard error stream, in the form of
    /// [`write_threads`](crate::write_threads), when it gets SIGQUIT (Ctrl-\, `kill -QUIT`), and then do what
    /// it did before at that signal: end, as Go programs do, unless it has a handler of its own. A second
    /// signal ends it at once. Default: false. Linux only.
    #[must_use]
    pub const fn dump_on_sigquit(mut self, dump: bool) -> Self {
        self.dump_on_sigquit = dump;
        self
    }

    /// Sets where names come from, unless a request says otherwise.
    #[must_use]
    pub const fn symbols(mut self, symbols: Symbols) -> Self {
        self.view.symbols = symbols;
        self
    }

    /// Sets which labels are shown, unless a request says otherwise.
    #[must_use]
    pub const fn labels(mut self, labels: LabelView) -> Self {
        self.view.labels = labels;
        self
    }

    /// Reads the configuration from the environment; a variable that is not set leaves the default.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `PROFILER_BLOCK_NS` | [`Rates::block_ns`] |
    /// | `PROFILER_MUTEX_NS` | [`Rates::mutex_ns`] |
    /// | `PROFILER_MUTEX_FRACTION` | [`Rates::mutex_fraction`] |
    /// | `PROFILER_HEAP_BYTES` | [`Rates::heap_bytes`] |
    /// | `PROFILER_STACK_DEPTH` | [`Config::stack_depth`], 1 to 1024 |
    /// | `PROFILER_MEMORY` | [`Config::memory`] |
    /// | `PROFILER_DUMP_ON_SIGQUIT` | [`Config::dump_on_sigquit`], `1` or `0` |
    /// | `PROFILER_SYMBOLS` | `dwarf`, `table` or `none` |
    /// | `PROFILER_LABELS` | names as in `?labels=`, separated by commas |
    ///
    /// # Errors
    ///
    /// A value that cannot be read; the message names the variable and what it accepts.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| {
            std::env::var_os(name).map(|v| v.to_string_lossy().into_owned())
        })
    }

    fn from_variables(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        /// Reads one variable; an unset or empty one leaves the default.
        fn read<T>(
            name: &'static str,
            value: Option<String>,
            accepted: &'static str,
            parse: impl FnOnce(&str) -> Option<T>,
        ) -> Result<Option<T>, ConfigError> {
            let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
            let error = || ConfigError { variable: name, value: value.clone(), accepted };
            parse(value.trim()).map(Some).ok_or_else(error)
        }
        const NANOSECONDS: &str = "a whole number of nanoseconds (1 records all, 0 nothing)";
        let mut config = Self::default();
        let number = |name, accepted| {
            read(name, variable(name), accepted, |value| value.parse::<u64>().ok())
        };
        if let Some(nanoseconds) = number("PROFILER_BLOCK_NS", NANOSECONDS)? {
            config.rates.block_ns = nanoseconds;
        }
        if let Some(nanoseconds) = number("PROFILER_MUTEX_NS", NANOSECONDS)? {
            config.rates.mutex_ns = nanoseconds;
        }
        const BYTES: &str = "a whole number of bytes (1 records every allocation, 0 none)";
        if let Some(bytes) = number("PROFILER_HEAP_BYTES", BYTES)? {
            config.rates.heap_bytes = bytes;
        }
        let name = "PROFILER_MUTEX_FRACTION";
        let accepted = "a whole number (1 records every charge, N one in N, 0 none)";
        if let Some(fraction) = read(name, variable(name), accepted, |value| value.parse().ok())? {
            config.rates.mutex_fraction = fraction;
        }
        let name = "PROFILER_STACK_DEPTH";
        let depth = |value: &str| {
            value.parse().ok().filter(|depth| (1..=Self::MAX_STACK_DEPTH).contains(depth))
        };
        let accepted = "a whole number of frames from 1 to 1024";
        if let Some(depth) = read(name, variable(name), accepted, depth)? {
            config.stack_depth = depth;
        }
        let accepted = "a whole number of bytes, at least 1048576";
        if let Some(bytes) = number("PROFILER_MEMORY", accepted)? {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if bytes < Self::LEAST_MEMORY {
                let value = bytes.to_string();
                return Err(ConfigError { variable: "PROFILER_MEMORY", value, accepted });
            }
            config.memory = bytes;
        }
        let name = "PROFILER_DUMP_ON_SIGQUIT";
        let switch = |value: &str| match value {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        };
        if let Some(dump) = read(name, variable(name), "1 or 0", switch)? {
            config.dump_on_sigquit = dump;
        }
        let name = "PROFILER_SYMBOLS";
        let symbols = |value: &str| Symbols::from_name(value);
        if let Some(symbols) = read(name, variable(name), "dwarf, table or none", symbols)? {
            config.view.symbols = symbols;
        }
        let name = "PROFILER_LABELS";
        let accepted =
            "names out of span, thread, acquired_at, state, wait and all, separated by commas";
        let labels = |value: &str| LabelView::from_names(value).ok();
        if let Some(labels) = read(name, variable(name), accepted, labels)? {
            config.view.labels = labels;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, value: &str) -> Result<Config, String> {
        Config::from_variables(|wanted| (wanted == name).then(|| value.to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn variables_replace_defaults() {
        assert_eq!(config("", ""), Ok(Config::default()));
        let rates = |name, value| config(name, value).expect("accepted").rates;
        assert_eq!(rates("PROFILER_BLOCK_NS", "1"), Rates::DEFAULT.block_ns(1));
        assert_eq!(rates("PROFILER_MUTEX_NS", " 0 "), Rates::DEFAULT.mutex_ns(0));
        assert_eq!(rates("PROFILER_MUTEX_FRACTION", "7"), Rates::DEFAULT.mutex_fraction(7));
        assert_eq!(rates("PROFILER_HEAP_BYTES", "0"), Rates::DEFAULT.heap_bytes(0));
        assert_eq!(config("PROFILER_MEMORY", "2097152").expect("accepted").memory, 2 << 20);
        assert_eq!(config("PROFILER_STACK_DEPTH", "64").expect("accepted").stack_depth, 64);
        assert!(config("PROFILER_DUMP_ON_SIGQUIT", "1").expect("accepted").dump_on_sigquit);
        let view = |name, value| config(name, value).expect("accepted").view;
        assert_eq!(view("PROFILER_SYMBOLS", "table").symbols, Symbols::SymbolTable);
        assert!(view("PROFILER_LABELS", "span, wait").labels.span);
        assert_eq!(view("PROFILER_LABELS", "all").labels, LabelView::ALL);
        assert_eq!(config("PROFILER_LABELS", ""), Ok(Config::default()));
    }

    #[test]
    fn a_bad_value_is_refused_with_what_is_accepted() {
        for (name, value, accepted) in [
            ("PROFILER_BLOCK_NS", "10us", "nanoseconds"),
            ("PROFILER_MUTEX_NS", "-1", "nanoseconds"),
            ("PROFILER_MUTEX_FRACTION", "1.5", "whole number"),
            ("PROFILER_HEAP_BYTES", "512k", "bytes"),
            ("PROFILER_STACK_DEPTH", "0", "from 1 to 1024"),
            ("PROFILER_STACK_DEPTH", "1025", "from 1 to 1024"),
            ("PROFILER_MEMORY", "1000", "at least 1048576"),
            ("PROFILER_MEMORY", "32M", "bytes"),
            ("PROFILER_DUMP_ON_SIGQUIT", "yes", "1 or 0"),
            ("PROFILER_SYMBOLS", "yes", "dwarf, table or none"),
            ("PROFILER_LABELS", "span,user", "acquired_at"),
        ] {
            let message = config(name, value).expect_err("refused");
            assert!(message.contains(name) && message.contains(accepted), "{message}");
        }
    }
}
