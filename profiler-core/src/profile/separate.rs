//! Debug information and symbols that stand in a file of their own, as distributions and `objcopy --only-keep-debug`
//! leave them.
//!
//! It is found by the build id under `/usr/lib/debug`, or by the name that stands in the section `.gnu_debuglink`, in
//! the places where debuggers look. What has another build id or another checksum belongs to another build.
//!
//! Under `/usr/lib/debug` only that of the program is looked for: distributions put there what belongs to libc, whose paths lead to
//! nothing here, and whose functions would have other names on some machines than on all others.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::opened::Opened;
use crate::sys::FileStamp;

/// Where distributions put them.
const SYSTEM: &str = "/usr/lib/debug";

/// The checksum of the file that was looked at last: to make it takes a millisecond a megabyte.
pub(crate) type Checked = Option<(FileStamp, u32)>;

/// Finds the file that belongs to one that was opened and has a name; is it the program, in the system's folder too.
pub(crate) fn find(
    of: &mut Opened,
    file: &Path,
    is_program: bool,
    checked: &mut Checked,
) -> Option<Opened> {
    let build_id = of.elf.build_id().ok().flatten();
    let system = is_program.then_some(Path::new(SYSTEM));
    let by_build_id =
        system.zip(build_id.as_deref()).and_then(|(system, id)| by_build_id(system, id));
    by_build_id.or_else(|| by_link(of, file, system, build_id.as_deref(), checked))
}

fn by_build_id(system: &Path, id: &str) -> Option<Opened> {
    let (directory, name) = id.split_at_checked(2).filter(|(_, name)| !name.is_empty())?;
    let path = system.join(".build-id").join(directory).join(format!("{name}.debug"));
    let mut found = Opened::at(&path).ok()?;
    let is_it = found.elf.build_id_of_sections().is_ok_and(|found| found.as_deref() == Some(id));
    is_it.then_some(found)
}

fn by_link(
    of: &mut Opened,
    file: &Path,
    system: Option<&Path>,
    build_id: Option<&str>,
    checked: &mut Checked,
) -> Option<Opened> {
    let section = of.elf.section(".gnu_debuglink").ok()??;
    let link = of.elf.read_section(section).ok()?;
    let (name, sum) = parse(&link)?;
    let directory = file.parent()?;
    let beside = directory.strip_prefix("/").unwrap_or(directory);
    let places = [directory.to_owned(), directory.join(".debug")];
    places.into_iter().chain(system.map(|system| system.join(beside))).find_map(|place| {
        let mut found = Opened::at(&place.join(name)).ok()?;
        let other = found.elf.build_id_of_sections().ok().flatten();
        let is_another = build_id.zip(other.as_deref()).is_some_and(|(one, other)| one != other);
        (!is_another && checksum(&found, checked).ok()? == sum).then_some(found)
    })
}

/// Reads a name, and behind it, at the next multiple of four, a checksum.
fn parse(link: &[u8]) -> Option<(&str, u32)> {
    let end = link.iter().position(|byte| *byte == 0)?;
    let name = str::from_utf8(&link[..end]).ok()?;
    let sum = link.get((end + 1).next_multiple_of(4)..)?.first_chunk()?;
    let is_name = !name.is_empty() && !name.contains('/');
    is_name.then_some((name, u32::from_le_bytes(*sum)))
}

fn checksum(found: &Opened, checked: &mut Checked) -> io::Result<u32> {
    if let Some((stamp, sum)) = checked
        && *stamp == found.stamp
    {
        return Ok(*sum);
    }
    let mut file = &*found.file;
    file.seek(SeekFrom::Start(0))?;
    let mut sum = flate2::Crc::new();
    let mut bytes = vec![0; 1 << 16];
    loop {
        match file.read(&mut bytes)? {
            0 => break,
            read => sum.update(&bytes[..read]),
        }
    }
    *checked = Some((found.stamp, sum.sum()));
    Ok(sum.sum())
}

#[cfg(all(test, profiler_native))]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// A library in a directory of its own, with the debug file beside it.
    struct Stripped(PathBuf);

    impl Stripped {
        fn new(test: &str) -> Self {
            let name = format!("profiler-separate-{test}-{}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir_all(&directory).expect("a directory");
            let script = "echo 'static int f(void) { return 1; } int g(void) { return f(); }' >a.c
                cc -shared -g -O0 -nostartfiles -Wl,--build-id a.c -o a.so
                objcopy --only-keep-debug a.so a.debug
                strip a.so
                objcopy --add-gnu-debuglink=a.debug a.so";
            let made = Command::new("sh").args(["-ec", script]).current_dir(&directory).status();
            assert!(made.is_ok_and(|made| made.success()));
            Self(directory)
        }

        fn find(&self) -> Option<Opened> {
            let file = self.0.join("a.so");
            find(&mut Opened::at(&file).expect("a library"), &file, true, &mut None)
        }
    }

    impl Drop for Stripped {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("it was made");
        }
    }

    #[test]
    fn what_was_stripped_is_found_beside_and_below_and_is_no_other_builds() {
        let stripped = Stripped::new("link");
        let mut found = stripped.find().expect("beside it");
        assert!(found.elf.has_symbols() && found.elf.has_debug_information());
        let (beside, below) = (stripped.0.join("a.debug"), stripped.0.join(".debug"));
        fs::create_dir(&below).expect("a directory");
        fs::rename(&beside, below.join("a.debug")).expect("the same file system");
        assert!(stripped.find().is_some());
        let mut bytes = fs::read(below.join("a.debug")).expect("a file");
        let last = bytes.last_mut().expect("not empty");
        *last = last.wrapping_add(1);
        fs::write(&beside, bytes).expect("room");
        fs::remove_dir_all(below).expect("it was made");
        assert!(stripped.find().is_none());
    }

    #[test]
    fn a_file_under_a_build_id_has_it() {
        let stripped = Stripped::new("id");
        let mut library = Opened::at(&stripped.0.join("a.so")).expect("a library");
        let id = library.elf.build_id().expect("notes").expect("one");
        let under = |id: &str| {
            let directory = stripped.0.join(".build-id").join(&id[..2]);
            fs::create_dir_all(&directory).expect("a directory");
            let file = directory.join(format!("{}.debug", &id[2..]));
            fs::copy(stripped.0.join("a.debug"), file).expect("room");
            by_build_id(&stripped.0, id).is_some()
        };
        assert!(under(&id));
        assert!(!under("0123456789"));
    }

    #[test]
    fn a_link_is_a_name_and_a_checksum() {
        for (link, expected) in [
            (&b"shop.debug\0\0\x04\x03\x02\x01"[..], Some(("shop.debug", 0x0102_0304))),
            (b"abc\0\x04\x03\x02\x01", Some(("abc", 0x0102_0304))),
            (b"abc\0\x04\x03\x02", None),
            (b"abcd", None),
            (b"\0\0\0\0\x04\x03\x02\x01", None),
            (b"../abc\0\0\x04\x03\x02\x01", None),
            (b"", None),
        ] {
            assert_eq!(parse(link), expected, "{link:?}");
        }
    }
}
