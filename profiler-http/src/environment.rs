//! The environment: what whoever runs a program says about its endpoints.

use std::ffi::OsString;

use crate::error::ServeError;
use crate::token::Token;

/// What the environment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Environment {
    /// `PROFILER_DISABLED=1`: no endpoint, nothing is recorded.
    Disabled,
    Enabled {
        /// `PROFILER_ADDR`: listen here and not where the program says.
        address: Option<String>,
        /// `PROFILER_TOKEN` or the content of `PROFILER_TOKEN_FILE`.
        token: Option<Token>,
    },
}

impl Environment {
    pub(crate) fn read() -> Result<Self, ServeError> {
        Self::from(std::env::var_os::<&'static str>)
    }

    fn from(variable: impl Fn(&'static str) -> Option<OsString>) -> Result<Self, ServeError> {
        if disabled(&variable)? {
            return Ok(Self::Disabled);
        }
        let address = variable("PROFILER_ADDR")
            .map(|value| value.into_string().map_err(|value| address_refused(&value)))
            .transpose()?;
        Ok(Self::Enabled { address, token: token(&variable)? })
    }
}

const DISABLED: &str = "PROFILER_DISABLED";
const ADDRESS: &str = "PROFILER_ADDR";
const TOKEN: &str = "PROFILER_TOKEN";
const TOKEN_FILE: &str = "PROFILER_TOKEN_FILE";

fn disabled(variable: impl Fn(&'static str) -> Option<OsString>) -> Result<bool, ServeError> {
    match variable(DISABLED) {
        None => Ok(false),
        Some(value) => match value.to_str() {
            Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            _ => Err(ServeError::Environment {
                variable: DISABLED,
                problem: format!("is {value:?}"),
                accepted: "0, 1, true or false",
            }),
        },
    }
}

fn address_refused(value: &OsString) -> ServeError {
    address_error(&format!("is {value:?}"))
}

/// Says that `PROFILER_ADDR` cannot be used.
pub(crate) fn address_error(problem: &str) -> ServeError {
    ServeError::Environment {
        variable: ADDRESS,
        problem: problem.to_owned(),
        accepted: "a host and a port, such as 127.0.0.1:6060 or localhost:0",
    }
}

/// Says that `PROFILER_ADDR` leads to other machines, and nothing guards it.
pub(crate) fn address_not_guarded(address: &str) -> ServeError {
    ServeError::Environment {
        variable: ADDRESS,
        problem: format!("is {address:?}, which other machines can reach"),
        accepted: "a loopback address, unless PROFILER_TOKEN or PROFILER_TOKEN_FILE is set",
    }
}

fn token(variable: impl Fn(&'static str) -> Option<OsString>) -> Result<Option<Token>, ServeError> {
    match (variable(TOKEN), variable(TOKEN_FILE)) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(ServeError::Environment {
            variable: TOKEN,
            problem: format!("is set, and so is {TOKEN_FILE}"),
            accepted: "a token, and only one of the two may be set",
        }),
        (Some(secret), None) => usable(TOKEN, secret.as_encoded_bytes(), "holds none").map(Some),
        (None, Some(path)) => {
            let secret = std::fs::read(&path).map_err(|error| ServeError::Environment {
                variable: TOKEN_FILE,
                problem: format!("is {path:?}, which cannot be read ({error})"),
                accepted: "the path of a file that holds the token in one line",
            })?;
            // Editors and `echo` end the line.
            let line = secret.strip_suffix(b"\n").unwrap_or(&secret);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            usable(TOKEN_FILE, line, &format!("is {path:?}, which holds none")).map(Some)
        }
    }
}

fn usable(variable: &'static str, secret: &[u8], problem: &str) -> Result<Token, ServeError> {
    Token::new(secret).ok_or_else(|| ServeError::Environment {
        variable,
        problem: problem.to_owned(),
        accepted: Token::ACCEPTED,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&'static str, &str)]) -> Result<Environment, String> {
        Environment::from(|name| {
            variables.iter().find(|(found, _)| *found == name).map(|(_, value)| value.into())
        })
        .map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(variables: &[(&'static str, &str)], words: &[&str]) {
        let message = read(variables).expect_err("it should be refused");
        for word in words {
            assert!(message.contains(word), "{word:?} is missing in {message:?}");
        }
    }

    #[test]
    fn nothing_set_changes_nothing() {
        assert_eq!(read(&[]), Ok(Environment::Enabled { address: None, token: None }));
    }

    #[test]
    fn disabled_takes_four_words() {
        for (value, disabled) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            let read = read(&[(DISABLED, value)]).unwrap();
            assert_eq!(read == Environment::Disabled, disabled, "{value}");
        }
        for value in ["", "yes", "2", "TRUE"] {
            refused(&[(DISABLED, value)], &[DISABLED, value, "0, 1, true or false"]);
        }
    }

    #[test]
    fn what_is_disabled_is_not_checked_further() {
        assert_eq!(read(&[(DISABLED, "1"), (TOKEN, "")]), Ok(Environment::Disabled));
    }

    #[test]
    fn the_address_is_taken_as_it_stands() {
        let expected = Environment::Enabled { address: Some("localhost:0".into()), token: None };
        assert_eq!(read(&[(ADDRESS, "localhost:0")]), Ok(expected));
    }

    #[test]
    fn a_token_is_read_from_the_variable_or_a_file() {
        let expected = Environment::Enabled { address: None, token: Token::new(b"secret") };
        assert_eq!(read(&[(TOKEN, "secret")]), Ok(expected.clone()));
        for content in ["secret", "secret\n", "secret\r\n"] {
            let file = TemporaryFile::new(content);
            assert_eq!(read(&[(TOKEN_FILE, file.path())]), Ok(expected.clone()), "{content:?}");
        }
    }

    #[test]
    fn tokens_that_cannot_be_used_are_refused() {
        refused(&[(TOKEN, "")], &[TOKEN, "at least one character"]);
        refused(&[(TOKEN, "a\nb")], &[TOKEN, "without control characters"]);
        refused(&[(TOKEN, "a"), (TOKEN_FILE, "b")], &[TOKEN, TOKEN_FILE, "only one of the two"]);
        refused(&[(TOKEN_FILE, "no/such/file")], &[TOKEN_FILE, "no/such/file", "cannot be read"]);
        let file = TemporaryFile::new("\n");
        refused(&[(TOKEN_FILE, file.path())], &[TOKEN_FILE, file.path(), "at least one character"]);
    }

    #[test]
    fn messages_do_not_hold_the_token() {
        let message = read(&[(TOKEN, "se\ncret")]).unwrap_err();
        assert!(!message.contains("cret"), "{message}");
    }

    struct TemporaryFile(std::path::PathBuf);

    impl TemporaryFile {
        fn new(content: &str) -> Self {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("profiler-token-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, content).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for TemporaryFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}
