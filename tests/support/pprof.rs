//! A decoder of `perftools.profiles.Profile`, written from the format alone.
//!
//! [`Tables`] is what stands on the wire, with its ids and indexes, faults included; [`Profile`] is
//! what a reader makes of it: stacks as names. Nothing here is shared with the encoder under test.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;

use flate2::read::GzDecoder;

use crate::wire::{Value, fields};

/// A profile as it stands on the wire. Strings are indexes into [`Tables::strings`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct Tables {
    pub sample_types: Vec<ValueType>,
    pub samples: Vec<Sample>,
    pub mappings: Vec<Mapping>,
    pub locations: Vec<Location>,
    pub functions: Vec<Function>,
    pub strings: Vec<String>,
    /// Every `time_nanos` that was met: more than one means two profiles in one body.
    pub times: Vec<i64>,
    pub duration_nanos: i64,
    pub period_type: ValueType,
    pub period: i64,
    pub comments: Vec<i64>,
    pub default_sample_type: i64,
    /// Length of the message before compression.
    pub bytes: usize,
}

/// What a column or the period counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct ValueType {
    pub name: i64,
    pub unit: i64,
}

/// One stack with its values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct Sample {
    pub locations: Vec<u64>,
    pub values: Vec<i64>,
    pub labels: Vec<Label>,
}

/// One label of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct Label {
    pub key: i64,
    pub text: i64,
    pub number: i64,
    pub unit: i64,
}

/// One executable part of the address space.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct Mapping {
    pub id: u64,
    pub start: u64,
    pub limit: u64,
    pub offset: u64,
    pub file: i64,
    pub build_id: i64,
    pub has_functions: bool,
    pub has_filenames: bool,
    pub has_line_numbers: bool,
    pub has_inline_frames: bool,
}

/// One place in the code, with the functions inlined there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct Location {
    pub id: u64,
    pub mapping: u64,
    pub address: u64,
    pub lines: Vec<Line>,
}

/// One function at a location, innermost first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct Line {
    pub function: u64,
    pub line: i64,
}

/// One function.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are those of profile.proto")]
pub struct Function {
    pub id: u64,
    pub name: i64,
    pub system_name: i64,
    pub file: i64,
    pub start_line: i64,
}

impl Tables {
    /// Decodes a body: gzip, or the bare message.
    ///
    /// # Errors
    ///
    /// It is no protocol buffer, or a string is not UTF-8.
    pub fn decode(body: &[u8]) -> Result<Self, String> {
        let mut message = body.to_vec();
        if body.starts_with(&[0x1f, 0x8b]) {
            message.clear();
            GzDecoder::new(body).read_to_end(&mut message).map_err(|error| error.to_string())?;
        }
        if message.is_empty() {
            return Err("the profile is empty".into());
        }
        let mut tables = Self { bytes: message.len(), ..Self::default() };
        fields(&message, |field, value| tables.field(field, value))?;
        Ok(tables)
    }

    fn field(&mut self, field: u64, value: Value<'_>) -> Result<(), String> {
        match field {
            1 => self.sample_types.push(ValueType::decode(value.bytes()?)?),
            2 => self.samples.push(Sample::decode(value.bytes()?)?),
            3 => self.mappings.push(Mapping::decode(value.bytes()?)?),
            4 => self.locations.push(Location::decode(value.bytes()?)?),
            5 => self.functions.push(Function::decode(value.bytes()?)?),
            6 => {
                let text =
                    std::str::from_utf8(value.bytes()?).map_err(|error| error.to_string())?;
                self.strings.push(text.to_owned());
            }
            9 => self.times.push(value.signed()?),
            10 => self.duration_nanos = value.signed()?,
            11 => self.period_type = ValueType::decode(value.bytes()?)?,
            12 => self.period = value.signed()?,
            13 => {
                let mut numbers = Vec::new();
                value.numbers(&mut numbers)?;
                self.comments.extend(numbers.into_iter().map(u64::cast_signed));
            }
            14 => self.default_sample_type = value.signed()?,
            _ => {}
        }
        Ok(())
    }

    /// Returns a string of the table, or a mark that there is none.
    #[must_use]
    pub fn string(&self, index: i64) -> &str {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.strings.get(index))
            .map_or("(no such string)", String::as_str)
    }
}

impl ValueType {
    fn decode(message: &[u8]) -> Result<Self, String> {
        let mut this = Self::default();
        fields(message, |field, value| {
            match field {
                1 => this.name = value.signed()?,
                2 => this.unit = value.signed()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }
}

impl Sample {
    fn decode(message: &[u8]) -> Result<Self, String> {
        let mut this = Self::default();
        let mut values = Vec::new();
        fields(message, |field, value| {
            match field {
                1 => value.numbers(&mut this.locations)?,
                2 => value.numbers(&mut values)?,
                3 => this.labels.push(Label::decode(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        this.values = values.into_iter().map(u64::cast_signed).collect();
        Ok(this)
    }
}

impl Label {
    fn decode(message: &[u8]) -> Result<Self, String> {
        let mut this = Self::default();
        fields(message, |field, value| {
            match field {
                1 => this.key = value.signed()?,
                2 => this.text = value.signed()?,
                3 => this.number = value.signed()?,
                4 => this.unit = value.signed()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }
}

impl Mapping {
    fn decode(message: &[u8]) -> Result<Self, String> {
        let mut this = Self::default();
        fields(message, |field, value| {
            match field {
                1 => this.id = value.number()?,
                2 => this.start = value.number()?,
                3 => this.limit = value.number()?,
                4 => this.offset = value.number()?,
                5 => this.file = value.signed()?,
                6 => this.build_id = value.signed()?,
                7 => this.has_functions = value.number()? != 0,
                8 => this.has_filenames = value.number()? != 0,
                9 => this.has_line_numbers = value.number()? != 0,
                10 => this.has_inline_frames = value.number()? != 0,
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }
}

impl Location {
    fn decode(message: &[u8]) -> Result<Self, String> {
        let mut this = Self::default();
        fields(message, |field, value| {
            match field {
                1 => this.id = value.number()?,
                2 => this.mapping = value.number()?,
                3 => this.address = value.number()?,
                4 => this.lines.push(Line::decode(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }
}

impl Line {
    fn decode(message: &[u8]) -> Result<Self, String> {
        let mut this = Self::default();
        fields(message, |field, value| {
            match field {
                1 => this.function = value.number()?,
                2 => this.line = value.signed()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }
}

impl Function {
    fn decode(message: &[u8]) -> Result<Self, String> {
        let mut this = Self::default();
        fields(message, |field, value| {
            match field {
                1 => this.id = value.number()?,
                2 => this.name = value.signed()?,
                3 => this.system_name = value.signed()?,
                4 => this.file = value.signed()?,
                5 => this.start_line = value.signed()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(this)
    }
}

/// A profile as a reader sees it.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Name and unit of each column.
    pub sample_types: Vec<(String, String)>,
    /// Name and unit of the period.
    pub period_type: (String, String),
    /// The stacks.
    pub samples: Vec<Stack>,
    /// The wire form.
    pub tables: Tables,
}

/// One sample with names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The functions, leaf first, inlined ones in their place. A location without a name stands as
    /// the file that it is in, in brackets, as `go tool pprof` shows it.
    pub names: Vec<String>,
    /// The values, one a column.
    pub values: Vec<i64>,
    /// Text labels.
    pub labels: BTreeMap<String, String>,
    /// Numeric labels, each with its unit.
    pub numbers: BTreeMap<String, (i64, String)>,
}

impl Profile {
    /// Decodes a body: gzip, or the bare message. Whether it is valid is
    /// [another question](crate::check).
    ///
    /// # Errors
    ///
    /// It is no protocol buffer, or a string is not UTF-8.
    pub fn decode(body: &[u8]) -> Result<Self, String> {
        let tables = Tables::decode(body)?;
        let value_type = |value: &ValueType| {
            (tables.string(value.name).to_owned(), tables.string(value.unit).to_owned())
        };
        Ok(Self {
            sample_types: tables.sample_types.iter().map(value_type).collect(),
            period_type: value_type(&tables.period_type),
            samples: stacks(&tables),
            tables,
        })
    }

    /// Returns the sum of each column.
    #[must_use]
    pub fn totals(&self) -> Vec<i64> {
        (0..self.sample_types.len())
            .map(|column| self.samples.iter().map(|sample| sample.values[column]).sum())
            .collect()
    }

    /// Returns the sum of each column over the samples whose leaf is that function.
    #[must_use]
    pub fn flat(&self, name: &str) -> Vec<i64> {
        self.sum(|sample| sample.names.first().is_some_and(|leaf| leaf == name))
    }

    /// Returns the sum of each column over the samples that hold that function anywhere.
    #[must_use]
    pub fn cumulative(&self, name: &str) -> Vec<i64> {
        self.sum(|sample| sample.names.iter().any(|frame| frame == name))
    }

    fn sum(&self, select: impl Fn(&Stack) -> bool) -> Vec<i64> {
        let selected: Vec<_> = self.samples.iter().filter(|sample| select(sample)).collect();
        (0..self.sample_types.len())
            .map(|column| selected.iter().map(|sample| sample.values[column]).sum())
            .collect()
    }
}

fn stacks(tables: &Tables) -> Vec<Stack> {
    let locations: HashMap<_, _> = tables.locations.iter().map(|place| (place.id, place)).collect();
    let functions: HashMap<_, _> =
        tables.functions.iter().map(|function| (function.id, function)).collect();
    let names = |id: &u64| -> Vec<String> {
        let Some(location) = locations.get(id) else { return vec!["(no such location)".into()] };
        if location.lines.is_empty() {
            let mapping = tables.mappings.iter().find(|mapping| mapping.id == location.mapping);
            let file = mapping.map_or("", |mapping| tables.string(mapping.file));
            return vec![format!("[{}]", file.rsplit('/').next().unwrap_or_default())];
        }
        let name = |line: &Line| match functions.get(&line.function) {
            Some(function) => tables.string(function.name).to_owned(),
            None => "(no such function)".into(),
        };
        location.lines.iter().map(name).collect()
    };
    tables
        .samples
        .iter()
        .map(|sample| {
            let (mut labels, mut numbers) = (BTreeMap::new(), BTreeMap::new());
            for label in &sample.labels {
                let key = tables.string(label.key).to_owned();
                if label.text == 0 {
                    numbers.insert(key, (label.number, tables.string(label.unit).to_owned()));
                } else {
                    labels.insert(key, tables.string(label.text).to_owned());
                }
            }
            Stack {
                names: sample.locations.iter().flat_map(names).collect(),
                values: sample.values.clone(),
                labels,
                numbers,
            }
        })
        .collect()
}
