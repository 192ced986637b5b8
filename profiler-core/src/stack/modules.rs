//! Which modules are loaded, and where their unwind tables are.
//!
//! A library may be unloaded while a capture reads its tables, so those of libraries are copied:
//! half a megabyte for what a Rust program usually links. The kernel copies them, since a library's file may be cut short
//! while it is mapped. The program itself cannot be unloaded, and
//! its tables, the largest as a rule, are read where they are.
//!
//! The list is taken again when the loader has loaded or unloaded something. Until then a new
//! library is walked like code without tables, also where one was closed before. Where the closing was not heard
//! the old tables may give wrong callers; never a fault, since every step is checked.

use std::ops::{Deref, Range};

use super::dwarf::{Pool, Table, Tables};
use super::loaded::{Found, Libraries, look_begins};
use crate::loaded::{Closed, Library};
use crate::sys::{self, LoadedModule, ModuleBytes};

/// What was loaded when it was looked at last.
pub(super) struct Modules {
    generation: Option<(u64, u64)>,
    list: Vec<Module>,
    libraries: Libraries,
}

#[derive(Clone)]
struct Module {
    base: u64,
    code: Range<u64>,
    /// The sorted list of functions and their tables: if that is equal byte by byte, so is the rest.
    index: ModuleBytes,
    table: Table,
}

impl Modules {
    pub(super) const fn new() -> Self {
        Self { generation: None, list: Vec::new(), libraries: Libraries::new() }
    }

    /// Hands the tables to the pool if the loader has been at work since the last call. Returns
    /// whether it did so.
    pub(super) fn refresh(&mut self, pool: &Pool) -> bool {
        look_begins();
        // Taken first: what is loaded meanwhile is found next time.
        let generation = sys::module_generation();
        if self.generation == Some(generation) {
            return false;
        }
        let (mut list, mut libraries) = (Vec::new(), Vec::new());
        let mut at = generation;
        // Of a library with the profiler in it nothing may be called when it is gone.
        let mut is_heard = false;
        let here = Self::new as *const () as u64;
        sys::visit_modules(&mut |loaded| {
            at = loaded.generation;
            list.extend(Module::new(loaded, &self.list));
            is_heard |= loaded.is_program && loaded.code.contains(&here);
            if !loaded.is_program {
                let handles = if is_heard { loaded.handles() } else { Vec::new() };
                libraries.push(Found { library: library(loaded), handles });
            }
        });
        self.libraries.look(libraries, at);
        self.list = list;
        let tables = Tables::new(self.list.iter().map(|module| module.table.clone()));
        // Not remembered if a parser could not be had: the next call tries again.
        let is_done = pool.replace(&tables) && !self.libraries.needs_another_look();
        self.generation = is_done.then_some(generation);
        true
    }

    /// Returns how many modules had been unloaded when it was looked at last.
    pub(super) fn unloaded(&self) -> Option<u64> {
        self.generation.map(|(_, unloaded)| unloaded)
    }

    /// Returns what was closed, in order, and the number of the last closing that is not remembered.
    pub(super) fn closed(&mut self) -> (Vec<Closed>, u64) {
        self.libraries.closed()
    }
}

fn library(loaded: &LoadedModule<'_>) -> Library {
    /// What is mapped begins and ends with a page.
    const PAGE: u64 = 4096;
    let whole_pages = |(range, offset): &(Range<u64>, u64)| {
        let before = range.start % PAGE;
        let end = range.end.next_multiple_of(PAGE);
        (range.start - before..end, offset.saturating_sub(before))
    };
    Library {
        file: loaded.file.as_str().into(),
        base: loaded.base,
        build_id: loaded.build_id().into(),
        parts: loaded.parts.iter().map(whole_pages).collect(),
    }
}

impl Module {
    /// Returns the module, as it was before if it is still the same, or nothing if it has no tables.
    fn new(loaded: &LoadedModule<'_>, before: &[Self]) -> Option<Self> {
        let index = loaded.unwind_index.clone()?;
        let index_kept = loaded.read(index.clone())?;
        let same = before.iter().find(|known| {
            known.base == loaded.base && known.code == loaded.code && *known.index == *index_kept
        });
        if same.is_some() {
            return same.cloned();
        }
        let start = table_address(index.start, &index_kept)?;
        let rest = start..loaded.constant_end(start)?;
        let table = if loaded.is_program {
            rest
        } else {
            let piece = |at: u64| loaded.read(at..rest.end.min(at.saturating_add(PIECE)));
            start..start + table_length(rest.end - start, |at| piece(start + at))?
        };
        let entries = loaded.read(table)?;
        Some(Self {
            base: loaded.base,
            code: loaded.code.clone(),
            index: index_kept.clone(),
            table: Table {
                code: loaded.code.clone(),
                index: (index.start, index_kept),
                entries: (start, entries),
            },
        })
    }
}

/// Returns the address of `.eh_frame`, which stands in the first eight bytes of `.eh_frame_hdr`:
/// version 1, three encodings, and the distance from there in the encoding that all linkers use.
fn table_address(index: u64, bytes: &[u8]) -> Option<u64> {
    const RELATIVE_TO_ITSELF_IN_32_BITS: u8 = 0x1b;
    match *bytes.first_chunk()? {
        [1, RELATIVE_TO_ITSELF_IN_32_BITS, _, _, a, b, c, d] => {
            let distance = i32::from_le_bytes([a, b, c, d]);
            index.checked_add(4)?.checked_add_signed(distance.into())
        }
        _ => None,
    }
}

/// Returns the length of `.eh_frame`, which stands nowhere: entries, each with its length before
/// it, up to one of length 0, or to the end of the segment if the linker left that out.
///
/// `piece` reads from a place on: as much as there is, up to [`PIECE`].
fn table_length<B: Deref<Target = [u8]>>(
    end: u64,
    piece: impl Fn(u64) -> Option<B>,
) -> Option<u64> {
    let mut at = 0;
    while at < end {
        let bytes = piece(at)?;
        let first = at;
        while let Some(length) =
            usize::try_from(at - first).ok().and_then(|inside| bytes.get(inside..)?.first_chunk())
        {
            at += size_of::<u32>() as u64;
            match u32::from_le_bytes(*length) {
                0 => return Some(at),
                // The 64-bit form, which no linker writes below 4 GiB.
                u32::MAX => return Some(end),
                length => at += u64::from(length),
            }
        }
        if at == first {
            break;
        }
    }
    Some(end)
}

/// Less than what malloc maps for itself.
const PIECE: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces of six bytes.
    fn length(bytes: &[u8]) -> usize {
        let piece = |at: u64| Some(bytes[at as usize..].chunks(6).next().unwrap_or(&[]));
        table_length(bytes.len() as u64, piece).expect("it is read") as usize
    }

    #[test]
    fn the_table_is_found_from_the_index() {
        let index = |distance: i32| {
            let mut bytes = vec![1, 0x1b, 3, 0x3b];
            bytes.extend(distance.to_le_bytes());
            bytes
        };
        assert_eq!(table_address(0x1000, &index(0x20)), Some(0x1024));
        assert_eq!(table_address(0x1000, &index(-0x20)), Some(0xfe4));
        assert_eq!(table_address(0, &index(-0x20)), None);
        assert_eq!(table_address(0x1000, &index(0x20)[..7]), None);
        assert_eq!(table_address(0x1000, &[2, 0x1b, 3, 0x3b, 0, 0, 0, 0]), None);
        assert_eq!(table_address(0x1000, &[1, 0xff, 3, 0x3b, 0, 0, 0, 0]), None);
    }

    #[test]
    fn the_table_ends_after_an_empty_entry() {
        assert_eq!(length(&[2, 0, 0, 0, 7, 7, 0, 0, 0, 0, 9, 9, 9, 9]), 10);
    }

    #[test]
    fn a_table_without_an_end_goes_as_far_as_its_segment() {
        assert_eq!(length(&[]), 0);
        assert_eq!(length(&[2, 0, 0, 0, 7, 7]), 6);
        assert_eq!(length(&[200, 0, 0, 0, 7, 7]), 6);
        assert_eq!(length(&[0xff, 0xff, 0xff, 0xff, 7, 7, 7]), 7);
    }
}
