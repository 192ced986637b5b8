//! Flat and cumulative values by function, as `go tool pprof -top` shows them.

use rustc_hash::FxHashMap;

use super::{Location, Profile};

/// One function of [`Profile::top`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopEntry {
    /// The function's name.
    pub name: String,
    /// What the function itself accounts for, in the unit of the column.
    pub flat: i64,
    /// The same with all that it called.
    pub cum: i64,
}

impl Profile {
    /// Returns the `most` functions with the largest flat value of the column that tools show
    /// first ([`Kind::default_column`](crate::Kind::default_column)), largest first.
    ///
    /// A function that stands in a stack twice counts once in `cum`. A frame without a name goes
    /// by its address.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<TopEntry> {
        let mut entries: Vec<TopEntry> = Vec::new();
        let mut known: FxHashMap<Name<'_>, usize> = FxHashMap::default();
        // By location, so that a name is looked up once and not for each stack that holds it.
        let of_locations: Vec<Box<[usize]>> = self
            .locations
            .iter()
            .map(|location| {
                let ids = names(location).map(|name| {
                    *known.entry(name).or_insert_with(|| {
                        entries.push(TopEntry { name: name.to_string(), flat: 0, cum: 0 });
                        entries.len() - 1
                    })
                });
                ids.collect()
            })
            .collect();
        let column = self.kind.default_column();
        // The last sample that counted for an entry.
        let mut counted = vec![usize::MAX; entries.len()];
        for (number, sample) in self.samples.iter().enumerate() {
            let value = sample.values[column];
            let frames = sample.stack.iter().flat_map(|&id| &of_locations[id as usize]);
            for (depth, &id) in frames.enumerate() {
                if depth == 0 {
                    entries[id].flat = entries[id].flat.saturating_add(value);
                }
                if counted[id] != number {
                    counted[id] = number;
                    entries[id].cum = entries[id].cum.saturating_add(value);
                }
            }
        }
        entries.sort_by(|a, b| (b.flat, b.cum, &a.name).cmp(&(a.flat, a.cum, &b.name)));
        entries.truncate(most);
        entries
    }
}

/// What the frames of a location go by, innermost first.
fn names(location: &Location) -> impl Iterator<Item = Name<'_>> {
    let lines = location.lines();
    let unnamed = lines.is_empty().then_some(Name::Address(location.address));
    lines.iter().map(|line| Name::Function(&line.function.name)).chain(unnamed)
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name<'a> {
    Function(&'a str),
    Address(u64),
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Function(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::encode::testing::{NATIVE, START, allocated, key, native, profile, reading, sums};
    use crate::kind::Kind;
    use crate::merge::{Rows, Stack};

    #[test]
    fn functions_stand_by_what_they_account_for_themselves() {
        let names = [(START + 1, "inner | outer"), (START + 2, "main"), (START + 3, "inner")];
        let rows = Rows::from_iter([
            (native(&[START + 1, START + 2]), sums(1, 100)),
            // Recursion counts once.
            (native(&[START + 3, START + 1, START + 2]), sums(1, 10)),
            (native(&[START + 9, START + 2]), sums(1, 5)),
            (key(Stack::Marker("[handoff]")), sums(1, 1)),
        ]);
        let profile = profile(reading(Kind::Mutex, NATIVE), &rows, &names);
        let top = |most| -> Vec<String> {
            let entries = profile.top(most).into_iter();
            entries.map(|entry| format!("{} {} {}", entry.flat, entry.cum, entry.name)).collect()
        };
        assert_eq!(
            top(10),
            ["110 110 inner", "5 5 0x100009", "1 1 [handoff]", "0 115 main", "0 110 outer"]
        );
        assert_eq!(top(1), ["110 110 inner"]);
    }

    #[test]
    fn the_column_is_the_one_that_tools_show_first() {
        let names = [(START + 1, "kept"), (START + 2, "freed")];
        let rows = Rows::from_iter([
            (native(&[START + 1]), allocated(1, 64, 1, 64)),
            (native(&[START + 2]), allocated(9, 900, 0, 0)),
        ]);
        for (kind, expected) in
            [(Kind::Heap, ["64 kept", "0 freed"]), (Kind::Allocs, ["900 freed", "64 kept"])]
        {
            let top = profile(reading(kind, NATIVE), &rows, &names).top(10);
            let top: Vec<_> = top.iter().map(|at| format!("{} {}", at.flat, at.name)).collect();
            assert_eq!(top, expected);
        }
    }
}
