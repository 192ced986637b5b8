//! All executable parts of files in memory, as `/proc/self/maps` tells them.

use super::mapping::Mapping;
use super::moved::Moved;

/// The mappings of a process, the program's own first.
#[derive(Debug, Default, Clone)]
pub(crate) struct Mappings {
    list: Vec<Mapping>,
    moved: Moved,
    /// Positions in `list` by ascending start.
    by_address: Vec<usize>,
}

impl Mappings {
    /// Reads the text of `/proc/self/maps`; `program` is the path of the executable.
    pub(crate) fn parse(maps: &str, program: &str) -> Self {
        let mut list: Vec<Mapping> = Vec::new();
        let mut head: Option<Mapping> = None;
        for line in maps.lines() {
            let Some((mut mapping, is_code)) = parse_line(line) else { continue };
            if mapping.offset == 0 {
                head = Some(mapping.clone());
            }
            if is_code {
                let same = head.as_ref().filter(|head| mapping.is_of_the_file_of(head));
                mapping.head = same.map(|head| head.start);
                mapping.program = *mapping.file == *without_deleted(program);
                list.push(mapping);
            }
        }
        // Tools take the first mapping for the program.
        list.sort_by_key(|mapping| !mapping.program);
        let by_address = by_address(&list);
        Self { list, moved: Moved::default(), by_address }
    }

    /// Gives what was closed a mapping, and what has come in its place other addresses.
    pub(crate) fn tell_apart(&mut self, moved: Moved) {
        self.list = moved.mappings(std::mem::take(&mut self.list));
        self.by_address = by_address(&self.list);
        self.moved = moved;
    }

    /// Returns the address that stands in profiles for one of a record, of which the last closing that has touched
    /// it is known: its own, unless something else was there before.
    pub(crate) fn place(&self, address: u64, closings: u64) -> u64 {
        self.moved.place(address, closings)
    }

    /// Returns whether an address has had more than one meaning.
    pub(crate) fn is_ambiguous(&self, address: u64) -> bool {
        self.moved.is_ambiguous(address)
    }

    /// Returns the position of the mapping that holds an address.
    pub(crate) fn find(&self, address: u64) -> Option<usize> {
        let behind =
            self.by_address.partition_point(|&position| self.list[position].start <= address);
        let position = *self.by_address[..behind].last()?;
        (address < self.list[position].end).then_some(position)
    }

    pub(crate) fn list(&self) -> &[Mapping] {
        &self.list
    }

    pub(crate) fn list_mut(&mut self) -> &mut [Mapping] {
        &mut self.list
    }
}

fn by_address(list: &[Mapping]) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..list.len()).collect();
    positions.sort_by_key(|&position| list[position].start);
    positions
}

/// Reads one line, and whether it is executable; nothing if it is neither that nor the beginning of a file, not
/// understood, or memory without a file.
fn parse_line(line: &str) -> Option<(Mapping, bool)> {
    // start-end rwxp offset device inode [spaces] name, which may contain spaces itself.
    let (range, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let (device, rest) = rest.split_once(' ')?;
    let (inode, name) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_code = permissions.as_bytes().get(2) == Some(&b'x');
    if !is_code && offset.bytes().any(|digit| digit != b'0') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let name = name.trim_start_matches(' ');
    let file = without_deleted(name);
    if file.is_empty() {
        return None;
    }
    let mapping = Mapping {
        start: hexadecimal(start)?,
        end: hexadecimal(end)?,
        offset: hexadecimal(offset)?,
        file: file.into(),
        build_id: Box::default(),
        inode: format!("{device} {inode}").into(),
        deleted: file.len() != name.len(),
        program: false,
        gone: false,
        head: None,
        module: None,
    };
    Some((mapping, is_code))
}

/// Returns the name without the kernel's remark that the file is gone.
fn without_deleted(name: &str) -> &str {
    name.strip_suffix(" (deleted)").unwrap_or(name)
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what is read, written as `start end offset file`.
    fn check(program: &str, maps: &str, expected: &[&str]) -> Mappings {
        let mappings = Mappings::parse(maps, program);
        let read: Vec<String> = mappings
            .list()
            .iter()
            .map(|m| format!("{:x} {:x} {:x} {}", m.start, m.end, m.offset, m.file))
            .collect();
        assert_eq!(read, expected);
        mappings
    }

    #[test]
    fn executable_lines_are_read_in_order() {
        let mappings = check(
            "/usr/bin/cat",
            "\
00400000-0040b000 r-xp 00000000 fd:01 787766                             /usr/bin/cat
0060a000-0060b000 r--p 0000a000 fd:01 787766                             /usr/bin/cat
014ab000-014cc000 rw-p 00000000 00:00 0                                  [heap]
7f7d7797c000-7f7d77b36000 r-xp 00001000 fd:01 1180226                    /lib/libc.so.6
7f7d77b36000-7f7d77d36000 ---p 001ba000 fd:01 1180226                    /lib/libc.so.6
7ffc342a2000-7ffc342c3000 rw-p 00000000 00:00 0                          [stack]
7ffc34343000-7ffc34345000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 r-xp 00000090 00:00 0                  [vsyscall]
",
            &[
                "400000 40b000 0 /usr/bin/cat",
                "7f7d7797c000 7f7d77b36000 1000 /lib/libc.so.6",
                "7ffc34343000 7ffc34345000 0 [vdso]",
                "ffffffffff600000 ffffffffff601000 90 [vsyscall]",
            ],
        );
        assert_eq!(mappings.find(0x40_0000), Some(0));
        assert_eq!(mappings.find(0x40_afff), Some(0));
        assert_eq!(mappings.find(0x40_b000), None);
        assert_eq!(mappings.find(0x3f_ffff), None);
        assert_eq!(mappings.find(0x7f7d_7797_c001), Some(1));
        assert_eq!(mappings.find(u64::MAX), None);
    }

    #[test]
    fn the_remark_deleted_goes_and_is_remembered() {
        let mappings = check(
            "/srv/shop (deleted)",
            "\
00400000-0040b000 r-xp 00000000 fd:01 787766                             /srv/shop (deleted)
7f7d7797c000-7f7d77b36000 r-xp 00000000 fd:01 1180226                    /lib/libc.so.6
",
            &["400000 40b000 0 /srv/shop", "7f7d7797c000 7f7d77b36000 0 /lib/libc.so.6"],
        );
        assert!(mappings.list()[0].deleted);
        assert!(!mappings.list()[1].deleted);
    }

    #[test]
    fn the_beginning_of_a_file_is_found() {
        let mappings = check(
            "/srv/shop",
            "\
1000-2000 r--p 00000000 fd:01 1 /srv/shop
2000-3000 r-xp 00001000 fd:01 1 /srv/shop
3000-4000 r--p 00000000 fd:01 2 /lib/a.so (deleted)
4000-5000 r-xp 00001000 fd:01 2 /lib/a.so (deleted)
5000-6000 r--p 00000000 fd:01 3 /lib/a.so
6000-7000 r-xp 00001000 fd:01 3 /lib/a.so
7000-8000 r--p 00000000 fd:01 4 /lib/b.so
8000-9000 r-xp 00001000 fd:01 5 /lib/b.so
9000-a000 r-xp 00000000 fd:01 6 /lib/c.so
",
            &[
                "2000 3000 1000 /srv/shop",
                "4000 5000 1000 /lib/a.so",
                "6000 7000 1000 /lib/a.so",
                "8000 9000 1000 /lib/b.so",
                "9000 a000 0 /lib/c.so",
            ],
        );
        let heads: Vec<_> = mappings.list().iter().map(|mapping| mapping.head).collect();
        assert_eq!(heads, [Some(0x1000), Some(0x3000), Some(0x5000), None, Some(0x9000)]);
    }

    #[test]
    fn names_may_contain_spaces() {
        check(
            "",
            "00400000-0040b000 r-xp 00000000 fd:01 7 /srv/a program (new) / here\n",
            &["400000 40b000 0 /srv/a program (new) / here"],
        );
    }

    #[test]
    fn text_on_huge_pages_leaves_its_nameless_part_out() {
        check(
            "/srv/shop",
            "\
00400000-07000000 r-xp 00000000 00:00 0 
07000000-07093000 r-xp 06c00000 00:2e 536754                             /srv/shop
07093000-0722d000 rw-p 06c92000 00:2e 536754                             /srv/shop
0722d000-07b21000 rw-p 00000000 00:00 0 
",
            &["7000000 7093000 6c00000 /srv/shop"],
        );
    }

    #[test]
    fn the_program_stands_first_wherever_it_lies() {
        let mappings = check(
            "/srv/shop",
            "\
1000-2000 r-xp 00000000 fd:01 1 /lib/a.so
3000-4000 r-xp 00000000 fd:01 2 /srv/shop
4000-5000 r-xp 00000000 fd:01 3 /lib/b.so
5000-6000 r-xp 00009000 fd:01 2 /srv/shop
",
            &[
                "3000 4000 0 /srv/shop",
                "5000 6000 9000 /srv/shop",
                "1000 2000 0 /lib/a.so",
                "4000 5000 0 /lib/b.so",
            ],
        );
        assert_eq!(mappings.find(0x1800), Some(2));
        assert_eq!(mappings.find(0x5800), Some(1));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(maps in "([0-9a-f]{0,3}-[0-9a-f]{0,3} r-xp [0-9a-f]{0,2} 0 0 /a\n|\\PC{0,20}\n){0,5}", address: u64) {
            let mappings = Mappings::parse(&maps, "/a");
            if let Some(position) = mappings.find(address % 0x1000) {
                let mapping = &mappings.list()[position];
                proptest::prop_assert!((mapping.start..mapping.end).contains(&(address % 0x1000)));
            }
        }
    }

    #[test]
    fn lines_that_are_not_understood_are_left_out() {
        check("", "", &[]);
        check("", "nonsense\n-\n 1-2 r-xp\nzz-yy r-xp 0 0 0 /a\n1-2 r 0 0 0 /a\n", &[]);
    }
}
