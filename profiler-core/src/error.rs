//! What can go wrong, each in a sentence for the person who reads it.

use std::fmt;
use std::panic::Location;

use crate::kind::Kind;

/// An environment variable holds a value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub(crate) variable: &'static str,
    pub(crate) value: String,
    pub(crate) accepted: &'static str,
}

impl ConfigError {
    /// Returns the name of the variable.
    #[must_use]
    pub const fn variable(&self) -> &'static str {
        self.variable
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, accepted } = self;
        write!(f, "{variable}={value:?} cannot be used: it takes {accepted}")
    }
}

impl std::error::Error for ConfigError {}

/// The profiler could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// It runs already; the first caller's configuration stays.
    AlreadyStarted {
        /// Where the first start was.
        first: &'static Location<'static>,
    },
    /// The environment cannot be used.
    Config(ConfigError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyStarted { first } => {
                write!(
                    f,
                    "the profiler was already started at {first}; use set_rates to change rates"
                )
            }
            Self::Config(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::AlreadyStarted { .. } => None,
            Self::Config(error) => Some(error),
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// This platform or build cannot give that profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    pub(crate) kind: Kind,
    pub(crate) reason: &'static str,
}

impl Unavailable {
    /// Returns the profile that was asked for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "profile {} is not available: {}", self.kind, self.reason)
    }
}

impl std::error::Error for Unavailable {}
