//! A file of functions that is open.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::elf::{Elf, SymbolTable};
use crate::sys::{self, FileStamp};

/// A file that was opened, and is the one that is mapped.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) elf: Elf<Arc<File>>,
    pub(crate) file: Arc<File>,
    pub(crate) stamp: FileStamp,
}

impl Opened {
    /// Opens a file, whatever it is.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let (file, stamp) = sys::open_file(path)?;
        let file = Arc::new(file);
        let elf = Elf::new(Arc::clone(&file)).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => io::Error::other("it is no ELF file"),
            _ => error,
        })?;
        Ok(Self { elf, file, stamp })
    }

    /// Returns whether nobody has written to the file since.
    pub(crate) fn is_unchanged(&self) -> bool {
        sys::file_stamp(&self.file).is_ok_and(|stamp| stamp == self.stamp)
    }

    /// Reads the functions of the file; only those of some addresses, in ascending order, if they are known.
    pub(crate) fn symbols(&self, asked: Option<&[u64]>) -> Option<SymbolTable<Arc<File>>> {
        Elf::new(Arc::clone(&self.file)).and_then(|elf| elf.symbols(asked)).ok()
    }
}
