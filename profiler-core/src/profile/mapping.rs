//! An executable part of a file in memory, and where those lie that are none.

use std::ops::Range;

/// An executable part of a file in memory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    /// The first address behind it.
    pub(crate) end: u64,
    /// Where in the file it begins.
    pub(crate) offset: u64,
    /// The file, or a name in brackets for what the kernel provides.
    pub(crate) file: Box<str>,
    /// Lower-case hexadecimal; empty if the file has none.
    pub(crate) build_id: Box<str>,
    /// Device and inode: another file under the same name is another file.
    pub(crate) inode: Box<str>,
    /// Whether the file is no longer to be found under its name.
    pub(crate) deleted: bool,
    /// Whether it belongs to the running program and not to a library.
    pub(crate) program: bool,
    /// Whether it is there no more: the name of the file says so.
    pub(crate) gone: bool,
    /// Where the beginning of the file lies in memory, if it does.
    pub(crate) head: Option<u64>,
    /// The resolver's handle of the file.
    pub(crate) module: Option<u32>,
}

impl Mapping {
    /// Returns whether it is a part of a file, so that names may be found.
    pub(crate) fn is_file(&self) -> bool {
        self.file.starts_with('/')
    }

    pub(crate) fn is_of_the_file_of(&self, other: &Self) -> bool {
        self.inode == other.inode && self.file == other.file && self.deleted == other.deleted
    }
}

/// Where the addresses of frames are that are no machine code: above all that a process can have, and below 2^53, so that readers
/// that count in floating point tell them apart.
pub(crate) const PSEUDO: Range<u64> = 1 << 52..(1 << 52) + SPAN;

/// As many as a process has addresses.
pub(crate) const SPAN: u64 = 1 << 48;
