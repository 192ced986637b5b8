//! The legacy text form, `debug=1`.
//!
//! Lines that begin with `#` are for people; tools read the others. Addresses behind `@` are
//! return addresses, one behind the call, as the legacy form has them; in `#` lines they are the
//! calls.

use std::io::{self, BufWriter, Write};

use crate::kind::{Kind, TextForm};
use crate::profile::{Label, Location, Profile, Row, Value};

impl Profile {
    /// Writes the legacy text form, as `debug=1` gives it.
    ///
    /// # Errors
    ///
    /// What the writer returns.
    pub fn write_text(&self, writer: impl Write) -> io::Result<()> {
        let mut writer = BufWriter::new(writer);
        match self.kind().description().text {
            TextForm::Count => counts(self, &mut writer)?,
            TextForm::Contention => contentions(self, &mut writer)?,
        }
        writer.flush()
    }
}

/// Writes `NAME profile: total N` and a record for each stack, largest count first.
fn counts(profile: &Profile, writer: &mut impl Write) -> io::Result<()> {
    let total: i64 = profile.rows().iter().fold(0, |sum, row| sum.wrapping_add(row.values[0]));
    writeln!(writer, "{} profile: total {total}", profile.kind())?;
    let mut rows: Vec<&Row> = profile.rows().iter().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.values[0]));
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
        match value {
            Value::Text(text) => write!(writer, "{comma}{}:{}", quoted(key), quoted(text))?,
            Value::Number(number, unit) => {
                write!(writer, "{comma}{}:\"{number} {unit}\"", quoted(key))?;
            }
        }
    }
    writeln!(writer, "}}")
}

fn frames(profile: &Profile, row: &Row, writer: &mut impl Write) -> io::Result<()> {
    for location in stack(profile, row) {
        let (address, offset) = (location.address, location.resolved.offset);
        if location.lines().is_empty() {
            writeln!(writer, "#\t{address:#x}")?;
        }
        for line in location.lines() {
            let (function, line) = (&line.function, line.line);
            writeln!(
                writer,
                "#\t{address:#x}\t{}+{offset:#x}\t{}:{line}",
                function.name, function.file
            )?;
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
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
