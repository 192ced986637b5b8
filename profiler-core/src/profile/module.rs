//! The files that are or were in memory, as far as names need them.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::elf::{Elf, Segment, SymbolTable};
use super::mapping::Mapping;

/// The running program, also after its file was replaced.
pub(crate) const PROGRAM: &str = "/proc/self/exe";

/// A file that is or was in memory.
#[derive(Debug)]
pub(crate) struct Module {
    pub(crate) file: Box<str>,
    pub(crate) inode: Box<str>,
    /// Where it can be opened, if it can.
    pub(crate) path: Option<PathBuf>,
    pub(crate) build_id: Box<str>,
    pub(crate) segments: Vec<Segment>,
}

impl Module {
    /// Reads what is needed of the file of a mapping, if it can be opened.
    pub(crate) fn open(mapping: &Mapping) -> Self {
        let by_range =
            || format!("/proc/self/map_files/{:x}-{:x}", mapping.start, mapping.end).into();
        let by_name = || PathBuf::from(&*mapping.file);
        let path = match (mapping.deleted, mapping.program) {
            (false, false) => by_name(),
            // In another root directory the name may lead nowhere.
            (false, true) if Path::new(&*mapping.file).exists() => by_name(),
            (_, true) => PROGRAM.into(),
            // Needs a privilege that few processes have; without it the names stay unknown.
            (true, false) => by_range(),
        };
        let mut module = Self {
            file: mapping.file.clone(),
            inode: mapping.inode.clone(),
            path: None,
            build_id: Box::default(),
            segments: Vec::new(),
        };
        let elf = File::open(&path).and_then(Elf::new);
        if let Ok(mut elf) = elf {
            module.segments = elf.segments().unwrap_or_default();
            module.build_id = elf.build_id().ok().flatten().unwrap_or_default().into();
            module.path = Some(path);
        }
        module
    }

    /// Reads the functions of the file; only those of some addresses, in ascending order, if they are known.
    pub(crate) fn symbols(&self, asked: Option<&[u64]>) -> Option<SymbolTable<File>> {
        let file = File::open(self.path.as_ref()?).ok()?;
        Elf::new(file).and_then(|elf| elf.symbols(asked)).ok()
    }
}
