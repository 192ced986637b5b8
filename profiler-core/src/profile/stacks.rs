//! The stacks of rows: named, without what stands below the user's functions and above the program.

use rustc_hash::FxHashMap;

use super::handle::index;
use super::location::Location;
use super::pseudo::Pseudo;
use super::reading::Reading;
use super::symbolize::Found;
use super::trim::{Cut, Root, without_root};
use super::{Mapping, allocation, idle, trim};
use crate::kind::Kind;
use crate::merge::{Key, Stack, Sums};
use crate::view::StackView;

/// Stands for the stack where no span was open.
const NO_SPAN: &str = "[no span]";

/// The stacks of all rows, as handles of locations.
pub(crate) struct Stacks {
    reading: Reading,
    mappings: Vec<Mapping>,
    locations: Vec<Location>,
    /// The untrimmed native stacks, one behind the other, and where each row's ends.
    native: Vec<u32>,
    ends: Vec<usize>,
    /// Where the shown part of each row's begins.
    cuts: Vec<Cut>,
    roots: Vec<Root>,
    pseudo: Pseudo,
}

impl Stacks {
    /// Names the addresses of all stacks, by one answer of `resolve` for each that `place` tells from others.
    pub(crate) fn new(
        reading: Reading,
        rows: &[(&Key, &Sums)],
        place: impl Fn(u64, u64) -> u64,
        resolve: impl FnOnce(&[u64]) -> (Vec<Mapping>, Vec<Found>),
    ) -> Self {
        let mut addresses = Vec::new();
        let mut ids: FxHashMap<u64, u32> = FxHashMap::default();
        let mut native = Vec::new();
        let mut ends = Vec::with_capacity(rows.len());
        for (key, _) in rows {
            // Whether a thread is idle says its machine stack, whatever is shown.
            let is_asked = reading.view.stack == StackView::Native || key.on_cpu.is_some();
            if let Stack::Native(stack) = &key.stack
                && is_asked
            {
                native.extend(stack.iter().filter(|&&address| address != 0).map(|&address| {
                    let address = place(address, key.closings);
                    *ids.entry(address).or_insert_with(|| {
                        addresses.push(address);
                        index(addresses.len() - 1)
                    })
                }));
            }
            ends.push(native.len());
        }

        let (mappings, found) = resolve(&addresses);
        let locations: Vec<Location> = addresses
            .into_iter()
            .zip(found)
            .map(|(address, found)| Location {
                address,
                mapping: found.mapping,
                resolved: found.resolved,
                hidden: 0,
            })
            .collect();
        let root = |location: &Location| {
            let outermost = location.lines().last();
            outermost.map_or(Root::Unnamed, |line| Root::of_name(&line.function.name))
        };
        let roots = locations.iter().map(root).collect();
        let markers = rows.iter().filter_map(|(key, _)| match key.stack {
            Stack::Marker(name) => Some(name),
            Stack::Native(_) => None,
        });
        let pseudo = Pseudo::new(markers.chain([NO_SPAN]));
        let cuts = Vec::new();
        let mut stacks = Self { reading, mappings, locations, native, ends, cuts, roots, pseudo };
        stacks.cuts = (0..rows.len()).map(|row| stacks.cut(row)).collect();
        stacks.hide_own_lines();
        stacks
    }

    fn cut(&self, row: usize) -> Cut {
        let lines = |&id: &u32| self.locations[id as usize].resolved.lines.iter();
        let stack = self.native_stack(row).iter().map(lines);
        match capture_of(self.reading.kind) {
            Capture::Call => trim::cut(stack.map(|lines| lines.map(|line| line.function.owner))),
            Capture::Allocation => {
                allocation::cut(stack.map(|lines| lines.map(|line| line.function.role)))
            }
            Capture::None => Cut::default(),
        }
    }

    /// Hides the lines before the leaf in those locations that hold it.
    ///
    /// A location looks the same wherever it stands, so they are hidden where it is not the leaf too.
    /// They are the profiler's or the library's, never the user's.
    fn hide_own_lines(&mut self) {
        for row in 0..self.cuts.len() {
            let cut = self.cuts[row];
            if cut.lines > 0 {
                let id = self.native_stack(row)[cut.locations];
                let location = &mut self.locations[id as usize];
                location.hidden = location.hidden.max(cut.lines);
            }
        }
    }

    fn native_stack(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.native[start..self.ends[row]]
    }

    /// Returns whether a thread that waits there waits for work.
    pub(crate) fn is_idle(&self, row: usize) -> bool {
        let lines = |&id: &u32| &*self.locations[id as usize].resolved.lines;
        idle::is_idle(self.native_stack(row).iter().map(lines))
    }

    /// Returns the stack to show for a row.
    pub(crate) fn take(&mut self, row: usize, key: &Key) -> Box<[u32]> {
        let native = self.native_stack(row);
        let logical = self.reading.view.stack == StackView::Logical;
        if !native.is_empty() && !logical {
            let stack = &native[self.cuts[row].locations..];
            let length = without_root(stack.iter().map(|&id| self.roots[id as usize]));
            return stack[..length.min(self.reading.depth)].into();
        }
        let locations = &mut self.locations;
        match &key.stack {
            // A thread is on a path, though its machine stack is not known.
            Stack::Marker(name) if !logical || key.path.is_empty() => {
                let path = match self.reading.kind {
                    Kind::Goroutine => &*key.path,
                    _ => &[],
                };
                let path = path.iter().take(self.reading.depth - 1);
                let mut stack = vec![self.pseudo.marker(name, locations)];
                stack.extend(path.map(|site| self.pseudo.site(site, locations)));
                stack.into()
            }
            Stack::Native(_) if key.path.is_empty() => {
                [self.pseudo.marker(NO_SPAN, locations)].into()
            }
            // Also where there is no machine stack, for want of a way to walk it.
            _ => key
                .path
                .iter()
                .take(self.reading.depth)
                .map(|site| self.pseudo.site(site, locations))
                .collect(),
        }
    }

    /// Returns mappings and locations, once all stacks are taken.
    pub(crate) fn into_tables(self) -> (Vec<Mapping>, Vec<Location>) {
        (self.mappings, self.locations)
    }
}

/// Whether the leaf of a machine stack lies in our own code, because it was captured there.
enum Capture {
    None,
    /// Below a call of a lock or of another of our functions.
    Call,
    /// Below an allocation.
    Allocation,
}

const fn capture_of(kind: Kind) -> Capture {
    match kind {
        Kind::Block | Kind::Mutex | Kind::Goroutine | Kind::Threadcreate | Kind::Custom(_) => {
            Capture::Call
        }
        Kind::Allocs | Kind::Heap => Capture::Allocation,
        Kind::Profile | Kind::Spans | Kind::Wall => Capture::None,
    }
}
