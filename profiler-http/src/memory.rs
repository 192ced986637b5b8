//! The part of the index page that shows memory: what Rust holds beside what the system counts.

use std::fmt::Write;

use profiler_core::Memory;

use crate::path::link;
use crate::response::escape_html;

/// Units of bytes, each 1024 times the one before.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Writes the part; `unavailable` says why there is no heap profile, if there is none. For `stripped` see [`link`].
pub(crate) fn section(memory: &Memory, unavailable: Option<&str>, stripped: bool) -> String {
    let mut part = String::from(TITLE);
    let mut row = |bytes: i128, what: &str| {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            part,
            "<tr><td>{}</td><td>{bytes}</td><td>{}</td></tr>",
            human(bytes),
            escape_html(what)
        );
    };
    if let Some(resident) = memory.resident_bytes {
        row(resident.into(), "resident: what the whole process has in memory now");
    }
    if let Some(allocations) = &memory.allocations {
        let live = allocations.live_bytes();
        row(
            live.into(),
            &format!(
                "live: what Rust allocated and did not free, {} objects",
                allocations.live_objects()
            ),
        );
        if let Some(resident) = memory.resident_bytes {
            row(i128::from(resident) - i128::from(live), REST);
        }
    }
    if let Some(peak) = memory.peak_resident_bytes {
        row(peak.into(), "peak: the most that was ever resident");
    }
    if let Some(allocations) = &memory.allocations {
        let what =
            format!("allocated in all: {} times, freed or not", allocations.allocated_objects);
        row(allocations.allocated_bytes.into(), &what);
    }
    part.push_str("</tbody>\n</table>\n");
    if memory.allocations.is_some() {
        let [heap, released] =
            ["debug=1", "gc=1&amp;debug=1"].map(|query| link("heap", query, stripped));
        let _ = write!(
            part,
            r#"<p>Live memory that keeps growing is a leak, which <a href="{heap}">heap</a> names; a rest that keeps growing
is C code's or fragmentation, of which <a href="{released}">heap?gc=1</a> gives back what it can.</p>
"#
        );
    }
    if let Some(unavailable) = unavailable {
        let _ = writeln!(part, "<pre>{}</pre>", escape_html(unavailable));
    }
    part
}

/// Returns a size as people read it, to a tenth of its unit.
fn human(bytes: i128) -> String {
    let mut size = bytes as f64;
    let mut unit = 0;
    // From here on a tenth would round up to 1024.
    while size.abs() >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0);
    format!("{size:.decimals$} {}", UNITS[unit])
}

const TITLE: &str = "\
<h2>Memory</h2>
<table class=memory>
<thead><tr><th>Size</th><th>Bytes</th><th></th></tr></thead>
<tbody>
";

/// What is below zero was allocated and never touched: the system gives no page before that.
const REST: &str = "the rest, resident without live: C memory, stacks, code, fragmentation, what the \
                    allocator keeps; less what Rust allocated and never touched";

#[cfg(test)]
mod tests {
    use profiler_core::Allocations;

    use super::*;

    fn allocations(allocated: u64, freed: u64) -> Option<Allocations> {
        let mut allocations = Allocations::default();
        (allocations.allocated_bytes, allocations.freed_bytes) = (allocated, freed);
        (allocations.allocated_objects, allocations.freed_objects) = (30, 10);
        Some(allocations)
    }

    /// Checks sizes and bytes of the rows, and the first word of each.
    #[track_caller]
    fn check(allocations: Option<Allocations>, resident: Option<u64>, expected: &[&str]) -> String {
        let mut memory = Memory::default();
        memory.allocations = allocations;
        (memory.resident_bytes, memory.peak_resident_bytes) = (resident, resident);
        let part = section(&memory, None, false);
        let rows = part.lines().filter_map(|line| line.strip_prefix("<tr><td>"));
        let rows: Vec<_> = rows
            .map(|row| {
                let cells = row.replace("</td><td>", " | ");
                cells.split([':', ',', '<']).next().unwrap_or_default().to_owned()
            })
            .collect();
        assert_eq!(rows, expected);
        part
    }

    #[test]
    fn the_rest_is_what_is_resident_and_not_live() {
        let part = check(
            allocations(5 << 20, 3 << 20),
            Some(3_000_000),
            &[
                "2.9 MiB | 3000000 | resident",
                "2.0 MiB | 2097152 | live",
                "881.7 KiB | 902848 | the rest",
                "2.9 MiB | 3000000 | peak",
                "5.0 MiB | 5242880 | allocated in all",
            ],
        );
        assert!(
            part.contains("not free, 20 objects") && part.contains("in all: 30 times"),
            "{part}"
        );
        assert!(part.contains("is a leak"), "{part}");
    }

    #[test]
    fn what_was_never_touched_is_not_resident() {
        check(
            allocations(8 << 30, 0),
            Some(1 << 30),
            &[
                "1.0 GiB | 1073741824 | resident",
                "8.0 GiB | 8589934592 | live",
                "-7.0 GiB | -7516192768 | the rest",
                "1.0 GiB | 1073741824 | peak",
                "8.0 GiB | 8589934592 | allocated in all",
            ],
        );
    }

    #[test]
    fn what_nobody_can_tell_has_no_row() {
        let part = check(
            None,
            Some(1 << 20),
            &["1.0 MiB | 1048576 | resident", "1.0 MiB | 1048576 | peak"],
        );
        assert!(!part.contains("leak"), "{part}");
        check(allocations(7, 0), None, &["7 B | 7 | live", "7 B | 7 | allocated in all"]);
        check(None, None, &[]);
    }

    #[test]
    fn why_there_is_no_heap_is_escaped() {
        let part = section(&Memory::default(), Some("Allocator<System>"), false);
        assert!(part.ends_with("<pre>Allocator&lt;System&gt;</pre>\n"), "{part}");
    }

    #[test]
    fn sizes_are_shown_to_a_tenth_of_their_unit() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (u64::MAX.into(), "16.0 EiB"),
            (-1536, "-1.5 KiB"),
        ] {
            assert_eq!(human(bytes), expected, "{bytes}");
        }
    }
}
