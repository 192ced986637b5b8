//! A small blocking HTTP/1.1 client: exactly the request that a test writes, and the response as it
//! stands on the wire.

use std::fmt::{self, Write as _};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A test that hangs fails after this long; no answer takes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What came back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Request {
    /// Makes a request; the target is the path with its query.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), ..Self::default() }
    }

    /// Makes a GET request.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// Adds a header field; `Host` replaces the one that is sent by itself.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body and its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// Sends the request on a connection of its own and reads the response to its end.
    ///
    /// # Panics
    ///
    /// The server cannot be reached or does not answer in HTTP/1.1.
    #[must_use]
    #[track_caller]
    pub fn send(&self, server: SocketAddr) -> Response {
        self.try_send(server).unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    /// The same for a server that may hang up.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or does not answer in HTTP/1.1.
    pub fn try_send(&self, server: SocketAddr) -> io::Result<Response> {
        let mut connection = TcpStream::connect(server)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        connection.write_all(&self.bytes(server))?;
        let mut bytes = Vec::new();
        connection.read_to_end(&mut bytes)?;
        Response::parse(&bytes, self.method == "HEAD")
    }

    fn bytes(&self, server: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let has_host = self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = ("Host".to_owned(), server.to_string());
        let connection = ("Connection".to_owned(), "close".to_owned());
        let own = (!has_host).then_some(&host).into_iter().chain([&connection]);
        for (name, value) in own.chain(&self.headers) {
            write!(head, "{name}: {value}\r\n").expect("writing to a string");
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)
    }
}

impl Response {
    /// Returns the value of a header field, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.headers.iter().find(same).map(|(_, value)| value.as_str())
    }

    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn parse(bytes: &[u8], is_head: bool) -> io::Result<Self> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
        let end = find(bytes, b"\r\n\r\n").ok_or_else(|| broken("the response has no head"))?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| broken("the head is no text"))?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|line| line.get(..3)?.parse().ok())
            .ok_or_else(|| broken("the status line is not of HTTP/1.1"))?;
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers = lines.map(field).collect::<Option<_>>().ok_or_else(|| broken("a field"))?;
        let mut response = Self { status, headers, body: Vec::new() };
        let rest = &bytes[end + 4..];
        if is_head {
            if !rest.is_empty() {
                return Err(broken("the answer to HEAD has a body"));
            }
        } else if response.header("transfer-encoding") == Some("chunked") {
            response.body = chunks(rest).ok_or_else(|| broken("the chunks are broken"))?;
        } else {
            if let Some(length) = response.header("content-length")
                && length.parse() != Ok(rest.len())
            {
                return Err(broken("the body has another length than announced"));
            }
            response.body = rest.to_vec();
        }
        Ok(response)
    }
}

fn chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return (rest == b"\r\n").then_some(body);
        }
        let (chunk, after) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: Result<(u16, &str), &str>) {
        let response = Response::parse(bytes.as_bytes(), false);
        let response = response.map(|response| (response.status, response.text()));
        assert_eq!(
            response
                .as_ref()
                .map(|(status, text)| (*status, text.as_str()))
                .map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }

    #[test]
    fn responses_are_read_in_both_framings() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Ok((200, "hi")));
        check(
            "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
            Ok((404, "abcd")),
        );
    }

    #[test]
    fn broken_responses_are_refused() {
        check("HTTP/1.1 200 OK", Err("the response has no head"));
        check("SPDY 200\r\n\r\n", Err("the status line is not of HTTP/1.1"));
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi",
            Err("the body has another length than announced"),
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            Err("the chunks are broken"),
        );
    }

    #[test]
    fn a_body_after_head_is_refused() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert!(Response::parse(bytes, true).is_err());
    }
}
