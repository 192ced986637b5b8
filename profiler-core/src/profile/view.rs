//! Samples, as an application looks at them.

use super::{Location, Profile, Row, Value};

/// One stack of a profile with its labels and values; see [`Profile::samples`].
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    profile: &'a Profile,
    row: &'a Row,
}

/// One frame of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame<'a> {
    /// The address; frames that were inlined into one another share it.
    pub address: u64,
    /// The function, or nothing if no name is known.
    pub function: Option<&'a str>,
    /// The source file; empty if unknown.
    pub file: &'a str,
    /// The line in the file, from 1; 0 if unknown.
    pub line: u32,
}

/// The value of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelValue<'a> {
    /// A text.
    Text(&'a str),
    /// A number and its unit.
    Number(i64, &'a str),
}

impl Profile {
    /// Returns the samples, largest value of the column that tools show first
    /// ([`Kind::default_column`](crate::Kind::default_column)) first.
    #[must_use]
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample<'_>> {
        self.samples.iter().map(|row| Sample { profile: self, row })
    }
}

impl<'a> Sample<'a> {
    /// Returns the values, in the order of [`Kind::values`](crate::Kind::values).
    #[must_use]
    pub fn values(&self) -> &'a [i64] {
        &self.row.values[..self.profile.columns()]
    }

    /// Returns the labels, sorted by key.
    pub fn labels(&self) -> impl Iterator<Item = (&'a str, LabelValue<'a>)> + use<'a> {
        self.profile.labels[self.row.labels as usize].iter().map(|label| {
            let value = match &label.value {
                Value::Text(text) => LabelValue::Text(text),
                Value::Number(number, unit) => LabelValue::Number(*number, unit),
            };
            (&*label.key, value)
        })
    }

    /// Returns the text of a label, if it has it.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&'a str> {
        self.labels().find_map(|(name, value)| match value {
            LabelValue::Text(text) if name == key => Some(text),
            _ => None,
        })
    }

    /// Returns the stack, leaf first, inlined frames by themselves.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'a>> + use<'a> {
        let locations = &self.profile.locations;
        self.row.stack.iter().flat_map(|&id| frames(&locations[id as usize]))
    }
}

fn frames(location: &Location) -> impl Iterator<Item = Frame<'_>> {
    let address = location.address;
    let lines = location.lines();
    let unnamed = lines.is_empty().then_some(Frame { address, function: None, file: "", line: 0 });
    let named = lines.iter().map(move |line| Frame {
        address,
        function: Some(&line.function.name),
        file: &line.function.file,
        line: line.line,
    });
    named.chain(unnamed)
}
