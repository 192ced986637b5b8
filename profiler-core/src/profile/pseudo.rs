//! Frames that are no machine code: span paths, and what belongs to no stack.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::function::{Function, Line, Resolved};
use super::handle::index;
use super::location::Location;
use super::mapping::{PSEUDO, SPAN};
use crate::callsite::CallSite;

/// Locations that are no instructions: call sites, and names in brackets.
///
/// They have addresses of their own, the same in every profile. That of a name, in the first 64 KiB, is by its text;
/// that of a call site is by the place of its static in the program, so it is the same in every run too.
pub(crate) struct Pseudo {
    sites: FxHashMap<u64, u32>,
    markers: FxHashMap<&'static str, (u64, Option<u32>)>,
}

impl Pseudo {
    /// Gets ready for these names in brackets.
    pub(crate) fn new(names: impl Iterator<Item = &'static str>) -> Self {
        // Sorted, so that two names that want one address always share it out in the same way.
        let names: BTreeSet<&'static str> = names.collect();
        let mut taken = BTreeSet::new();
        let mut markers = FxHashMap::default();
        for name in names {
            let mut address = marker_address(name);
            while !taken.insert(address) {
                address += 1;
            }
            markers.insert(name, (address, None));
        }
        Self { sites: FxHashMap::default(), markers }
    }

    /// Returns the location of a call site.
    pub(crate) fn site(&mut self, site: &'static CallSite, locations: &mut Vec<Location>) -> u32 {
        let address = site_address(site);
        *self.sites.entry(address).or_insert_with(|| {
            let function = Function::named(site.name(), site.file());
            push(locations, address, function, site.line())
        })
    }

    /// Returns the location of a name in brackets.
    pub(crate) fn marker(&mut self, name: &'static str, locations: &mut Vec<Location>) -> u32 {
        let (address, id) =
            self.markers.entry(name).or_insert_with(|| (marker_address(name), None));
        *id.get_or_insert_with(|| push(locations, *address, Function::named(name, ""), 0))
    }
}

fn marker_address(name: &str) -> u64 {
    // FNV-1a: the same in every build and run, unlike the hashers of tables.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    PSEUDO.start + 0x1000 + hash % 0xe000
}

fn site_address(site: &'static CallSite) -> u64 {
    // Where a program is loaded changes, the distance of two of its statics does not.
    static ANCHOR: u8 = 0;
    let distance = site.address().wrapping_sub(std::ptr::from_ref(&ANCHOR).addr() as u64);
    // In the middle, far from the names, whichever comes first.
    PSEUDO.start + distance.wrapping_add(SPAN / 2) % SPAN
}

fn push(locations: &mut Vec<Location>, address: u64, function: Function, line: u32) -> u32 {
    let lines = Box::new([Line { function: Arc::new(function), line }]);
    let resolved = Arc::new(Resolved { lines, offset: 0, inlines: true });
    locations.push(Location { address, mapping: None, resolved, hidden: 0 });
    index(locations.len() - 1)
}
