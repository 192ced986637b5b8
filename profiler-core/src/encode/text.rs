//! The legacy text form, `debug=1`.
//!
//! Lines that begin with `#` are for people; tools read the others. Addresses behind `@` are
//! return addresses, one behind the call, as the legacy form has them; in `#` lines they are the
//! calls.

use std::io::{self, BufWriter, Write};

use super::report::report;
use crate::kind::{Kind, TextForm};
use crate::memory::Memory;
use crate::profile::{Label, Line, Location, Profile, Row};

impl Profile {
    /// Writes the text form that `debug=1` gives: Go's legacy form, where it has one, else a table of functions and folded
    /// stacks.
    ///
    /// Of a difference it is for people: tools take no negative total for a profile of the heap. Give
    /// them the binary form ([`Profile::write_to`]).
    ///
    /// # Errors
    ///
    /// What the writer returns.
    pub fn write_text(&self, writer: impl Write) -> io::Result<()> {
        let mut writer = BufWriter::new(writer);
        match self.kind().description().text {
            TextForm::Count => counts(self, &mut writer)?,
            TextForm::Contention => contentions(self, &mut writer)?,
            TextForm::Heap => heap(self, &mut writer)?,
            TextForm::Report => report(self, &mut writer)?,
        }
        for comment in self.comments() {
            writeln!(writer, "# {comment}")?;
        }
        writer.flush()
    }
}

/// Writes `NAME profile: total N` and a record for each stack, with its count; first those with most of what tools show first.
fn counts(profile: &Profile, writer: &mut impl Write) -> io::Result<()> {
    let total: i64 = profile.rows().iter().fold(0, |sum, row| sum.wrapping_add(row.values[0]));
    writeln!(writer, "{} profile: total {total}", profile.kind())?;
    let mut rows: Vec<&Row> = profile.rows().iter().collect();
    let shown_first = profile.kind().default_column();
    rows.sort_by_key(|row| std::cmp::Reverse(row.values[shown_first]));
    for row in rows {
        write!(writer, "{}", row.values[0])?;
        return_addresses(profile, row, writer)?;
        labels(profile, row, writer)?;
        frames(profile, row, writer)?;
        writeln!(writer)?;
    }
    Ok(())
}

/// Writes delay and count of each stack, longest delay first.
fn contentions(profile: &Profile, writer: &mut impl Write) -> io::Result<()> {
    // A cycle is a nanosecond here.
    if profile.kind() == Kind::Mutex {
        // What fraction was recorded is in the values already.
        writeln!(writer, "--- mutex:\ncycles/second=1000000000\nsampling period=1")?;
    } else {
        writeln!(writer, "--- contention:\ncycles/second=1000000000")?;
    }
    for row in profile.rows() {
        write!(writer, "{} {}", row.values[1], row.values[0])?;
        return_addresses(profile, row, writer)?;
        frames(profile, row, writer)?;
        // Behind the frames: readers expect those right behind the record.
        labels(profile, row, writer)?;
        writeln!(writer)?;
    }
    Ok(())
}

/// Writes objects and bytes that are alive and that were allocated, most bytes first: of `allocs` those allocated, else
/// those alive.
///
/// What follows `@` says that one byte in one is sampled: values are scaled already, so a reader
/// scales them by nothing, whatever the rates were.
fn heap(profile: &Profile, writer: &mut impl Write) -> io::Result<()> {
    let total = profile.totals();
    // Equal columns would have readers take the form for an older one, which has two.
    let distinct = i64::from(total[3] == total[1]);
    let heading = [total[0], total[1] + distinct, total[2], total[3]];
    heap_values(&heading, "heap profile: ", " @ heap/2", writer)?;
    writeln!(writer)?;
    let mut rows: Vec<&Row> = profile.rows().iter().collect();
    let shown_first = if profile.kind() == Kind::Allocs { 1 } else { 3 };
    rows.sort_by_key(|row| std::cmp::Reverse(row.values[shown_first]));
    for row in rows {
        heap_values(&row.values, "", "", writer)?;
        return_addresses(profile, row, writer)?;
        frames(profile, row, writer)?;
        labels(profile, row, writer)?;
        writeln!(writer)?;
    }
    profile.memory().map_or(Ok(()), |memory| memory_statistics(memory, writer))
}

/// Writes what the process held when the profile was read, for people, under those of Go's names whose
/// meaning is the same. What is not known is left out.
fn memory_statistics(memory: &Memory, writer: &mut impl Write) -> io::Result<()> {
    let rust = memory.allocations;
    let live_bytes = rust.map(|rust| rust.live_bytes());
    let figures = [
        ("Alloc", live_bytes),
        ("TotalAlloc", rust.map(|rust| rust.allocated_bytes)),
        ("Sys", memory.resident_bytes),
        ("Mallocs", rust.map(|rust| rust.allocated_objects)),
        ("Frees", rust.map(|rust| rust.freed_objects)),
        ("HeapAlloc", live_bytes),
        ("HeapObjects", rust.map(|rust| rust.live_objects())),
        ("MaxRSS", memory.peak_resident_bytes),
    ];
    writeln!(writer, "\n# runtime.MemStats")?;
    for (name, figure) in figures {
        if let Some(figure) = figure {
            writeln!(writer, "# {name} = {figure}")?;
        }
    }
    Ok(())
}

fn heap_values(
    [alloc_objects, alloc_space, inuse_objects, inuse_space]: &[i64; 4],
    before: &str,
    after: &str,
    writer: &mut impl Write,
) -> io::Result<()> {
    write!(writer, "{before}{inuse_objects}: {inuse_space} [{alloc_objects}: {alloc_space}]{after}")
}

fn return_addresses(profile: &Profile, row: &Row, writer: &mut impl Write) -> io::Result<()> {
    write!(writer, " @")?;
    for location in stack(profile, row) {
        write!(writer, " {:#x}", location.address + 1)?;
    }
    writeln!(writer)
}

fn labels(profile: &Profile, row: &Row, writer: &mut impl Write) -> io::Result<()> {
    let labels = &profile.label_sets()[row.labels as usize];
    if labels.is_empty() {
        return Ok(());
    }
    write!(writer, "# labels: {{")?;
    for (position, Label { key, value }) in labels.iter().enumerate() {
        let comma = if position == 0 { "" } else { ", " };
        write!(writer, "{comma}{}:{}", quoted(key), quoted(&value.to_string()))?;
    }
    writeln!(writer, "}}")
}

fn frames(profile: &Profile, row: &Row, writer: &mut impl Write) -> io::Result<()> {
    for location in stack(profile, row) {
        let (address, offset) = (location.address, location.resolved.offset);
        if location.lines().is_empty() {
            writeln!(writer, "#\t{address:#x}")?;
        }
        for Line { function, line } in location.lines() {
            write!(writer, "#\t{address:#x}\t{}+{offset:#x}", function.name)?;
            if !function.file.is_empty() {
                write!(writer, "\t{}:{line}", function.file)?;
            }
            writeln!(writer)?;
        }
    }
    Ok(())
}

fn stack<'a>(profile: &'a Profile, row: &'a Row) -> impl Iterator<Item = &'a Location> {
    row.stack.iter().map(|&id| &profile.locations()[id as usize])
}

/// Quotes a text as Go does.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            control if u32::from(control) < 0x20 || control == '\x7f' => {
                quoted.push_str("\\x");
                let digit = |value: u32| char::from_digit(value, 16).unwrap_or('0');
                quoted.extend([digit(u32::from(control) / 16), digit(u32::from(control) % 16)]);
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::testing::{
        MEMORY, NATIVE, START, allocated, key, labelled, native, profile, reading, sums,
    };
    use crate::merge::{Key, Rows, Stack, Sums, WAIT_BUCKETS};
    use crate::view::LabelView;

    const NAMES: &[(u64, &str)] = &[(START + 1, "inner | outer"), (START + 2, "main")];

    fn check(kind: Kind, rows: impl IntoIterator<Item = (Key, Sums)>, expected: &str) {
        let view = NATIVE.labels(LabelView { wait: true, ..LabelView::NONE });
        let profile = profile(reading(kind, view), &rows.into_iter().collect(), NAMES);
        let mut text = Vec::new();
        profile.write_text(&mut text).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn counts() {
        check(
            Kind::Goroutine,
            [
                (native(&[START + 1, START + 2]), sums(2, 0)),
                (
                    labelled(&[START + 9, START + 2], &[("a", "say \"x\"\n\u{1}"), ("b", "ü")]),
                    sums(40, 0),
                ),
                (key(Stack::Marker("[overflow]")), sums(1, 0)),
            ],
            concat!(
                "goroutine profile: total 43\n",
                "40 @ 0x10000a 0x100003\n",
                "# labels: {\"a\":\"say \\\"x\\\"\\n\\x01\", \"b\":\"ü\"}\n",
                "#\t0x100009\n",
                "#\t0x100002\tmain+0x5\t/srv/shop.rs:1\n",
                "\n",
                "2 @ 0x100002 0x100003\n",
                "#\t0x100001\tinner+0x5\t/srv/shop.rs:1\n",
                "#\t0x100001\touter+0x5\t/srv/shop.rs:2\n",
                "#\t0x100002\tmain+0x5\t/srv/shop.rs:1\n",
                "\n",
                "1 @ 0x10000000001168\n",
                "#\t0x10000000001167\t[overflow]+0x0\n",
                "\n",
            ),
        );
    }

    #[test]
    fn contentions() {
        let mut split = sums(2, 500);
        let mut waits = Box::new([(0, 0); WAIT_BUCKETS]);
        waits[4] = (2, 500);
        split.waits = Some(waits);
        check(
            Kind::Block,
            [(native(&[START + 2]), sums(1, 400)), (labelled(&[START + 1], &[("a", "b")]), split)],
            concat!(
                "--- contention:\n",
                "cycles/second=1000000000\n",
                "500 2 @ 0x100002\n",
                "#\t0x100001\tinner+0x5\t/srv/shop.rs:1\n",
                "#\t0x100001\touter+0x5\t/srv/shop.rs:2\n",
                "# labels: {\"a\":\"b\", \"wait\":\"256 nanoseconds\"}\n",
                "\n",
                "400 1 @ 0x100003\n",
                "#\t0x100002\tmain+0x5\t/srv/shop.rs:1\n",
                "\n",
            ),
        );
        check(
            Kind::Mutex,
            [(native(&[START + 2]), sums(1, 400))],
            concat!(
                "--- mutex:\n",
                "cycles/second=1000000000\n",
                "sampling period=1\n",
                "400 1 @ 0x100003\n",
                "#\t0x100002\tmain+0x5\t/srv/shop.rs:1\n",
                "\n",
            ),
        );
    }

    #[test]
    fn empty_profiles_have_a_heading() {
        check(Kind::Custom("my/own"), Rows::default(), "my/own profile: total 0\n");
        check(Kind::Block, Rows::default(), "--- contention:\ncycles/second=1000000000\n");
    }

    fn heap_text(profile: &Profile) -> String {
        let mut text = Vec::new();
        profile.write_text(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn heap_rows() -> Rows {
        let sized = |size, row: Key| Key { size, ..row };
        Rows::from_iter([
            (
                sized(64, labelled(&[START + 1, START + 2], &[("a", "b")])),
                allocated(4, 200, 3, 150),
            ),
            (sized(64, native(&[START + 2])), allocated(2, 128, 0, 0)),
            (sized(8, native(&[START + 9])), allocated(1, 8, 1, 8)),
        ])
    }

    #[test]
    fn heap() {
        let kept = concat!(
            "3: 150 [4: 200] @ 0x100002 0x100003\n",
            "#\t0x100001\tinner+0x5\t/srv/shop.rs:1\n",
            "#\t0x100001\touter+0x5\t/srv/shop.rs:2\n",
            "#\t0x100002\tmain+0x5\t/srv/shop.rs:1\n",
            "# labels: {\"a\":\"b\", \"bytes\":\"64\"}\n\n",
        );
        let freed = concat!(
            "0: 0 [2: 128] @ 0x100003\n",
            "#\t0x100002\tmain+0x5\t/srv/shop.rs:1\n",
            "# labels: {\"bytes\":\"64\"}\n\n",
        );
        let small = "1: 8 [1: 8] @ 0x10000a\n#\t0x100009\n# labels: {\"bytes\":\"8\"}\n\n";
        for (kind, records) in
            [(Kind::Heap, [kept, small, freed]), (Kind::Allocs, [kept, freed, small])]
        {
            let profile = profile(reading(kind, NATIVE), &heap_rows(), NAMES);
            let memory = concat!(
                "\n",
                "# runtime.MemStats\n",
                "# Alloc = 3000\n",
                "# TotalAlloc = 5000\n",
                "# Sys = 1048576\n",
                "# Mallocs = 50\n",
                "# Frees = 30\n",
                "# HeapAlloc = 3000\n",
                "# HeapObjects = 20\n",
                "# MaxRSS = 2097152\n",
            );
            let records = records.concat();
            assert_eq!(
                heap_text(&profile.with_memory(Some(MEMORY))),
                format!("heap profile: 4: 158 [7: 336] @ heap/2\n{records}{memory}")
            );
        }
    }

    #[test]
    fn the_columns_of_the_heap_always_differ() {
        let heading = |rows: Rows| {
            let text = heap_text(&profile(reading(Kind::Heap, NATIVE), &rows, NAMES));
            text.lines().next().unwrap().to_owned()
        };
        // Else tools take it for a form with two columns.
        assert_eq!(heading(Rows::default()), "heap profile: 0: 0 [0: 1] @ heap/2");
        let kept = Rows::from_iter([(native(&[START + 2]), allocated(1, 8, 1, 8))]);
        assert_eq!(heading(kept), "heap profile: 1: 8 [1: 9] @ heap/2");
    }

    #[test]
    fn what_was_freed_since_is_negative_and_comes_last() {
        let earlier = profile(reading(Kind::Heap, NATIVE), &heap_rows(), NAMES);
        let rows = heap_rows().into_iter().map(|(key, mut sums)| {
            sums.values = [sums.values[0], sums.values[1], 1, 5];
            (key, sums)
        });
        let later = profile(reading(Kind::Heap, NATIVE), &rows.collect(), NAMES);
        let text = heap_text(&later.since(&earlier));
        let numbers: Vec<_> = text.lines().filter_map(|line| line.split_once(" @")).collect();
        let numbers: Vec<_> = numbers.into_iter().map(|(numbers, _)| numbers).collect();
        let heading = "heap profile: -1: -143 [0: 0]";
        assert_eq!(numbers, [heading, "1: 5 [0: 0]", "0: -3 [0: 0]", "-2: -145 [0: 0]"]);
    }

    #[test]
    fn figures_of_memory_that_are_not_known_are_left_out() {
        let memory = Memory { allocations: None, resident_bytes: None, ..MEMORY };
        let profile = profile(reading(Kind::Heap, NATIVE), &Rows::default(), NAMES);
        let text = heap_text(&profile.with_memory(Some(memory)));
        assert!(text.ends_with("[0: 1] @ heap/2\n\n# runtime.MemStats\n# MaxRSS = 2097152\n"));
    }
}
