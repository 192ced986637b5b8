//! Why an endpoint could not be opened.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::Location;

use profiler_core::__private::see_to_tending;
use profiler_core::{ConfigError, StartError};

use crate::token::Token;

/// An endpoint could not be opened; the message says what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// The address could not be read or resolved.
    Address(io::Error),
    /// The address can be reached from other machines, and nothing was said about who may read.
    NotLoopback(SocketAddr),
    /// The address cannot be listened on.
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        error: io::Error,
    },
    /// An endpoint runs already.
    AlreadyServing {
        /// Where it listens.
        address: SocketAddr,
        /// Where it was opened.
        first: &'static Location<'static>,
    },
    /// The token given to [`Access::token`](crate::Access::token) is one that no request can show.
    Token,
    /// An environment variable of the endpoint cannot be used.
    Environment {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it, for example `is "maybe"`.
        problem: String,
        /// What it takes.
        accepted: &'static str,
    },
    /// An environment variable of the profiler cannot be used.
    Config(ConfigError),
    /// The thread that answers could not be started.
    Thread(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => write!(
                f,
                "the address cannot be used ({error}): it takes a host and a port, such as 127.0.0.1:6060"
            ),
            Self::NotLoopback(address) => write!(
                f,
                "{address} can be reached from other machines: use serve_with and say who may read, \
                 with Access::token(…) or Access::already_protected()"
            ),
            Self::Bind { address, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{address} is in use ({error}): choose another port, or port 0 for one that is free; \
                 PROFILER_ADDR replaces the address"
            ),
            Self::Bind { address, error } => write!(f, "{address} cannot be listened on: {error}"),
            Self::AlreadyServing { address, first } => write!(
                f,
                "the profiler already serves on {address}, opened at {first}: shut that endpoint down first"
            ),
            Self::Token => write!(f, "Access::token takes {}", Token::ACCEPTED),
            Self::Environment { variable, problem, accepted } => {
                write!(f, "{variable} {problem}: it takes {accepted}")
            }
            Self::Config(error) => error.fmt(f),
            Self::Thread(error) => {
                write!(f, "the thread that serves profiles could not be started: {error}")
            }
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(error) | Self::Bind { error, .. } | Self::Thread(error) => Some(error),
            Self::Config(error) => Some(error),
            Self::NotLoopback(_)
            | Self::AlreadyServing { .. }
            | Self::Token
            | Self::Environment { .. } => None,
        }
    }
}

/// Starts the profiler, unless it was started before.
#[track_caller]
pub(crate) fn start_profiler() -> Result<(), ServeError> {
    // What the environment says about a start is of no interest after it.
    if profiler_core::stats().started {
        // In the child of a fork its thread is not there.
        see_to_tending();
        return Ok(());
    }
    let config = profiler_core::Config::from_env().map_err(ServeError::Config)?;
    match profiler_core::start(config) {
        Err(StartError::Config(error)) => Err(ServeError::Config(error)),
        // Another thread was quicker.
        _ => Ok(()),
    }
}
