//! One connection: one request, one response, then it is closed.
//!
//! Profiles are fetched every few seconds at most, so keeping connections open would save nothing
//! and hold threads.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Method, StatusCode};

use super::Context;
use super::date::http_date;
use super::head::{self, Head, MAX_HEAD};
use super::timed::{Timed, is_timeout};
use crate::params::Query;
use crate::path::{Mount, route};
use crate::respond::{COLLECTIONS, Gone, MAX_BODY, Pause, Request, body_too_large, respond};
use crate::response::{Response, error, finish, plain};

/// What a client may send besides what we ask for, while it waits or after it was answered.
const MAX_UNREAD: usize = 256 * 1024;

/// How long a client may take for each part.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To send the request line and the headers.
    pub(super) head: Duration,
    /// To send the body.
    pub(super) body: Duration,
    /// To take the response: 4 MiB in a minute is half a megabit per second.
    pub(super) response: Duration,
    /// To hang up after the response.
    pub(super) goodbye: Duration,
}

impl Patience {
    pub(super) const DEFAULT: Self = Self {
        head: Duration::from_secs(10),
        body: Duration::from_secs(10),
        response: Duration::from_mins(1),
        goodbye: Duration::from_secs(1),
    };
}

/// Reads a request and answers it. An error of the socket means that nobody is there to tell.
pub(super) fn answer(stream: &TcpStream, context: &Context) -> io::Result<()> {
    converse(stream, context.patience, |head, rest| {
        handle(stream, context, head, rest).unwrap_or_else(|response| response)
    })
}

/// Reads a request and says that there are too many.
pub(super) fn refuse(stream: &TcpStream, context: &Context) -> io::Result<()> {
    converse(stream, context.patience, |_, _| {
        error(StatusCode::SERVICE_UNAVAILABLE, "too many connections, try again in a moment")
    })
}

/// Says that this is the end, and waits for the client to say so too: closing while something is
/// unread resets the connection, and the client may then lose the response.
pub(super) fn part(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    discard(&mut Timed::new(stream, patience))
}

fn converse(
    stream: &TcpStream,
    patience: Patience,
    answer: impl FnOnce(&Head, Vec<u8>) -> Response,
) -> io::Result<()> {
    let (response, method) = match read_head(stream, patience.head)? {
        Ok((head, rest)) => (answer(&head, rest), head.method),
        Err(response) => (response, Method::GET),
    };
    let response = finish(response, &method);
    deliver(stream, &head_of(&response), patience)?;
    deliver(stream, response.body(), patience)
}

/// Writes to a client who may be slow to read, but not for ever.
pub(super) fn deliver(stream: &TcpStream, bytes: &[u8], patience: Patience) -> io::Result<()> {
    Timed::new(stream, patience.response).write_all(bytes)
}

/// Reads the head, and what came with it of the body.
fn read_head(
    stream: &TcpStream,
    patience: Duration,
) -> io::Result<Result<(Head, Vec<u8>), Response>> {
    let mut client = Timed::new(stream, patience);
    let mut bytes = Vec::with_capacity(2048);
    loop {
        match head::parse(&bytes) {
            Ok(None) => {}
            Ok(Some((head, length))) => return Ok(Ok((head, bytes.split_off(length)))),
            Err(response) => return Ok(Err(response)),
        }
        let mut chunk = [0; 2048];
        let room = chunk.len().min(MAX_HEAD - bytes.len());
        match client.read(&mut chunk[..room]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Browsers open connections that they never use: no need to answer those.
            Err(error) if is_timeout(&error) && !bytes.is_empty() => return Ok(Err(too_slow())),
            Err(error) => return Err(error),
        }
    }
}

fn handle(
    stream: &TcpStream,
    context: &Context,
    head: &Head,
    rest: Vec<u8>,
) -> Result<Response, Response> {
    context.guard.check(&head.headers)?;
    let route = route(Mount::Root, &head.method, &head.path, Query(&head.query))?;
    let body = if head.method == Method::POST {
        read_body(stream, context.patience.body, head, rest)?
    } else {
        Bytes::new()
    };
    let request = Request { route, method: head.method.clone(), query: head.query.clone(), body };
    Ok(respond(&request, &COLLECTIONS, &Client(stream)))
}

fn read_body(
    stream: &TcpStream,
    patience: Duration,
    head: &Head,
    mut body: Vec<u8>,
) -> Result<Bytes, Response> {
    let length = head.body_length()?;
    if length > MAX_BODY {
        return Err(body_too_large());
    }
    let mut client = Timed::new(stream, patience);
    if expects_continue(&head.headers)? && body.len() < length {
        // If this fails, so does the next read.
        let _ = client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    body.truncate(length);
    let missing = length - body.len();
    let read = client.take(missing as u64).read_to_end(&mut body);
    match read {
        Ok(read) if read == missing => Ok(body.into()),
        Err(error) if is_timeout(&error) => Err(too_slow()),
        _ => Err(plain(StatusCode::BAD_REQUEST, "400 Bad Request: the body ended too early")),
    }
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Response> {
    match headers.get(EXPECT) {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(plain(StatusCode::EXPECTATION_FAILED, "417 Expectation Failed")),
    }
}

fn too_slow() -> Response {
    plain(StatusCode::REQUEST_TIMEOUT, "408 Request Timeout: the request took too long to arrive")
}

fn head_of(response: &Response) -> Vec<u8> {
    let status = response.status();
    let mut head = format!(
        "HTTP/1.1 {} {}\r\nDate: {}\r\nConnection: close\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        http_date(SystemTime::now()),
    )
    .into_bytes();
    for (name, value) in response.headers() {
        head.extend(title_case(name.as_str()));
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Writes a header's name as Go does, for people who search with `grep`.
fn title_case(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().scan(true, |start, byte| {
        let upper = std::mem::replace(start, byte == b'-');
        Some(if upper { byte.to_ascii_uppercase() } else { byte })
    })
}

/// Reads until the client ends or sends more than anyone should; an error if the time is over.
fn discard(client: &mut impl Read) -> io::Result<()> {
    let mut chunk = [0; 2048];
    let mut read = 0;
    while read < MAX_UNREAD {
        match client.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => read += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A client that waits for its response.
struct Client<'a>(&'a TcpStream);

impl Pause for Client<'_> {
    /// Reads from the client, who has nothing more to say, so that its hanging up ends the wait.
    fn pause(&self, time: Duration) -> Result<(), Gone> {
        match discard(&mut Timed::new(self.0, time)) {
            Err(error) if is_timeout(&error) => Ok(()),
            _ => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_response_is_what_clients_expect() {
        let response = finish(error(StatusCode::NOT_FOUND, "Unknown profile"), &Method::GET);
        let head = String::from_utf8(head_of(&response)).unwrap();
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\nDate: "), "{head}");
        for line in ["Connection: close", "Content-Length: 16", "X-Go-Pprof: 1"] {
            assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
        }
        assert!(head.ends_with("\r\n\r\n"));
    }
}
