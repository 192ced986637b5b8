//! Files and lines of addresses, by the line table of a unit.
//!
//! The table is a program that makes rows in sequences, whose addresses ascend; a row stands for the
//! addresses up to the next one. It is run once, and of its rows those are kept that were asked for.

use std::ops::Range;

use gimli::{IncompleteLineProgram, LineProgramHeader, LineRow, LineRows, UnitRef};
use rustc_hash::FxHashMap;

use super::extent::Budget;
use super::names::LONGEST_NAME;
use super::{Result, Slice};

pub(super) type Program<'d> = IncompleteLineProgram<Slice<'d>>;
/// A program that is being run; its header tells the files.
pub(super) type Table<'d> = LineRows<Slice<'d>, Program<'d>, usize>;

/// The rows of addresses.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rows: Vec<Option<Row>>,
}

/// What a row says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// An index of the line table.
    pub(super) file: u64,
    /// 0 if unknown.
    pub(super) line: u32,
}

impl From<&LineRow> for Row {
    fn from(row: &LineRow) -> Self {
        let line = row.line().map_or(0, |line| u32::try_from(line.get()).unwrap_or(0));
        Self { file: row.file_index(), line }
    }
}

impl Lines {
    /// Finds the rows of addresses that ascend; returns what tells the files.
    pub(super) fn find<'d>(
        &mut self,
        program: Option<Program<'d>>,
        asked: &[u64],
        budget: &mut Budget,
    ) -> Result<Option<Table<'d>>> {
        self.rows.clear();
        self.rows.resize(asked.len(), None);
        let Some(program) = program else { return Ok(None) };
        budget.spend(program.header().raw_program_buf().len())?;
        let mut left = asked.len();
        let mut table = program.rows();
        let mut before = None;
        let mut next = 0;
        while left > 0
            && let Some((_, row)) = table.next_row()?
        {
            let address = row.address();
            match before {
                None => next = asked.partition_point(|asked| *asked < address),
                Some(before) => {
                    while asked.get(next).is_some_and(|asked| *asked < address) {
                        // Of sequences that overlap the first one counts.
                        left -= usize::from(self.rows[next].is_none());
                        self.rows[next].get_or_insert(before);
                        next += 1;
                    }
                }
            }
            before = (!row.end_sequence()).then(|| Row::from(row));
        }
        Ok(Some(table))
    }

    pub(super) fn row(&self, asked: usize) -> Option<Row> {
        self.rows[asked]
    }
}

/// The paths of a unit's files, made when they are first asked for.
#[derive(Debug, Default)]
pub(super) struct Paths {
    text: String,
    known: FxHashMap<u64, Range<usize>>,
}

impl Paths {
    /// Begins another unit.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.known.clear();
    }

    /// Returns the path of a file that was made before.
    pub(super) fn get(&self, file: Option<u64>) -> &str {
        let range = file.and_then(|file| self.known.get(&file));
        range.map_or("", |range| &self.text[range.clone()])
    }

    /// Makes the path of a file: compilation directory, directory, name, as far as it is relative.
    pub(super) fn make<'d>(
        &mut self,
        file: u64,
        unit: UnitRef<'_, Slice<'d>>,
        header: &LineProgramHeader<Slice<'d>>,
    ) -> Result<()> {
        if self.known.contains_key(&file) {
            return Ok(());
        }
        let start = self.text.len();
        if let Some(entry) = header.file(file) {
            let name = unit.attr_string(entry.path_name())?;
            // The directory 0 is that of the compilation.
            let index = entry.directory_index();
            let directory = (index != 0).then(|| header.directory(index)).flatten();
            let directory = directory.map(|directory| unit.attr_string(directory)).transpose()?;
            let parts = [unit.comp_dir, directory, Some(name)].into_iter().flatten();
            parts.filter(|part| part.len() <= LONGEST_NAME).for_each(|part| self.push(start, part));
        }
        self.known.insert(file, start..self.text.len());
        Ok(())
    }

    fn push(&mut self, start: usize, part: Slice<'_>) {
        let part = part.to_string_lossy();
        let path = &self.text[start..];
        if separator(&part).is_some() {
            self.text.truncate(start);
        } else if !path.is_empty() {
            let separator = separator(path).unwrap_or('/');
            if !path.ends_with(separator) {
                self.text.push(separator);
            }
        }
        self.text.push_str(&part);
    }
}

/// Returns what separates the parts of a path, if it is absolute; programs are made on Windows too.
fn separator(path: &str) -> Option<char> {
    let behind_drive = path.get(1..3).and_then(|root| root.strip_prefix(':')).unwrap_or_default();
    ['/', '\\']
        .into_iter()
        .find(|separator| path.starts_with(*separator) || behind_drive.starts_with(*separator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_far_as_they_are_relative() {
        for (parts, expected) in [
            (&["/src", "shop", "main.rs"][..], "/src/shop/main.rs"),
            (&["/src", "/rustc/core", "lib.rs"], "/rustc/core/lib.rs"),
            (&["/src/", "main.rs"], "/src/main.rs"),
            (&["/src", "/rustc/core", "/a.rs"], "/a.rs"),
            (&["main.rs"], "main.rs"),
            (&["C:\\src", "shop", "main.rs"], "C:\\src\\shop\\main.rs"),
            (&["C:/src", "main.rs"], "C:/src/main.rs"),
            (&["/src", "\\a.rs"], "\\a.rs"),
        ] {
            let mut paths = Paths::default();
            paths.text.push_str("of another");
            for part in parts {
                paths.push(10, Slice::new(part.as_bytes(), gimli::LittleEndian));
            }
            assert_eq!(&paths.text[10..], expected);
        }
    }
}
