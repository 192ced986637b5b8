//! One unit after another, with the same buffers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gimli::{Abbreviations, DebugAbbrevOffset, DwoId, UnitHeader, UnitRef, UnitType};

use super::extent::{Budget, Extent};
use super::functions::Functions;
use super::lines::{Lines, Paths, Program, Table};
use super::names::{Call, Names, Scope};
use super::sections::Sections;
use super::{Answer, Dwarf, Frame, Package, Result, Slice, Unit, open};

/// What is asked, and what reading the units takes.
pub(super) struct Reader<'r, 'd> {
    dwarf: &'r Dwarf<'d>,
    package: Option<&'r Package<'d>>,
    budget: Budget,
    /// Those of the last unit: where programs were linked as a whole, of all units.
    abbreviations: Option<(DebugAbbrevOffset, Arc<Abbreviations>)>,
    addresses: &'r [u64],
    answered: Vec<bool>,
    left: usize,
    /// The addresses that the unit may hold: their positions, and they themselves.
    positions: Vec<usize>,
    asked: Vec<u64>,
    functions: Functions,
    lines: Lines,
    paths: Paths,
}

impl<'r, 'd> Reader<'r, 'd> {
    pub(super) fn new(
        dwarf: &'r Dwarf<'d>,
        package: Option<&'r Package<'d>>,
        addresses: &'r [u64],
    ) -> Self {
        Self {
            dwarf,
            package,
            budget: Budget::of(dwarf),
            abbreviations: None,
            addresses,
            answered: vec![false; addresses.len()],
            left: addresses.len(),
            positions: Vec::new(),
            asked: Vec::new(),
            functions: Functions::default(),
            lines: Lines::default(),
            paths: Paths::default(),
        }
    }

    /// Returns whether all addresses are answered.
    pub(super) const fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Answers for the addresses that a unit holds.
    pub(super) fn read(
        &mut self,
        header: UnitHeader<Slice<'d>>,
        names: &mut Names<'_, 'd>,
        answer: &mut Answer<'_>,
    ) -> Result<()> {
        if header.type_() == UnitType::Partial {
            return Ok(());
        }
        let abbreviations = self.abbreviations(&header)?;
        let mut unit = Unit::new_with_abbreviations(self.dwarf, header, abbreviations)?;
        let program = unit.line_program.take();
        let unit = UnitRef::new(self.dwarf, &unit);
        self.choose(unit, program.as_ref())?;
        if self.asked.is_empty() {
            return Ok(());
        }
        let table = self.lines.find(program, &self.asked, &mut self.budget)?;
        let main = Main { unit, table };
        match unit.dwo_id {
            Some(id) => self.split(&main, id, names, answer),
            None => {
                self.functions.find(unit, &self.asked, &mut self.budget)?;
                self.tell(&main, unit, names, answer);
                Ok(())
            }
        }
    }

    fn abbreviations(&mut self, header: &UnitHeader<Slice<'d>>) -> Result<Arc<Abbreviations>> {
        let offset = header.debug_abbrev_offset();
        if let Some((known, abbreviations)) = &self.abbreviations
            && *known == offset
        {
            return Ok(Arc::clone(abbreviations));
        }
        let abbreviations = self.dwarf.abbreviations(header)?;
        self.abbreviations = Some((offset, Arc::clone(&abbreviations)));
        Ok(abbreviations)
    }

    /// Chooses the addresses that a unit may hold.
    fn choose(
        &mut self,
        unit: UnitRef<'_, Slice<'d>>,
        program: Option<&Program<'d>>,
    ) -> Result<()> {
        self.positions.clear();
        self.asked.clear();
        let mut entries = unit.entries_raw(None)?;
        let abbreviation = entries.read_abbreviation()?.ok_or(gimli::Error::MissingUnitDie)?;
        let extent = Extent::read(&mut entries, abbreviation, unit)?;
        let has_ranges = extent.each(unit, &mut self.budget, |range| {
            let first = self.addresses.partition_point(|address| *address < range.begin);
            let behind = self.addresses[first..].iter();
            let inside = behind.take_while(|address| **address < range.end).count();
            let open = (first..first + inside).filter(|position| !self.answered[*position]);
            self.positions.extend(open);
        })?;
        if !has_ranges && let Some(program) = program {
            // Only its line table tells what such a unit holds.
            let open = (0..self.addresses.len()).filter(|position| !self.answered[*position]);
            self.positions.extend(open);
            self.asked.extend(self.positions.iter().map(|position| self.addresses[*position]));
            self.lines.find(Some(program.clone()), &self.asked, &mut self.budget)?;
            let mut asked = 0..;
            let lines = &self.lines;
            self.positions.retain(|_| asked.next().and_then(|asked| lines.row(asked)).is_some());
            self.asked.clear();
        }
        self.positions.sort_unstable();
        self.positions.dedup();
        self.asked.extend(self.positions.iter().map(|position| self.addresses[*position]));
        Ok(())
    }

    /// Answers by the entries of a unit that stand in a package or in a file of their own.
    fn split(
        &mut self,
        main: &Main<'_, 'd>,
        id: DwoId,
        names: &mut Names<'_, 'd>,
        answer: &mut Answer<'_>,
    ) -> Result<()> {
        let packed = self.package.map(|package| package.find_cu(id, self.dwarf)).transpose()?;
        if let Some(dwarf) = packed.flatten()
            && let Some(unit) = split_unit(&dwarf, main.unit.unit, id)?
        {
            return self.tell_split(main, UnitRef::new(&dwarf, &unit), answer);
        }
        let file = main.split_path(self.dwarf).and_then(|path| open(&path));
        let sections = file.and_then(|mut file| Sections::of_unit(&mut file));
        if let Some(sections) = &sections {
            let mut dwarf = sections.dwarf();
            dwarf.make_dwo(self.dwarf);
            if let Some(unit) = split_unit(&dwarf, main.unit.unit, id)? {
                return self.tell_split(main, UnitRef::new(&dwarf, &unit), answer);
            }
        }
        // Lines are there, the symbol table has names.
        self.functions.clear();
        self.tell(main, main.unit, names, answer);
        Ok(())
    }

    fn tell_split<'s>(
        &mut self,
        main: &Main<'_, 'd>,
        unit: UnitRef<'_, Slice<'s>>,
        answer: &mut Answer<'_>,
    ) -> Result<()> {
        self.functions.find(unit, &self.asked, &mut Budget::of(unit.dwarf))?;
        self.tell(main, unit, &mut Names::within_units(unit.dwarf), answer);
        Ok(())
    }

    /// Answers for every address that has been found.
    fn tell<'s>(
        &mut self,
        main: &Main<'_, 'd>,
        unit: UnitRef<'_, Slice<'s>>,
        names: &mut Names<'_, 's>,
        answer: &mut Answer<'_>,
    ) {
        self.functions.sort();
        self.paths.clear();
        let scope = Scope::of(&unit);
        let mut calls = Vec::new();
        for (asked, &position) in self.positions.iter().enumerate() {
            calls.clear();
            let entries = self.functions.holding(asked).rev();
            let named = entries.map(|entry| names.call(&scope, entry));
            // A reference that leads nowhere costs one address its answer.
            if named.map(|call| call.map(|call| calls.push(call))).any(|call| call.is_err()) {
                continue;
            }
            let row = self.lines.row(asked);
            if calls.is_empty() {
                if row.is_none() {
                    continue;
                }
                calls.push(Call::default());
            }
            let innermost = (row.map(|row| row.file), row.map_or(0, |row| row.line));
            let made = main.paths(&mut self.paths, innermost.0, &calls);
            if made.is_err() {
                continue;
            }
            let mut place = innermost;
            let frame = |call: &Call<'s>| {
                let (file, line) = std::mem::replace(&mut place, (call.file, call.line));
                let name = call.name.map(|name| name.to_string_lossy());
                Frame { name, file: self.paths.get(file), line }
            };
            let frames: Vec<_> = calls.iter().map(frame).collect();
            answer(position, &frames);
            self.answered[position] = true;
            self.left -= 1;
        }
    }
}

/// What stands in the program's own file of a unit.
struct Main<'u, 'd> {
    unit: UnitRef<'u, Slice<'d>>,
    table: Option<Table<'d>>,
}

impl<'d> Main<'_, 'd> {
    /// Makes the paths that calls need.
    fn paths(&self, paths: &mut Paths, innermost: Option<u64>, calls: &[Call<'_>]) -> Result<()> {
        let Some(table) = &self.table else { return Ok(()) };
        for file in calls.iter().map(|call| call.file).chain([innermost]).flatten() {
            paths.make(file, self.unit, table.header())?;
        }
        Ok(())
    }

    /// Returns where the compiler has put the entries.
    fn split_path(&self, dwarf: &Dwarf<'d>) -> Option<PathBuf> {
        let name = dwarf.attr_string(&self.unit, self.unit.dwo_name().ok()??).ok()?;
        let directory = self.unit.comp_dir.unwrap_or_default().to_string_lossy();
        Some(Path::new(&*directory).join(&*name.to_string_lossy()))
    }
}

/// Returns the unit of split debug information, if it is the one that belongs to the program's.
fn split_unit<'s>(dwarf: &Dwarf<'s>, main: &Unit<'s>, id: DwoId) -> Result<Option<Unit<'s>>> {
    let Some(header) = dwarf.units().next()? else { return Ok(None) };
    let mut unit = dwarf.unit(header)?;
    if unit.dwo_id != Some(id) {
        return Ok(None);
    }
    unit.copy_relocated_attributes(main);
    Ok(Some(unit))
}
