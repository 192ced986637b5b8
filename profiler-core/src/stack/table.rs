//! The rules found so far, shared by all threads.
//!
//! A walk asks for one rule a frame, nearly always for one that was asked for before, and mostly
//! for the one of code with frame pointers. Addresses with that rule stand in a list of their own
//! besides: one word a slot, so that the answer is one comparison.
//!
//! A rule takes a slot of two words, so a reader could see one half of an old entry and one of a
//! new: the first word is therefore a hash of the address XOR the second, and halves that do not
//! belong together fit no address (R. Hyatt's lockless hash table, known from chess programs).
//!
//! Slots are written by whoever found a rule; a lost race costs finding it once more.

use std::sync::atomic::{AtomicU64, Ordering};

use super::rule::Rule;

/// Slots of each sort: of 8,000 call sites in use nine tenths stay. 384 KiB when all are in use, of
/// which only touched pages count.
const SLOTS: usize = 1 << 14;

/// A table of rules by return address.
#[derive(Debug)]
pub(super) struct Table {
    /// Addresses with [`Rule::BY_FRAME_POINTER`].
    by_frame_pointer: [AtomicU64; SLOTS],
    rules: [Slot; SLOTS],
}

#[derive(Debug)]
#[repr(align(16))]
struct Slot {
    check: AtomicU64,
    rule: AtomicU64,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            by_frame_pointer: [const { AtomicU64::new(0) }; SLOTS],
            rules: [const { Slot { check: AtomicU64::new(0), rule: AtomicU64::new(0) } }; SLOTS],
        }
    }

    /// Returns whether the rule of an address is known to be that of code with frame pointers.
    #[inline(always)]
    pub(super) fn keeps_frame_pointer(&self, address: u64) -> bool {
        // Relaxed: the word is the whole entry.
        self.by_frame_pointer[index(hash(address))].load(Ordering::Relaxed) == address
    }

    /// Returns the rule of an address, or nothing.
    #[inline(always)]
    pub(super) fn get(&self, address: u64) -> Option<Rule> {
        let hash = hash(address);
        let first = index(hash);
        // The neighbour lies in the same cache line.
        self.look(first, hash).or_else(|| self.look(first ^ 1, hash))
    }

    #[inline(always)]
    fn look(&self, index: usize, hash: u64) -> Option<Rule> {
        let slot = &self.rules[index];
        // Relaxed: the words prove by themselves that they belong together.
        let rule = slot.rule.load(Ordering::Relaxed);
        let check = slot.check.load(Ordering::Relaxed);
        (check ^ rule == hash).then_some(Rule::from_word(rule))
    }

    /// Remembers a rule. It pushes the one in its place aside, and that one the next.
    pub(super) fn insert(&self, address: u64, rule: Rule) {
        let hash = hash(address);
        let index = index(hash);
        // In the list only one address of a slot has room; the others are found as rules.
        if rule == Rule::BY_FRAME_POINTER {
            // Relaxed: see `keeps_frame_pointer`.
            self.by_frame_pointer[index].store(address, Ordering::Relaxed);
        }
        let rule = rule.to_word();
        let (slot, neighbour) = (&self.rules[index], &self.rules[index ^ 1]);
        // Relaxed, here and below: see `look`.
        neighbour.rule.store(slot.rule.load(Ordering::Relaxed), Ordering::Relaxed);
        neighbour.check.store(slot.check.load(Ordering::Relaxed), Ordering::Relaxed);
        slot.rule.store(rule, Ordering::Relaxed);
        slot.check.store(hash ^ rule, Ordering::Relaxed);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        // Only what is used, so that pages never touched stay so.
        let used = |word: &&AtomicU64| word.load(Ordering::Relaxed) != 0;
        for address in self.by_frame_pointer.iter().filter(used) {
            address.store(0, Ordering::Relaxed);
        }
        for slot in self.rules.iter().filter(|slot| slot.rule.load(Ordering::Relaxed) != 0) {
            slot.rule.store(0, Ordering::Relaxed);
            slot.check.store(0, Ordering::Relaxed);
        }
    }
}

/// Multiplies by 2⁶⁴ divided by the golden ratio: one to one, and neighbours part in every bit
/// above their difference.
#[inline(always)]
const fn hash(address: u64) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The upper bits of the hash, which depend on all of the address.
#[inline(always)]
const fn index(hash: u64) -> usize {
    (hash >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::super::rule::Base;
    use super::*;

    /// A rule that only this address has.
    fn rule(address: u64) -> Rule {
        Rule::new(Base::StackPointer, address % (1 << 20) * 8, 0, 8).unwrap()
    }

    /// The address and others that belong into the same slot.
    fn rivals(address: u64) -> impl Iterator<Item = u64> {
        (1..).filter(move |other| index(hash(*other)) == index(hash(address)))
    }

    fn table() -> Box<Table> {
        Box::new(Table::new())
    }

    #[test]
    fn an_empty_table_knows_nothing() {
        let table = table();
        assert!((1..10_000).all(|address| table.get(address).is_none()));
        assert!((1..10_000).all(|address| !table.keeps_frame_pointer(address)));
    }

    #[test]
    fn a_rule_is_found_under_its_address_only() {
        let table = table();
        table.insert(77, rule(77));
        assert_eq!(table.get(77), Some(rule(77)));
        assert!(
            (1..10_000).filter(|address| *address != 77).all(|other| table.get(other).is_none())
        );
        table.clear();
        assert_eq!(table.get(77), None);
    }

    #[test]
    fn the_two_latest_of_a_slot_stay() {
        let table = table();
        let rivals: Vec<u64> = rivals(77).take(3).collect();
        for rival in &rivals {
            table.insert(*rival, rule(*rival));
        }
        assert_eq!(table.get(rivals[0]), None);
        assert_eq!(table.get(rivals[1]), Some(rule(rivals[1])));
        assert_eq!(table.get(rivals[2]), Some(rule(rivals[2])));
    }

    #[test]
    fn code_with_frame_pointers_is_known_at_once_and_its_rivals_are_not_forgotten() {
        let table = table();
        let rivals: Vec<u64> = rivals(77).take(2).collect();
        for rival in &rivals {
            table.insert(*rival, Rule::BY_FRAME_POINTER);
            assert!(table.keeps_frame_pointer(*rival));
        }
        assert!(!table.keeps_frame_pointer(rivals[0]));
        assert_eq!(table.get(rivals[0]), Some(Rule::BY_FRAME_POINTER));
        table.insert(5, rule(5));
        assert!(!table.keeps_frame_pointer(5));
        table.clear();
        assert!(!table.keeps_frame_pointer(rivals[1]));
        assert_eq!(table.get(rivals[1]), None);
    }

    #[test]
    fn readers_never_see_the_rule_of_another_address() {
        let table = table();
        let rivals: Vec<u64> = rivals(77).take(8).collect();
        let (table, rivals) = (&table, &rivals);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let rival = rivals[(round * 3 + writer) % rivals.len()];
                        table.insert(rival, rule(rival));
                    }
                });
            }
            for _ in 0..20_000 {
                for rival in rivals {
                    assert!(table.get(*rival).is_none_or(|found| found == rule(*rival)));
                }
            }
        });
    }
}
