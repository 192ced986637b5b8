//! The addresses of a unit, a function or an inlined call.

use gimli::{Abbreviation, AttributeValue, EntriesRaw, Range, RangeListsOffset, Section, UnitRef};

use super::{Dwarf, Result, Slice};

/// What entries say of their addresses.
#[derive(Debug, Default)]
pub(super) struct Extent {
    low: Option<u64>,
    high: Option<u64>,
    size: Option<u64>,
    ranges: Option<RangeListsOffset>,
}

/// How much may still be read: in damaged files many entries may share a long list.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// More than sound files need: they read every byte once or twice, and attributes without bytes are few.
    pub(super) fn of(dwarf: &Dwarf<'_>) -> Self {
        let sections = [
            dwarf.debug_info.reader(),
            dwarf.debug_line.reader(),
            dwarf.ranges.debug_ranges().reader(),
            dwarf.ranges.debug_rnglists().reader(),
        ];
        Self(sections.iter().map(|section| section.len()).sum::<usize>().saturating_mul(16))
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<()> {
        self.0 = self.0.checked_sub(steps).ok_or(gimli::Error::TooManyIterations)?;
        Ok(())
    }
}

impl Extent {
    /// Reads the attributes of an entry.
    pub(super) fn read<'d>(
        entries: &mut EntriesRaw<'_, Slice<'d>>,
        abbreviation: &Abbreviation,
        unit: UnitRef<'_, Slice<'d>>,
    ) -> Result<Self> {
        let mut extent = Self::default();
        for attribute in abbreviation.attributes() {
            match attribute.name() {
                gimli::DW_AT_low_pc => {
                    let value = entries.read_attribute(*attribute)?.value();
                    extent.low = unit.attr_address(value)?;
                }
                gimli::DW_AT_high_pc => match entries.read_attribute(*attribute)?.value() {
                    AttributeValue::Udata(size) => extent.size = Some(size),
                    value => extent.high = unit.attr_address(value)?,
                },
                gimli::DW_AT_ranges => {
                    let value = entries.read_attribute(*attribute)?.value();
                    extent.ranges = unit.attr_ranges_offset(value)?;
                }
                _ => entries.skip_attributes(std::slice::from_ref(attribute))?,
            }
        }
        Ok(extent)
    }

    /// Goes through the ranges; returns whether there is one.
    pub(super) fn each(
        &self,
        unit: UnitRef<'_, Slice<'_>>,
        budget: &mut Budget,
        mut visit: impl FnMut(Range),
    ) -> Result<bool> {
        let mut any = false;
        let mut add = |range: Range| {
            if range.begin < range.end {
                any = true;
                visit(range);
            }
        };
        if let Some(offset) = self.ranges {
            let mut ranges = unit.ranges(offset)?;
            while let Some(range) = ranges.next()? {
                budget.spend(1)?;
                add(range);
            }
        } else if let Some(begin) = self.low {
            // What the linker threw away may lie at the end of the address space.
            let end = self.high.or_else(|| Some(begin.wrapping_add(self.size?)));
            add(Range { begin, end: end.unwrap_or(begin) });
        }
        Ok(any)
    }
}
