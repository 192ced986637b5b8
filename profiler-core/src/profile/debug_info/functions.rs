//! Which functions and inlined calls hold an address.
//!
//! One walk over the entries of a unit for all addresses that are asked. Entries of functions that hold
//! none of them are skipped one by one, since compilers seldom say where the next one begins.

use gimli::{DW_TAG_inlined_subroutine, DW_TAG_subprogram, UnitOffset, UnitRef};

use super::extent::{Budget, Extent};
use super::{Result, Slice};

/// More than calls are inlined into each other.
const DEEPEST: usize = 1024;

/// The entries that hold addresses.
#[derive(Debug, Default)]
pub(super) struct Functions {
    hits: Vec<Hit>,
    /// For each address how many entries hold it.
    levels: Vec<u32>,
    scopes: Vec<Scope>,
    /// Addresses of the open scopes, by their places in the question.
    members: Vec<usize>,
}

/// A function or an inlined call that holds an address.
#[derive(Debug, Clone, Copy)]
struct Hit {
    asked: usize,
    level: u32,
    entry: UnitOffset,
}

/// An entry whose children are being read.
#[derive(Debug, Clone, Copy)]
struct Scope {
    depth: isize,
    /// 1 for a function, 2 for what is inlined into it.
    level: u32,
    /// Where its addresses begin among the members.
    members: usize,
}

impl Functions {
    /// Finds them for addresses that ascend.
    pub(super) fn find(
        &mut self,
        unit: UnitRef<'_, Slice<'_>>,
        asked: &[u64],
        budget: &mut Budget,
    ) -> Result<()> {
        self.clear();
        self.levels.resize(asked.len(), 0);
        let mut left = asked.len();
        let mut entries = unit.entries_raw(None)?;
        while !entries.is_empty() {
            let (depth, entry) = (entries.next_depth(), entries.next_offset());
            while let Some(scope) = self.scopes.pop_if(|scope| scope.depth >= depth) {
                self.members.truncate(scope.members);
            }
            if left == 0 && self.scopes.is_empty() {
                break;
            }
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            budget.spend(1 + abbreviation.attributes().len())?;
            let tag = abbreviation.tag();
            let outer = self.scopes.last().copied();
            let members = self.members.len();
            let level = match outer {
                _ if tag == DW_TAG_subprogram => 1,
                Some(outer) if tag == DW_TAG_inlined_subroutine && outer.members < members => {
                    outer.level + 1
                }
                _ => {
                    entries.skip_attributes(abbreviation.attributes())?;
                    continue;
                }
            };
            let extent = Extent::read(&mut entries, abbreviation, unit)?;
            let outer = outer.map_or(0, |outer| outer.members)..members;
            extent.each(unit, budget, |range| {
                if level == 1 {
                    let first = asked.partition_point(|address| *address < range.begin);
                    let inside = asked[first..].iter().take_while(|address| **address < range.end);
                    for asked in first..first + inside.count() {
                        left -= usize::from(self.hit(asked, level, entry));
                    }
                } else {
                    for member in outer.clone() {
                        let asked_one = self.members[member];
                        if (range.begin..range.end).contains(&asked[asked_one]) {
                            self.hit(asked_one, level, entry);
                        }
                    }
                }
            })?;
            // A function within a function has its own calls, even if it holds no address.
            if abbreviation.has_children() && (level == 1 || self.members.len() > members) {
                if self.scopes.len() == DEEPEST {
                    return Err(gimli::Error::StackFull);
                }
                self.scopes.push(Scope { depth, level, members });
            } else {
                self.members.truncate(members);
            }
        }
        Ok(())
    }

    /// Forgets the addresses before.
    pub(super) fn clear(&mut self) {
        self.hits.clear();
        self.scopes.clear();
        self.members.clear();
        self.levels.clear();
    }

    /// Notes that an entry holds an address, if none has done so that stands beside it.
    fn hit(&mut self, asked: usize, level: u32, entry: UnitOffset) -> bool {
        let is_next = self.levels[asked] + 1 == level;
        if is_next {
            self.levels[asked] = level;
            self.hits.push(Hit { asked, level, entry });
            self.members.push(asked);
        }
        is_next
    }

    /// Brings together what holds the same address.
    pub(super) fn sort(&mut self) {
        self.hits.sort_unstable_by_key(|hit| (hit.asked, hit.level));
    }

    /// Returns what holds an address, the innermost last, once it is sorted.
    pub(super) fn holding(&self, asked: usize) -> impl DoubleEndedIterator<Item = UnitOffset> {
        let start = self.hits.partition_point(|hit| hit.asked < asked);
        let end = start + self.hits[start..].partition_point(|hit| hit.asked == asked);
        self.hits[start..end].iter().map(|hit| hit.entry)
    }
}
