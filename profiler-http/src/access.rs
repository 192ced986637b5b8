//! Access: who may read the profiles.
//!
//! Profiles tell how a program works, and collecting them costs time, so an open endpoint is a
//! hole. By default only this machine can reach it; everything else has to be said.

use http::StatusCode;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE};

use crate::error::ServeError;
use crate::response::{Response, error};
use crate::token::Token;

/// Who may read the profiles of an endpoint.
///
/// ```
/// use profiler_http::Access;
///
/// let access = Access::token("open sesame");
/// assert_eq!(format!("{access:?}"), "Access::token(..)");
/// ```
#[derive(Clone)]
pub struct Access(Rule);

#[derive(Clone)]
enum Rule {
    Token(Box<[u8]>),
    AlreadyProtected,
}

impl Access {
    /// Lets in whoever shows this token, as `Authorization: Bearer TOKEN` or as the password of
    /// Basic authentication with any user: `go tool pprof http://:TOKEN@host:6060/…`.
    ///
    /// A token is as safe as the line it travels on: use it behind TLS or in a network you trust.
    #[must_use]
    pub fn token(token: impl AsRef<[u8]>) -> Self {
        Self(Rule::Token(token.as_ref().into()))
    }

    /// Lets in everyone, because something in front (a firewall, a proxy, the application's own
    /// authentication) has decided already.
    #[must_use]
    pub const fn already_protected() -> Self {
        Self(Rule::AlreadyProtected)
    }

    /// Returns the token to ask for, if any.
    pub(crate) fn into_token(self) -> Result<Option<Token>, ServeError> {
        match self.0 {
            Rule::Token(secret) => Token::new(&secret).ok_or(ServeError::Token).map(Some),
            Rule::AlreadyProtected => Ok(None),
        }
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Rule::Token(_) => "Access::token(..)",
            Rule::AlreadyProtected => "Access::already_protected()",
        })
    }
}

/// Decides about each request, from its headers only.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    /// What a request must show, if anything.
    pub(crate) token: Option<Token>,
    /// Whether only this machine can reach us, so that a foreign name in `Host` means that a
    /// browser was led here.
    pub(crate) loopback: bool,
}

impl Guard {
    /// Lets a request pass or says why not.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Response> {
        if self.loopback {
            check_host(headers)?;
            check_browser(headers)?;
        }
        match &self.token {
            Some(token) if !token.is_shown(headers) => Err(unauthorized()),
            _ => Ok(()),
        }
    }
}

/// DNS rebinding: a page of example.org whose name now leads to 127.0.0.1 could read everything,
/// but its browser still says `Host: example.org`. Only HTTP/1.0 may come without that header.
fn check_host(headers: &HeaderMap) -> Result<(), Response> {
    match headers.get(HOST) {
        Some(host) if !host.to_str().is_ok_and(is_loopback) => Err(error(
            StatusCode::FORBIDDEN,
            "this endpoint listens on loopback and answers only to localhost, 127.0.0.0/8 and [::1] as Host",
        )),
        _ => Ok(()),
    }
}

/// Tells whether a `Host` header names this machine, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        // The colons of an address without a port end in a bracket.
        Some(_) | None => host,
    };
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// A foreign page may link to us, but may not make its visitors collect profiles by pictures and
/// scripts. Only browsers send these headers.
fn check_browser(headers: &HeaderMap) -> Result<(), Response> {
    let is = |name, value: &str| {
        headers.get(HeaderName::from_static(name)).is_some_and(|found| found == value)
    };
    let link = is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document");
    if is("sec-fetch-site", "cross-site") && !link {
        return Err(error(
            StatusCode::FORBIDDEN,
            "a page of another site may link here but may not fetch from here",
        ));
    }
    Ok(())
}

fn unauthorized() -> Response {
    let mut response = error(
        StatusCode::UNAUTHORIZED,
        "a token is needed: send Authorization: Bearer TOKEN, or put it into the address as http://:TOKEN@host:port/",
    );
    response.headers_mut().insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"profiler\", charset=\"UTF-8\""),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn host(name: &str, expected: bool) {
        assert_eq!(is_loopback(name), expected, "{name}");
    }

    #[track_caller]
    fn check(guard: &Guard, headers: &[(&'static str, &'static str)], expected: u16) {
        let map = headers
            .iter()
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
        let status = match guard.check(&map) {
            Ok(()) => 200,
            Err(response) => response.status().as_u16(),
        };
        assert_eq!(status, expected, "{headers:?}");
    }

    const LOOPBACK: Guard = Guard { token: None, loopback: true };

    #[test]
    fn names_of_this_machine_are_known() {
        host("localhost", true);
        host("localhost:6060", true);
        host("LOCALHOST.:6060", true);
        host("127.0.0.1", true);
        host("127.1.2.3:6060", true);
        host("[::1]", true);
        host("[::1]:6060", true);
        host("[0:0:0:0:0:0:0:1]:6060", true);
        host("", false);
        host(":6060", false);
        host("::1", false);
        host("example.org", false);
        host("localhost.example.org:6060", false);
        host("127.0.0.1.example.org", false);
        host("localhost:6060:x", false);
        host("10.0.0.1:6060", false);
        host("[::2]:6060", false);
        host("[::1", false);
        host("0.0.0.0", false);
    }

    #[test]
    fn a_foreign_host_is_refused_on_loopback() {
        check(&LOOPBACK, &[("host", "localhost:6060")], 200);
        check(&LOOPBACK, &[("host", "example.org")], 403);
        check(&LOOPBACK, &[], 200);
        check(&Guard { token: None, loopback: false }, &[("host", "example.org")], 200);
    }

    #[test]
    fn a_foreign_page_may_link_but_not_fetch() {
        let host = ("host", "localhost");
        let foreign = ("sec-fetch-site", "cross-site");
        let (navigate, document) = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"));
        check(&LOOPBACK, &[host, foreign], 403);
        check(&LOOPBACK, &[host, foreign, ("sec-fetch-mode", "no-cors")], 403);
        check(&LOOPBACK, &[host, foreign, navigate, ("sec-fetch-dest", "iframe")], 403);
        check(&LOOPBACK, &[host, foreign, navigate, document], 200);
        check(&LOOPBACK, &[host, ("sec-fetch-site", "same-origin")], 200);
        check(&LOOPBACK, &[host, ("sec-fetch-site", "none")], 200);
    }

    #[test]
    fn a_guarded_endpoint_asks_for_the_token() {
        let guard = Guard { token: Token::new(b"secret"), loopback: false };
        check(&guard, &[("authorization", "Bearer secret")], 200);
        check(&guard, &[], 401);
        let response = guard.check(&HeaderMap::new()).unwrap_err();
        assert!(response.headers()[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Basic realm="));
        assert_eq!(response.headers()["x-go-pprof"], "1");
    }
}
