//! Files that are opened to be read: regular ones alone, so that nothing is waited for.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::FileStamp;

/// Opens a regular file. Allocates; not for signal handlers.
pub(crate) fn open_file(path: &Path) -> io::Result<(File, FileStamp)> {
    // Looked at before, since to open a device may do something, and after, since the name may have become another's.
    stamp(&std::fs::metadata(path)?)?;
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let stamp = file_stamp(&file)?;
    Ok((file, stamp))
}

/// Returns what a regular file is known by now.
pub(crate) fn file_stamp(file: &File) -> io::Result<FileStamp> {
    stamp(&file.metadata()?)
}

fn stamp(metadata: &Metadata) -> io::Result<FileStamp> {
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok(FileStamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let directory = std::env::temp_dir().join(format!("profiler-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let pipe = directory.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|made| made.success()));
        for path in [&*directory, &pipe, Path::new("/dev/zero")] {
            let error = open_file(path).expect_err("no regular file");
            assert_eq!(error.to_string(), "it is no regular file", "{path:?}");
        }
        std::fs::remove_dir_all(&directory).expect("it was made");
        assert_eq!(open_file(&pipe).expect_err("gone").kind(), io::ErrorKind::NotFound);
        // Positive control.
        open_file(&std::env::current_exe().expect("a path")).expect("a program");
    }
}
