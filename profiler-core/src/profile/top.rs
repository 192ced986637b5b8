//! Flat and cumulative values by function, as `go tool pprof -top` shows them.

use rustc_hash::FxHashMap;

use super::Profile;

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
    /// Returns the `most` functions with the largest flat value of the last column, largest first.
    ///
    /// A function that stands in a stack twice counts once in `cum`. A frame without a name goes
    /// by its address.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<TopEntry> {
        let mut entries: Vec<TopEntry> = Vec::new();
        let mut ids: FxHashMap<Name<'_>, usize> = FxHashMap::default();
        // The last sample that counted for an entry.
        let mut counted: Vec<usize> = Vec::new();
        for (number, sample) in self.samples().enumerate() {
            let Some(&value) = sample.values().last() else { continue };
            for (depth, frame) in sample.frames().enumerate() {
                let name = frame.function.map_or(Name::Address(frame.address), Name::Function);
                let id = *ids.entry(name).or_insert_with(|| {
                    entries.push(TopEntry { name: name.to_string(), flat: 0, cum: 0 });
                    counted.push(usize::MAX);
                    entries.len() - 1
                });
                if depth == 0 {
                    entries[id].flat += value;
                }
                if counted[id] != number {
                    counted[id] = number;
                    entries[id].cum += value;
                }
            }
        }
        entries.sort_by(|a, b| (b.flat, b.cum, &a.name).cmp(&(a.flat, a.cum, &b.name)));
        entries.truncate(most);
        entries
    }
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
