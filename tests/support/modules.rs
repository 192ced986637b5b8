//! Where the code of libraries is in memory.

use std::fs;
use std::ops::Range;

/// Returns where the code is of those whose path has `name` in it.
///
/// # Panics
///
/// There is none.
#[must_use]
#[track_caller]
pub fn code_of(name: &str) -> Vec<Range<u64>> {
    let maps = fs::read_to_string("/proc/self/maps").expect("the kernel lists mappings");
    let code: Vec<_> = maps.lines().filter(|line| line.contains(name)).filter_map(code).collect();
    assert!(!code.is_empty(), "{name} is not loaded");
    code
}

/// Reads `7f…-7f… r-xp …`.
fn code(line: &str) -> Option<Range<u64>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    rest.starts_with("r-xp").then_some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_data() {
        assert_eq!(code("1000-2f00 r-xp 00000000 08:01 1 /lib/libc.so.6"), Some(0x1000..0x2f00));
        assert_eq!(code("1000-2f00 r--p 00000000 08:01 1 /lib/libc.so.6"), None);
    }
}
