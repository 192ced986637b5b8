//! The command line.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const USAGE: &str = "\
Usage: shop [options]

  --addr ADDRESS  where the shop listens (default 127.0.0.1:0, any free port)
  --load N        customers that order without a pause (default 16; 0 for none)
  --seconds N     end after N seconds (default: at Ctrl-C)
  --no-repricing  never change prices, which is what holds the lock for too long
  --no-audit      keep no audit trail, which is what leaks (200 MiB at most)
  --no-profiler   neither endpoint nor layer, for comparison
  --help          show this

PROFILER_ADDR=127.0.0.1:6061 opens the profiler's endpoint elsewhere than at 127.0.0.1:6060.";

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) addr: String,
    pub(crate) load: u16,
    pub(crate) time: Option<Duration>,
    pub(crate) repricing: bool,
    pub(crate) audit: bool,
    pub(crate) profiler: bool,
    pub(crate) help: bool,
}

pub(crate) fn parse() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        addr: "127.0.0.1:0".to_owned(),
        load: 16,
        time: None,
        repricing: true,
        audit: true,
        profiler: true,
        help: false,
    };
    let mut arguments = Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("addr") => options.addr = value(&mut arguments, "--addr")?,
            Arg::Long("load") => options.load = value(&mut arguments, "--load")?,
            Arg::Long("seconds") => {
                let seconds: u32 = value(&mut arguments, "--seconds")?;
                options.time = Some(Duration::from_secs(seconds.into()));
            }
            Arg::Long("no-repricing") => options.repricing = false,
            Arg::Long("no-audit") => options.audit = false,
            Arg::Long("no-profiler") => options.profiler = false,
            Arg::Long("help") | Arg::Short('h') => options.help = true,
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

/// Returns the value of an option; an error names the option, which lexopt's own does not.
fn value<T: FromStr<Err: Display>>(
    arguments: &mut Parser,
    option: &str,
) -> Result<T, lexopt::Error> {
    let value = arguments.value()?.string()?;
    value.parse().map_err(|error| format!("{option} cannot be {value:?}: {error}").into())
}
