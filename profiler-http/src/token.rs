//! Tokens: the secret that opens an endpoint, and how a request shows it.

use std::hint::black_box;

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// A secret that every request must show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(Box<[u8]>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// What a token may be, for messages.
    pub(crate) const ACCEPTED: &'static str =
        "a token of at least one character, without control characters";

    /// Makes a token, unless no request could ever show it.
    pub(crate) fn new(secret: &[u8]) -> Option<Self> {
        let usable = !secret.is_empty() && !secret.iter().any(u8::is_ascii_control);
        usable.then(|| Self(secret.into()))
    }

    /// Tells whether the request shows this token, as `Authorization: Bearer TOKEN` or as the
    /// password of Basic authentication, whoever the user. A token in the query is not looked at:
    /// addresses end up in logs and histories.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some((scheme, credentials)) =
            headers.get(AUTHORIZATION).and_then(|value| split_once(value.as_bytes(), b' '))
        else {
            return false;
        };
        let credentials = credentials.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            self.is(credentials)
        } else if scheme.eq_ignore_ascii_case(b"basic") {
            decode_base64(credentials)
                .is_some_and(|pair| split_once(&pair, b':').is_some_and(|(_, it)| self.is(it)))
        } else {
            false
        }
    }

    /// Compares in a time that depends on the length only.
    ///
    /// NOTE: `black_box` keeps the optimizer from leaving the loop early. A crate for this would
    /// be a dependency for one line.
    fn is(&self, shown: &[u8]) -> bool {
        self.0.len() == shown.len()
            && self.0.iter().zip(shown).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)))
                == 0
    }
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Decodes the standard alphabet, with or without padding.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let text = text.strip_suffix(b"=").unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut count) = (0_u32, 0);
    for &letter in text {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(authorization: &str, expected: bool) {
        let token = Token::new(b"open:sesame").unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        assert_eq!(token.is_shown(&headers), expected, "{authorization}");
    }

    #[test]
    fn a_token_is_taken_as_bearer_and_as_the_basic_password() {
        check("Bearer open:sesame", true);
        check("bearer  open:sesame", true);
        check("Basic Om9wZW46c2VzYW1l", true); // :open:sesame
        check("basic YW5uYTpvcGVuOnNlc2FtZQ==", true); // anna:open:sesame
        check("Basic YW5uYTpvcGVuOnNlc2FtZQ", true);
    }

    #[test]
    fn anything_else_is_refused() {
        check("", false);
        check("open:sesame", false);
        check("Bearer", false);
        check("Bearer ", false);
        check("Bearer open:sesam", false);
        check("Bearer open:sesame!", false);
        check("Bearer Open:sesame", false);
        check("Basic open:sesame", false);
        check("Basic b3BlbjpzZXNhbWU=", false); // open:sesame, so the password is sesame
        check("Digest open:sesame", false);
        assert!(!Token::new(b"x").unwrap().is_shown(&HeaderMap::new()));
    }

    #[test]
    fn a_token_that_no_request_can_show_is_none() {
        assert!(Token::new(b"").is_none());
        assert!(Token::new(b"two\nlines").is_none());
        assert!(Token::new("schlüssel".as_bytes()).is_some());
    }

    #[test]
    fn a_token_is_not_shown_in_debug_output() {
        assert_eq!(format!("{:?}", Token::new(b"secret")), "Some(Token(..))");
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_base64(&text);
        }
    }
}
