//! A reader of the legacy text form (`debug=1`), as strict as the expressions in Go's own tests.

use std::collections::BTreeMap;

/// A profile in the legacy text form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// The lines above the first record.
    pub header: Vec<String>,
    /// The records, in their order.
    pub records: Vec<Record>,
    /// What stands behind the records of the heap, by name.
    pub memory: BTreeMap<String, u64>,
}

/// One stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The numbers before the `@`; of the heap objects and bytes in use, and then allocated.
    pub values: Vec<i64>,
    /// The functions, leaf first, inlined ones in their place.
    pub names: Vec<String>,
    /// The text labels.
    pub labels: BTreeMap<String, String>,
}

impl Text {
    /// Reads a profile that has been symbolized.
    ///
    /// # Panics
    ///
    /// A line has no form of the format, an address is zero, or the addresses of a record and those
    /// of its `#` lines differ.
    #[must_use]
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let is_record = |line: &&str| line.contains(" @") && !line.contains(" @ heap/");
        let header: Vec<_> = text.lines().take_while(|line| !is_record(line)).collect();
        let mut records = Vec::new();
        let mut lines = text.lines().skip(header.len()).peekable();
        let mut memory = BTreeMap::new();
        while let Some(line) = lines.next() {
            if line.is_empty() && lines.next() == Some("# runtime.MemStats") {
                memory = lines.map(|line| figure(line).unwrap_or_else(|| wrong(line))).collect();
                break;
            }
            let (values, addresses) = line.split_once(" @").unwrap_or_else(|| wrong(line));
            let values = numbers(values).unwrap_or_else(|| wrong(line));
            let mut record = Record { values, ..Record::default() };
            let addresses = addresses.split(' ').skip(1).map(|address| hexadecimal(address, line));
            // Return addresses there, calls here.
            let mut expected: Vec<_> = addresses.map(|address| address - 1).collect();
            let mut calls = Vec::new();
            for line in lines.by_ref().take_while(|line| !line.is_empty()) {
                if let Some(labels) = line.strip_prefix("# labels: ") {
                    assert!(record.labels.is_empty(), "two lines of labels: {line:?}");
                    record.labels = labels_of(labels).unwrap_or_else(|| wrong(line));
                } else {
                    let (call, name) = frame(line).unwrap_or_else(|| wrong(line));
                    calls.push(call);
                    record.names.push(name);
                }
            }
            // Functions that were inlined into one another share their address, and so do the calls
            // of a recursion.
            calls.dedup();
            expected.dedup();
            assert_eq!(calls, expected, "the addresses of {line:?}");
            records.push(record);
        }
        Self { header: header.into_iter().map(str::to_owned).collect(), records, memory }
    }

    /// Returns the records whose leaf is that function.
    pub fn with_leaf(&self, name: &str) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.names.first().is_some_and(|n| n == name))
    }
}

/// Reads numbers with spaces between them, or `1: 2 [3: 4]` of the heap.
fn numbers(values: &str) -> Option<Vec<i64>> {
    let values: Vec<_> = match values.strip_suffix(']') {
        Some(values) => {
            let (in_use, allocated) = values.split_once(" [")?;
            let [in_use, allocated] = [in_use, allocated].map(|pair| pair.split_once(": "));
            let ((objects, bytes), (all_objects, all_bytes)) = (in_use?, allocated?);
            vec![objects, bytes, all_objects, all_bytes]
        }
        None => values.split(' ').collect(),
    };
    values.into_iter().map(|value| value.parse().ok()).collect()
}

/// Reads `# Name = 1`.
fn figure(line: &str) -> Option<(String, u64)> {
    let (name, value) = line.strip_prefix("# ")?.split_once(" = ")?;
    Some((name.to_owned(), value.parse().ok()?))
}

/// Reads `#`, address, name with offset, and the place if it is known, with tabs between them.
fn frame(line: &str) -> Option<(u64, String)> {
    let mut parts = line.strip_prefix("#\t")?.split('\t');
    let call = hexadecimal(parts.next()?, line);
    let (name, offset) = parts.next()?.rsplit_once("+0x")?;
    u64::from_str_radix(offset, 16).ok()?;
    if let Some(place) = parts.next() {
        let (file, number) = place.rsplit_once(':')?;
        number.parse::<u32>().ok().filter(|_| !file.is_empty())?;
    }
    (call != 0 && !name.is_empty() && parts.next().is_none()).then(|| (call, name.to_owned()))
}

/// Reads `{"key":"value", …}` without escapes.
fn labels_of(labels: &str) -> Option<BTreeMap<String, String>> {
    let pairs = labels.strip_prefix("{\"")?.strip_suffix("\"}")?.split("\", \"");
    let pair = |pair: &str| {
        let (key, value) = pair.split_once("\":\"")?;
        Some((key.to_owned(), value.to_owned()))
    };
    pairs.map(pair).collect()
}

#[track_caller]
fn hexadecimal(address: &str, line: &str) -> u64 {
    let digits = address.strip_prefix("0x").unwrap_or_else(|| wrong(line));
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| wrong(line))
}

#[track_caller]
fn wrong(line: &str) -> ! {
    panic!("{line:?} is no line of the text form");
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
--- contention:
cycles/second=1000000000
500 2 @ 0x11 0x21
#\t0x10\tinner+0x5\t/srv/shop.rs:1
#\t0x10\touter+0x5\t/srv/shop.rs:2
#\t0x20\t[running]+0x0
# labels: {\"a\":\"b c\", \"d\":\"e\"}

400 1 @ 0x21
#\t0x20\tmain+0x5\t/srv/shop.rs:1

";

    #[test]
    fn records_are_read() {
        let text = Text::parse(GOOD);
        assert_eq!(text.header, ["--- contention:", "cycles/second=1000000000"]);
        let labels = [("a", "b c"), ("d", "e")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(text.records[0].values, [500, 2]);
        assert_eq!(text.records[0].names, ["inner", "outer", "[running]"]);
        assert_eq!(text.records[0].labels, BTreeMap::from(labels));
        assert_eq!(
            text.with_leaf("main").map(|record| &record.values[..]).next(),
            Some(&[400, 1][..])
        );
    }

    const HEAP: &str = "\
heap profile: 3: 158 [6: 328] @ heap/2
3: 150 [4: 200] @ 0x21
#\t0x20\tmain+0x5\t/srv/shop.rs:1
# labels: {\"bytes\":\"64\"}

0: 8 [2: 128] @ 0x21
#\t0x20\tmain+0x5\t/srv/shop.rs:1


# runtime.MemStats
# Alloc = 3000
# MaxRSS = 5000
";

    #[test]
    fn records_of_the_heap_are_read() {
        let text = Text::parse(HEAP);
        assert_eq!(text.header, ["heap profile: 3: 158 [6: 328] @ heap/2"]);
        let values: Vec<_> = text.records.iter().map(|record| &record.values[..]).collect();
        assert_eq!(values, [[3, 150, 4, 200], [0, 8, 2, 128]]);
        assert_eq!(text.records[0].labels["bytes"], "64");
        let memory = [("Alloc", 3000), ("MaxRSS", 5000)];
        assert_eq!(text.memory, memory.map(|(name, value)| (name.to_owned(), value)).into());
    }

    #[test]
    fn planted_faults_of_the_heap_are_found() {
        for (good, bad) in [
            ("3: 150 [4: 200]", "3: 150 [4 200]"),
            ("3: 150 [4: 200]", "3: 150 4: 200"),
            ("\n\n# runtime", "\n\n#runtime"),
            ("Alloc = 3000", "Alloc = many"),
        ] {
            assert!(HEAP.contains(good));
            let bad = HEAP.replace(good, bad);
            assert!(std::panic::catch_unwind(|| Text::parse(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn planted_faults_are_found() {
        for (good, bad) in [
            ("500 2 @", "500 two @"),
            ("@ 0x11", "@ 11"),
            ("0x21\n#", "0x22\n#"),
            ("#\t0x20\t[", "#\t0x0\t["),
            ("main+0x5", "main"),
            ("shop.rs:2", "shop.rs:"),
            ("\"a\":", "\"a\"="),
        ] {
            assert!(GOOD.contains(good));
            let bad = GOOD.replace(good, bad);
            assert!(std::panic::catch_unwind(|| Text::parse(&bad)).is_err(), "{bad}");
        }
    }
}
