//! The binary form: gzip of one `perftools.profiles.Profile`.
//!
//! The message is never whole in memory: samples and tables go to the compressor one by one, from
//! one buffer that is used again, and the string table goes last, when it is known.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;
use rustc_hash::FxHashMap;

use super::proto;
use crate::kind::ValueType;
use crate::profile::{Function, LabelSet, Location, PSEUDO, Profile, Value};

impl Profile {
    /// Writes the profile as `go tool pprof` reads it: gzip of one `perftools.profiles.Profile`.
    ///
    /// # Errors
    ///
    /// What the writer returns.
    pub fn write_to(&self, writer: impl Write) -> io::Result<()> {
        // Level 1 as in Go: a third of the time of the default for a tenth more bytes.
        let mut compressor = GzEncoder::new(writer, Compression::fast());
        encode(self, &mut compressor)?;
        compressor.finish()?.flush()
    }
}

/// Writes the message without compression.
pub(crate) fn encode(profile: &Profile, writer: &mut impl Write) -> io::Result<()> {
    let mut encoder = Encoder { writer, buffer: Vec::with_capacity(2 * CHUNK) };
    let mut strings = Strings::default();
    let mut functions = Functions::default();

    encoder.buffer.extend(header(profile, &mut strings).encode_to_vec());
    let labels: Vec<Vec<proto::Label>> =
        profile.label_sets().iter().map(|set| label_messages(set, &mut strings)).collect();
    let columns = profile.kind().values().len();
    let mut message = proto::Sample::default();
    for sample in profile.rows() {
        message.location_id.clear();
        message.location_id.extend(sample.stack.iter().map(|&id| u64::from(id) + 1));
        message.value.clear();
        message.value.extend(&sample.values[..columns]);
        message.label.clone_from(&labels[sample.labels as usize]);
        encoder.field(SAMPLE, &message)?;
    }
    let mappings = Mappings::new(profile, &mut strings);
    for mapping in &mappings.list {
        encoder.field(MAPPING, mapping)?;
    }
    for (position, location) in profile.locations().iter().enumerate() {
        let mapping = mappings.of_location[position];
        encoder.field(LOCATION, &location_message(position, location, mapping, &mut functions))?;
    }
    for (position, function) in functions.list.iter().enumerate() {
        encoder.field(FUNCTION, &function_message(position, function, &mut strings))?;
    }
    for text in strings.list {
        encoder.text(STRING, text)?;
    }
    encoder.finish()
}

/// Numbers of the repeated fields of `Profile`.
const SAMPLE: u8 = 2;
const MAPPING: u8 = 3;
const LOCATION: u8 = 4;
const FUNCTION: u8 = 5;
const STRING: u8 = 6;

/// How much is handed to the compressor at once.
const CHUNK: usize = 32 << 10;

struct Encoder<'w, W> {
    writer: &'w mut W,
    buffer: Vec<u8>,
}

impl<W: Write> Encoder<'_, W> {
    fn field(&mut self, number: u8, message: &impl Message) -> io::Result<()> {
        self.key(number);
        message.encode_length_delimited(&mut self.buffer).expect("a vector grows");
        self.flush(CHUNK)
    }

    fn text(&mut self, number: u8, text: &str) -> io::Result<()> {
        self.key(number);
        prost::encode_length_delimiter(text.len(), &mut self.buffer).expect("a vector grows");
        self.buffer.extend(text.as_bytes());
        self.flush(CHUNK)
    }

    /// Writes the key of a field that is preceded by its length.
    fn key(&mut self, number: u8) {
        self.buffer.push(number << 3 | 2);
    }

    fn flush(&mut self, at_least: usize) -> io::Result<()> {
        if self.buffer.len() >= at_least {
            self.writer.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush(0)
    }
}

/// The string table; position 0 is the empty text.
struct Strings<'a> {
    list: Vec<&'a str>,
    positions: FxHashMap<&'a str, i64>,
}

impl Default for Strings<'_> {
    fn default() -> Self {
        Self { list: vec![""], positions: [("", 0)].into_iter().collect() }
    }
}

impl<'a> Strings<'a> {
    fn position(&mut self, text: &'a str) -> i64 {
        *self.positions.entry(text).or_insert_with(|| {
            self.list.push(text);
            signed(self.list.len() - 1)
        })
    }

    fn value_type(&mut self, value: ValueType) -> proto::ValueType {
        proto::ValueType { r#type: self.position(value.name), unit: self.position(value.unit) }
    }
}

/// The functions in the order of first use.
#[derive(Default)]
struct Functions<'a> {
    list: Vec<&'a Function>,
    ids: FxHashMap<&'a Function, u64>,
}

impl<'a> Functions<'a> {
    fn id(&mut self, function: &'a Function) -> u64 {
        *self.ids.entry(function).or_insert_with(|| {
            self.list.push(function);
            self.list.len() as u64
        })
    }
}

fn header<'a>(profile: &'a Profile, strings: &mut Strings<'a>) -> proto::Profile {
    let kind = profile.kind();
    let default = kind.description().default_value;
    // flameshow takes the position of this text for that of the column, and so it is.
    let default_sample_type = default.map_or(0, |name| strings.position(name));
    proto::Profile {
        sample_type: kind.values().into_iter().map(|value| strings.value_type(value)).collect(),
        time_nanos: nanoseconds(profile.time()),
        duration_nanos: i64::try_from(profile.duration().as_nanos()).unwrap_or(i64::MAX),
        period_type: Some(strings.value_type(kind.period_type())),
        period: profile.period(),
        comment: profile.comments().iter().map(|comment| strings.position(comment)).collect(),
        default_sample_type,
        ..proto::Profile::default()
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn label_messages<'a>(set: &'a LabelSet, strings: &mut Strings<'a>) -> Vec<proto::Label> {
    set.iter()
        .map(|label| {
            let key = strings.position(&label.key);
            match &label.value {
                Value::Text(text) => {
                    proto::Label { key, str: strings.position(text), ..Default::default() }
                }
                Value::Number(number, unit) => proto::Label {
                    key,
                    num: *number,
                    num_unit: strings.position(unit),
                    ..Default::default()
                },
            }
        })
        .collect()
}

/// The file name of the mapping of frames that are no machine code. Readers look for no file of a name in brackets.
const OWN: &str = "[profiler]";
/// That of code that is in no file, as the kernel's own tools call it.
const ANONYMOUS: &str = "//anon";

/// The mappings, and which one each location is in. Each is in one: some readers take nothing else.
struct Mappings {
    list: Vec<proto::Mapping>,
    /// Identifiers, by the positions of locations.
    of_location: Vec<u64>,
}

impl Mappings {
    fn new<'a>(profile: &'a Profile, strings: &mut Strings<'a>) -> Self {
        let mut list: Vec<proto::Mapping> = profile
            .mappings()
            .iter()
            .zip(1..)
            .map(|(mapping, id)| proto::Mapping {
                id,
                memory_start: mapping.start,
                memory_limit: mapping.end,
                file_offset: mapping.offset,
                filename: strings.position(&mapping.file),
                build_id: strings.position(&mapping.build_id),
                ..Default::default()
            })
            .collect();
        if list.is_empty() {
            // Readers take the first for the program, of which nothing is known.
            list.push(proto::Mapping { id: 1, ..Default::default() });
        }
        // A reader looks no further for names where we say that we found them: so only if all were.
        let mut asked = vec![false; list.len()];
        let (mut own, mut anonymous) = (None, None);
        let mut of_location = Vec::with_capacity(profile.locations().len());
        for location in profile.locations() {
            let lines = location.lines();
            let mut add = |filename, bounds: std::ops::Range<u64>| {
                list.push(proto::Mapping {
                    id: list.len() as u64 + 1,
                    memory_start: bounds.start,
                    memory_limit: bounds.end,
                    filename: strings.position(filename),
                    ..Default::default()
                });
                asked.push(false);
                list.len() - 1
            };
            let position = match location.mapping {
                Some(position) => position,
                // A machine's address there is damaged, and has no name.
                None if PSEUDO.contains(&location.address) && !lines.is_empty() => {
                    *own.get_or_insert_with(|| add(OWN, PSEUDO))
                }
                // Its parts lie between the others, so it has no bounds.
                None => *anonymous.get_or_insert_with(|| add(ANONYMOUS, 0..0)),
            };
            of_location.push(position as u64 + 1);
            let message = &mut list[position];
            if !std::mem::replace(&mut asked[position], true) {
                message.has_functions = true;
                message.has_filenames = true;
                message.has_line_numbers = true;
                message.has_inline_frames = true;
            }
            message.has_functions &= !lines.is_empty();
            message.has_filenames &= lines.iter().any(|line| !line.function.file.is_empty());
            message.has_line_numbers &= lines.iter().any(|line| line.line != 0);
            message.has_inline_frames &= location.resolved.inlines;
        }
        Self { list, of_location }
    }
}

fn location_message<'a>(
    position: usize,
    location: &'a Location,
    mapping_id: u64,
    functions: &mut Functions<'a>,
) -> proto::Location {
    proto::Location {
        id: position as u64 + 1,
        mapping_id,
        address: location.address,
        line: location
            .lines()
            .iter()
            .map(|line| proto::Line {
                function_id: functions.id(&line.function),
                line: i64::from(line.line),
            })
            .collect(),
    }
}

fn function_message<'a>(
    position: usize,
    function: &'a Function,
    strings: &mut Strings<'a>,
) -> proto::Function {
    proto::Function {
        id: position as u64 + 1,
        name: strings.position(&function.name),
        system_name: strings.position(&function.system_name),
        filename: strings.position(&function.file),
        start_line: 0,
    }
}

fn signed(position: usize) -> i64 {
    i64::try_from(position).expect("a position fits into 63 bits")
}

#[cfg(test)]
mod tests;
