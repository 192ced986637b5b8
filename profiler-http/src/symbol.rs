//! `/symbol`: addresses in, mangled names out.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

/// The longest address that is read, as in Go: the size of its reader's buffer.
const MAX_TOKEN: usize = 4096;

/// Answers a list of addresses, separated by `+`.
///
/// The names are the mangled ones: `go tool pprof` demangles them itself, and would take a Rust
/// name that is already demangled for one of C++. Each address is looked up once and in ascending
/// order, so that each library's symbols have to be read once only.
pub(crate) fn answer(input: &[u8], mut symbol: impl FnMut(u64) -> Option<String>) -> String {
    let tokens = || input.split(|&byte| byte == b'+').take_while(|it| it.len() < MAX_TOKEN);
    let addresses: BTreeSet<_> = tokens().filter_map(address).collect();
    let names: HashMap<_, _> =
        addresses.into_iter().filter_map(|it| Some((it, symbol(it)?))).collect();

    // Tools only look whether the number is above 0.
    let mut text = String::from("num_symbols: 1\n");
    for address in tokens().filter_map(address) {
        if let Some(name) = names.get(&address) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{address:#x} {name}");
        }
    }
    if input.split(|&byte| byte == b'+').any(|it| it.len() >= MAX_TOKEN) {
        text.push_str("reading request: an address is too long\n");
    }
    text
}

/// Reads an address in hexadecimal, octal, binary or decimal, told by its prefix. Zero is none.
fn address(token: &[u8]) -> Option<u64> {
    let token = std::str::from_utf8(token).ok()?.to_ascii_lowercase();
    let (digits, base) = if let Some(digits) = token.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = token.strip_prefix("0b") {
        (digits, 2)
    } else if let Some(digits) = token.strip_prefix("0o") {
        (digits, 8)
    } else if let Some(digits) = token.strip_prefix('0') {
        (digits, 8)
    } else {
        (token.as_str(), 10)
    };
    // Rust would take a sign here.
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, base).ok().filter(|&address| address != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(input: &str, expected: &str) {
        let answer = answer(input.as_bytes(), |address| {
            (address < 0x1000).then(|| format!("_RNvCs_4shop_{address}"))
        });
        assert_eq!(answer.strip_prefix("num_symbols: 1\n"), Some(expected), "{input}");
    }

    #[test]
    fn known_addresses_are_named_and_others_left_out() {
        check("", "");
        check("0x10", "0x10 _RNvCs_4shop_16\n");
        check("0x10+0x2000+17", "0x10 _RNvCs_4shop_16\n0x11 _RNvCs_4shop_17\n");
        check("0XaB", "0xab _RNvCs_4shop_171\n");
        check("010", "0x8 _RNvCs_4shop_8\n");
        check("0b11+0o7", "0x3 _RNvCs_4shop_3\n0x7 _RNvCs_4shop_7\n");
    }

    #[test]
    fn what_is_no_address_is_passed_over() {
        check("0", "");
        check("++", "");
        check("-1", "");
        check("0x", "");
        check("0x-1", "");
        check("main", "");
        check("0x1ffffffffffffffff", "");
        check("debug=1+3", "0x3 _RNvCs_4shop_3\n");
    }

    #[test]
    fn a_token_that_is_too_long_ends_the_list() {
        let long = "1".repeat(MAX_TOKEN);
        check(
            &format!("3+{long}+4"),
            "0x3 _RNvCs_4shop_3\nreading request: an address is too long\n",
        );
    }

    #[test]
    fn each_address_is_looked_up_once_and_in_order() {
        let mut seen = Vec::new();
        let text = answer(b"3+1+2+1+3", |address| {
            seen.push(address);
            (address != 2).then(|| format!("f{address}"))
        });
        assert_eq!(seen, [1, 2, 3]);
        assert_eq!(text, "num_symbols: 1\n0x3 f3\n0x1 f1\n0x1 f1\n0x3 f3\n");
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = answer(&input, |_| Some("f".to_owned()));
            prop_assert!(answer.starts_with("num_symbols: 1\n") && answer.ends_with('\n'));
        }
    }
}
