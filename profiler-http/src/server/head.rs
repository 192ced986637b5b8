//! The head of a request: request line and headers.

use http::header::{CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode};

use crate::response::{Response, plain};

/// The longest head that is read. Browsers send 1 or 2 KiB, tools much less.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// The most headers that are read; browsers send about 20.
const MAX_HEADERS: usize = 100;

/// A request without its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: Method,
    /// As it was sent, percent-encoded.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
}

/// Parses what has come so far: the head and its length, or nothing if more has to come.
///
/// # Errors
///
/// The response to what is no request.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Response> {
    let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut storage);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(plain(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "431 Request Header Fields Too Large: at most 16 KiB and 100 headers are read",
            ));
        }
        Err(httparse::Error::Version) => {
            return Err(plain(
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                "505 HTTP Version Not Supported: this is HTTP/1.1",
            ));
        }
        Err(error) => return Err(bad_request(&error.to_string())),
    };
    // A complete request has all three.
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(bad_request("the request line is not complete"));
    };
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| bad_request("bad method"))?;
    let mut headers = header_map(request.headers)?;
    let target = match target.split_once("://") {
        // As sent to a proxy, and then its host counts.
        Some((_, rest)) if !target.starts_with('/') => {
            let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            let host = HeaderValue::from_str(host).map_err(|_| bad_request("bad host"))?;
            headers.insert(HOST, host);
            path
        }
        _ => target,
    };
    match headers.get_all(HOST).iter().count() {
        1 => {}
        0 if version == 0 => {}
        0 => return Err(bad_request("missing required Host header")),
        _ => return Err(bad_request("too many Host headers")),
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let head = Head { method, path: path.to_owned(), query: query.to_owned(), headers };
    Ok(Some((head, length)))
}

fn header_map(headers: &[httparse::Header<'_>]) -> Result<HeaderMap, Response> {
    headers.iter().try_fold(HeaderMap::with_capacity(headers.len()), |mut map, header| {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let value = HeaderValue::from_bytes(header.value);
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(bad_request("invalid header"));
        };
        map.append(name, value);
        Ok(map)
    })
}

impl Head {
    /// Returns the length of the body.
    ///
    /// # Errors
    ///
    /// The response to a request that does not say it in one way.
    pub(super) fn body_length(&self) -> Result<usize, Response> {
        if self.headers.contains_key(TRANSFER_ENCODING) {
            return Err(plain(
                StatusCode::LENGTH_REQUIRED,
                "411 Length Required: chunked bodies are not read, send Content-Length",
            ));
        }
        let mut lengths = self.headers.get_all(CONTENT_LENGTH).iter();
        let Some(length) = lengths.next() else { return Ok(0) };
        if lengths.any(|other| other != length) {
            return Err(bad_request("two different Content-Length headers"));
        }
        let digits = length.to_str().unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad_request("Content-Length is no number"));
        }
        // Longer than any number is too large, and is answered so.
        Ok(digits.parse().unwrap_or(usize::MAX))
    }
}

fn bad_request(problem: &str) -> Response {
    plain(StatusCode::BAD_REQUEST, &format!("400 Bad Request: {problem}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Option<(Head, usize)>, u16> {
        parse(text.as_bytes()).map_err(|response| response.status().as_u16())
    }

    #[track_caller]
    fn check(target: &str, path: &str, query: &str, host: &str) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\nrest");
        let (head, length) = parsed(&text).unwrap().unwrap();
        assert_eq!((head.path.as_str(), head.query.as_str()), (path, query), "{target}");
        assert_eq!(head.headers[HOST], host);
        assert_eq!(&text[length..], "rest");
    }

    #[track_caller]
    fn refused(text: &str, status: u16) {
        assert_eq!(parsed(text).map(|_| ()), Err(status), "{text:?}");
    }

    #[track_caller]
    fn length(headers: &str, expected: Result<usize, u16>) {
        let text = format!("POST / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let (head, _) = parsed(&text).unwrap().unwrap();
        let length = head.body_length().map_err(|response| response.status().as_u16());
        assert_eq!(length, expected, "{headers:?}");
    }

    #[test]
    fn a_target_is_path_and_query() {
        check("/debug/pprof/mutex?debug=1", "/debug/pprof/mutex", "debug=1", "localhost");
        check("/a?b?c", "/a", "b?c", "localhost");
        check("/a#b?c", "/a#b", "c", "localhost");
        check("/<script>", "/<script>", "", "localhost");
        check("/a://b", "/a://b", "", "localhost");
        check("*", "*", "", "localhost");
        check("http://example.org/a?b", "/a", "b", "example.org");
        check("http://example.org", "", "", "example.org");
        check("http://example.org?b", "", "b", "example.org");
    }

    #[test]
    fn an_unfinished_head_waits_for_more() {
        assert!(parsed("").unwrap().is_none());
        assert!(parsed("GET / HTTP/1.1\r\nHost: local").unwrap().is_none());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        refused("nonsense\r\n\r\n", 400);
        refused("GET /\r\n\r\n", 400);
        refused("GET / HTTP/2.0\r\n\r\n", 505);
        refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
        refused("\u{16}\u{3}\u{1}\u{2}", 400);
        refused("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400);
        refused("GET / HTTP/1.1\r\n\r\n", 400);
        refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
        refused(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_HEAD)), 431);
        refused(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1)), 431);
    }

    #[test]
    fn http_1_0_needs_no_host() {
        assert!(parsed("GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn the_length_of_a_body_is_said_in_one_way() {
        length("", Ok(0));
        length("Content-Length: 7\r\n", Ok(7));
        length("Content-Length: 7\r\nContent-Length: 7\r\n", Ok(7));
        length("Content-Length: 99999999999999999999999\r\n", Ok(usize::MAX));
        length("Content-Length: 7\r\nContent-Length: 8\r\n", Err(400));
        length("Content-Length: +7\r\n", Err(400));
        length("Content-Length:\r\n", Err(400));
        length("Transfer-Encoding: chunked\r\n", Err(411));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn parsing_what_looks_like_a_request_never_panics(
            method in "[A-Z]{1,8}",
            target in "[ -~]{1,30}|(http://)?[a-z/?#%]{0,20}",
            headers in "([A-Za-z-]{1,12}: ?[ -~]{0,20}\r\n){0,5}",
        ) {
            let text = format!("{method} {target} HTTP/1.1\r\n{headers}\r\n");
            if let Ok(Some((head, length))) = parse(text.as_bytes()) {
                prop_assert!(length <= text.len());
                let _ = head.body_length();
            }
        }
    }
}
