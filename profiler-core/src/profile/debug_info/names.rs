//! Names of functions, and where inlined ones were called.
//!
//! An entry often has no name but a reference to the one that it was made from, which may stand in
//! another unit, as with fat link-time optimisation.

use std::sync::Arc;

use gimli::{
    Abbreviations, AttributeValue, DebugInfoOffset, DebugStrOffsetsBase, EntriesRaw, UnitHeader,
    UnitOffset,
};

use super::{Dwarf, Result, Slice, Unit, next_unit};

/// More than references lead from one to the next.
const MOST_REFERENCES: usize = 16;
/// More than any name has (those of nested generics reach some kilobytes).
pub(super) const LONGEST_NAME: usize = 1 << 16;

/// Reads names of functions in the units of one file.
pub(super) struct Names<'u, 'd> {
    dwarf: &'u Dwarf<'d>,
    /// Where the units begin, once a reference has led to another unit.
    starts: Option<Vec<usize>>,
    /// The unit that it led to.
    other: Option<Scope<'d>>,
}

/// What reading entries of a unit takes.
#[derive(Debug, Clone)]
pub(super) struct Scope<'d> {
    header: UnitHeader<Slice<'d>>,
    abbreviations: Arc<Abbreviations>,
    strings: DebugStrOffsetsBase,
}

/// A function or an inlined call.
#[derive(Debug, Default)]
pub(super) struct Call<'d> {
    pub(super) name: Option<Slice<'d>>,
    /// Of an inlined one: where it was called, as an index of the line table, and 0 if unknown.
    pub(super) file: Option<u64>,
    pub(super) line: u32,
}

enum Origin<'d> {
    Name(Slice<'d>),
    Reference(AttributeValue<Slice<'d>>),
    Nothing,
}

impl<'d> Scope<'d> {
    pub(super) fn of(unit: &Unit<'d>) -> Self {
        Self {
            header: unit.header,
            abbreviations: Arc::clone(&unit.abbreviations),
            strings: unit.str_offsets_base,
        }
    }

    fn entries(&self, offset: UnitOffset) -> Result<EntriesRaw<'_, Slice<'d>>> {
        self.header.entries_raw(&self.abbreviations, Some(offset))
    }
}

impl<'u, 'd> Names<'u, 'd> {
    pub(super) fn new(dwarf: &'u Dwarf<'d>) -> Self {
        Self { dwarf, starts: None, other: None }
    }

    /// Makes one for a file whose entries refer to none outside their unit.
    pub(super) fn within_units(dwarf: &'u Dwarf<'d>) -> Self {
        Self { dwarf, starts: Some(Vec::new()), other: None }
    }

    /// Reads the entry of a function or an inlined call.
    pub(super) fn call(&mut self, scope: &Scope<'d>, entry: UnitOffset) -> Result<Call<'d>> {
        let mut call = Call::default();
        let mut entries = scope.entries(entry)?;
        let abbreviation = entries.read_abbreviation()?;
        for attribute in abbreviation.map_or(&[][..], |abbreviation| abbreviation.attributes()) {
            let attribute = entries.read_attribute(*attribute)?;
            let value = attribute.value();
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                    call.name = self.string(scope, value).or(call.name);
                }
                gimli::DW_AT_name => call.name = call.name.or_else(|| self.string(scope, value)),
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification
                    if call.name.is_none() =>
                {
                    call.name = self.follow(scope, value)?;
                }
                gimli::DW_AT_call_file => {
                    // Before DWARF 5 files are counted from 1.
                    if let AttributeValue::FileIndex(file) = value
                        && (file > 0 || scope.header.version() >= 5)
                    {
                        call.file = Some(file);
                    }
                }
                gimli::DW_AT_call_line => {
                    let line = attribute.udata_value().unwrap_or(0);
                    call.line = u32::try_from(line).unwrap_or(0);
                }
                _ => {}
            }
        }
        Ok(call)
    }

    /// Follows references to a name.
    fn follow(
        &mut self,
        scope: &Scope<'d>,
        mut reference: AttributeValue<Slice<'d>>,
    ) -> Result<Option<Slice<'d>>> {
        let mut other = None;
        for _ in 0..MOST_REFERENCES {
            let entry = match reference {
                AttributeValue::UnitRef(entry) => entry,
                AttributeValue::DebugInfoRef(entry) => {
                    let there = self.scope(entry, scope)?;
                    let missing = gimli::Error::NoEntryAtGivenOffset(entry.0 as u64);
                    let entry = entry.to_unit_offset(&there.header).ok_or(missing)?;
                    other = Some(there);
                    entry
                }
                _ => break,
            };
            match self.origin(other.as_ref().unwrap_or(scope), entry)? {
                Origin::Name(name) => return Ok(Some(name)),
                Origin::Reference(next) => reference = next,
                Origin::Nothing => break,
            }
        }
        Ok(None)
    }

    fn origin(&self, scope: &Scope<'d>, entry: UnitOffset) -> Result<Origin<'d>> {
        let mut origin = Origin::Nothing;
        let mut entries = scope.entries(entry)?;
        let missing = gimli::Error::NoEntryAtGivenOffset(entry.0 as u64);
        for attribute in entries.read_abbreviation()?.ok_or(missing)?.attributes() {
            match attribute.name() {
                gimli::DW_AT_linkage_name | gimli::DW_AT_MIPS_linkage_name => {
                    let value = entries.read_attribute(*attribute)?.value();
                    if let Some(name) = self.string(scope, value) {
                        return Ok(Origin::Name(name));
                    }
                }
                gimli::DW_AT_name => {
                    let value = entries.read_attribute(*attribute)?.value();
                    origin = self.string(scope, value).map_or(origin, Origin::Name);
                }
                gimli::DW_AT_abstract_origin | gimli::DW_AT_specification => {
                    let value = entries.read_attribute(*attribute)?.value();
                    if !matches!(origin, Origin::Name(_)) {
                        origin = Origin::Reference(value);
                    }
                }
                _ => entries.skip_attributes(std::slice::from_ref(attribute))?,
            }
        }
        Ok(origin)
    }

    /// Returns the unit that holds an entry.
    fn scope(&mut self, entry: DebugInfoOffset, from: &Scope<'d>) -> Result<Scope<'d>> {
        let dwarf = self.dwarf;
        let starts = self.starts.get_or_insert_with(|| {
            let mut headers = dwarf.units();
            let headers = std::iter::from_fn(|| next_unit(&mut headers));
            headers.filter_map(|header| header.debug_info_offset()).map(|start| start.0).collect()
        });
        let behind = starts.partition_point(|start| *start <= entry.0);
        let missing = gimli::Error::NoEntryAtGivenOffset(entry.0 as u64);
        let start = DebugInfoOffset(*starts[..behind].last().ok_or(missing)?);
        if let Some(other) =
            self.other.as_ref().filter(|other| other.header.debug_info_offset() == Some(start))
        {
            return Ok(other.clone());
        }
        let header = dwarf.unit_header(start)?;
        // Units that were linked together share their abbreviations.
        let known = [Some(from), self.other.as_ref()]
            .into_iter()
            .flatten()
            .find(|known| known.header.debug_abbrev_offset() == header.debug_abbrev_offset());
        let abbreviations = match known {
            Some(known) => Arc::clone(&known.abbreviations),
            None => dwarf.abbreviations(&header)?,
        };
        let strings =
            DebugStrOffsetsBase::default_for_encoding_and_file(header.encoding(), dwarf.file_type);
        let mut scope = Scope { header, abbreviations, strings };
        scope.strings = scope.read_strings()?.unwrap_or(strings);
        self.other = Some(scope.clone());
        Ok(scope)
    }

    fn string(&self, scope: &Scope<'d>, value: AttributeValue<Slice<'d>>) -> Option<Slice<'d>> {
        let string = match value {
            AttributeValue::String(string) => Ok(string),
            AttributeValue::DebugStrRef(offset) => self.dwarf.debug_str.get_str(offset),
            AttributeValue::DebugLineStrRef(offset) => self.dwarf.debug_line_str.get_str(offset),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let format = scope.header.format();
                let offset =
                    self.dwarf.debug_str_offsets.get_str_offset(format, scope.strings, index);
                offset.and_then(|offset| self.dwarf.debug_str.get_str(offset))
            }
            _ => return None,
        };
        string.ok().filter(|string| string.len() <= LONGEST_NAME)
    }
}

impl Scope<'_> {
    /// Returns where the unit's strings begin, as its first entry says from DWARF 5 on.
    fn read_strings(&self) -> Result<Option<DebugStrOffsetsBase>> {
        let mut entries = self.header.entries_raw(&self.abbreviations, None)?;
        let abbreviation = entries.read_abbreviation()?;
        for attribute in abbreviation.map_or(&[][..], |abbreviation| abbreviation.attributes()) {
            let attribute = entries.read_attribute(*attribute)?;
            if attribute.name() == gimli::DW_AT_str_offsets_base
                && let AttributeValue::DebugStrOffsetsBase(base) = attribute.value()
            {
                return Ok(Some(base));
            }
        }
        Ok(None)
    }
}
