//! Every thread by itself, as `goroutine?debug=2` shows it in Go.
//!
//! What Go has no place for (the thread's name, the lock, who holds it) stands among the labels.

use std::io::{self, Write};

use crate::buffer::record::Waiting;
use crate::live::threads::{State, WaitState};
use crate::profile::{Frame, LabelValue, Profile, Sample};

/// Inner frames shown of a long stack, and as many outer ones.
const SHOWN: usize = 50;
const MINUTE: u64 = 60_000_000_000;

/// Writes threads, each after an empty line unless it is the `first` of all.
///
/// `profile` has one sample for each, whose label `thread` is its number.
pub(crate) fn write(
    writer: &mut impl Write,
    states: &[State],
    profile: &Profile,
    mut first: bool,
) -> io::Result<()> {
    for state in states {
        if !first {
            writeln!(writer)?;
        }
        first = false;
        let number = state.thread.to_string();
        let sample = profile.samples().find(|sample| sample.label("thread") == Some(&number));
        write!(writer, "goroutine {number} [{}]", status(state))?;
        labels(writer, state, sample)?;
        writeln!(writer, ":")?;
        if let Some(sample) = sample {
            frames(writer, shown(&sample.frames().collect::<Vec<_>>()))?;
        }
    }
    Ok(())
}

/// Writes what there is to say about them, for people.
pub(crate) fn write_remarks(writer: &mut impl Write, remarks: &[String]) -> io::Result<()> {
    for (position, remark) in remarks.iter().enumerate() {
        let before = if position == 0 { "\n" } else { "" };
        writeln!(writer, "{before}# {remark}")?;
    }
    Ok(())
}

/// Go's words for what a goroutine waits for, and for how many minutes.
fn status(state: &State) -> String {
    let Some(wait) = &state.wait else {
        return state.activity.marker().trim_matches(['[', ']']).to_owned();
    };
    let reason = match wait.waiting {
        Waiting::Mutex => "sync.Mutex.Lock",
        Waiting::Read => "sync.RWMutex.RLock",
        Waiting::Write => "sync.RWMutex.Lock",
        Waiting::Condvar => "sync.Cond.Wait",
        Waiting::Named | Waiting::No => state.key.waiting_for.unwrap_or("waiting"),
    };
    match wait.length / MINUTE {
        0 => reason.to_owned(),
        minutes => format!("{reason}, {minutes} minutes"),
    }
}

fn labels(writer: &mut impl Write, state: &State, sample: Option<Sample<'_>>) -> io::Result<()> {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    for (key, value) in sample.iter().flat_map(|sample| sample.labels()) {
        // The number stands at the front already, and the wait's kind in brackets.
        if let LabelValue::Text(text) = value
            && !matches!(key, "thread" | "kind")
        {
            labels.push((key, text));
        }
    }
    if !state.name.is_empty() {
        labels.push(("thread", &state.name));
    }
    if let Some(silence) = state.silence {
        labels.push(("no_stack", silence.reason()));
    }
    if let Some(WaitState { holder: Some(holder), .. }) = &state.wait {
        labels.push(("held_by", holder));
    }
    labels.sort_unstable();
    for (position, (key, value)) in labels.iter().enumerate() {
        let before = if position == 0 { " {" } else { ", " };
        write!(writer, "{before}{}: {}", word(key), word(value))?;
    }
    if !labels.is_empty() {
        write!(writer, "}}")?;
    }
    Ok(())
}

/// A plain word stands as it is, anything else in quotes with what is not ASCII escaped.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            ' '..='~' => quoted.push(character),
            _ if u32::from(character) > 0xFFFF => {
                quoted.push_str(&format!("\\U{:08x}", u32::from(character)));
            }
            _ if u32::from(character) > 0x7F => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => quoted.push_str(&format!("\\x{:02x}", u32::from(character))),
        }
    }
    quoted.push('"');
    quoted
}

/// Leaves out, as std's own backtraces do, what std calls to start a thread; and what a thread calls to
/// write a dump.
fn shown<'a, 'b>(frames: &'b [Frame<'a>]) -> &'b [Frame<'a>] {
    let position = |marker: &str| {
        frames.iter().rposition(|frame| frame.function.is_some_and(|name| name.starts_with(marker)))
    };
    let begin = position("profiler_core::profiler::write_threads").map_or(0, |dump| dump + 1);
    let end = position("std::sys::backtrace::__rust_begin_short_backtrace");
    match &frames[begin..end.unwrap_or(frames.len()).max(begin)] {
        [] => frames,
        shown => shown,
    }
}

fn frames(writer: &mut impl Write, frames: &[Frame<'_>]) -> io::Result<()> {
    let elided = frames.len().saturating_sub(2 * SHOWN);
    for (position, frame) in frames.iter().enumerate() {
        if elided > 0 && position == SHOWN {
            writeln!(writer, "...{elided} frames elided...")?;
        }
        if elided == 0 || position < SHOWN || position >= SHOWN + elided {
            match frame.function {
                Some(function) => writeln!(writer, "{function}(...)")?,
                None => writeln!(writer, "{:#x}(...)", frame.address)?,
            }
            let file = if frame.file.is_empty() { "?" } else { frame.file };
            writeln!(writer, "\t{file}:{}", frame.line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted_as_go_does() {
        for (text, expected) in [
            ("a.b/C_1", "a.b/C_1"),
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("q\"\\", r#""q\"\\""#),
            ("é", r#""\u00e9""#),
            ("\u{1F600}\n", r#""\U0001f600\n""#),
        ] {
            assert_eq!(word(text), expected);
        }
    }

    #[test]
    fn what_starts_a_thread_and_what_writes_the_dump_is_left_out() {
        let stack = |names: &[&'static str]| -> Vec<Frame<'static>> {
            let frame = |&name| Frame { address: 1, function: Some(name), file: "", line: 0 };
            names.iter().map(frame).collect()
        };
        let start = "std::sys::backtrace::__rust_begin_short_backtrace";
        let dump = "profiler_core::profiler::write_threads";
        for (all, left) in [
            (
                &["read", "f", start, "std::panic::catch_unwind", "thread_start"][..],
                &["read", "f"][..],
            ),
            (&["syscall", "profiler_core::live::stacks::ask", dump, "f", start, "main"], &["f"]),
            (&["syscall", dump, "f"], &["f"]),
            (&["of_c", "start_thread"], &["of_c", "start_thread"]),
            (&[start, "main"], &[start, "main"]),
            (&["syscall", dump, start, "main"], &["syscall", dump, start, "main"]),
            (&[], &[]),
        ] {
            let names: Vec<_> =
                shown(&stack(all)).iter().filter_map(|frame| frame.function).collect();
            assert_eq!(names, left, "{all:?}");
        }
    }

    #[test]
    fn a_long_stack_shows_both_ends() {
        let frame = |line| Frame { address: 1, function: Some("f"), file: "f.rs", line };
        let stack: Vec<_> = (1..=130).map(frame).collect();
        let mut text = Vec::new();
        frames(&mut text, &stack).expect("a vector takes all");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("f.rs:50\n...30 frames elided...\nf(...)\n\tf.rs:81\n"), "{text}");
        assert_eq!(text.lines().count(), 201);
    }
}
