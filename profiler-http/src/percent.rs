//! Percent-encoding, as Go's `net/url` reads and writes it.

use std::fmt::Write;

/// How `+` is read: as a space in a query, as itself in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plus {
    Space,
    Itself,
}

/// Decodes `%XX`; nothing if a `%` is not followed by two hexadecimal digits.
///
/// Bytes that are no UTF-8 become U+FFFD, which is part of no profile's name.
pub(crate) fn decode(text: &str, plus: Plus) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'+' if plus == Plus::Space => b' ',
            other => other,
        });
    }
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Encodes a name for the path of a relative link; slashes stay.
pub(crate) fn encode_path(name: &str) -> String {
    encode(name, |byte| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte))
}

/// Encodes what may not stand in a header, and leaves the rest as it is.
pub(crate) fn encode_non_ascii(text: &str) -> String {
    encode(text, |byte| byte.is_ascii_graphic())
}

fn encode(text: &str, plain: impl Fn(u8) -> bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, plus: Plus, expected: Option<&str>) {
        assert_eq!(decode(text, plus).as_deref(), expected, "{text}");
    }

    #[test]
    fn escapes_are_decoded_and_bad_ones_refused() {
        check("%68eap", Plus::Itself, Some("heap"));
        check("a+b", Plus::Itself, Some("a+b"));
        check("a+b", Plus::Space, Some("a b"));
        check("%2B", Plus::Space, Some("+"));
        check("gr%C3%BCn", Plus::Itself, Some("grün"));
        check("%ff", Plus::Itself, Some("\u{fffd}"));
        check("%", Plus::Itself, None);
        check("%6", Plus::Itself, None);
        check("%zz", Plus::Itself, None);
        check("%+6", Plus::Itself, None);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text in ".*") {
            let _ = decode(&text, Plus::Space);
        }

        #[test]
        fn what_is_encoded_comes_back(name in ".*") {
            prop_assert_eq!(decode(&encode_path(&name), Plus::Itself), Some(name));
        }
    }
}
