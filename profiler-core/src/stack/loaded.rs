//! What was closed, and where it had been.
//!
//! **Problem.** An address outlives what it meant: a library is closed, another one is loaded in its place, and
//! what the first one allocated is still there.
//!
//! **Idea.** Closings are numbered. A record carries the number of the last closing that any of its addresses
//! had been touched by ([`closings_under`]). So an address of a record means what was closed there next after that number,
//! or, if nothing was, what is there now. Stacks that no closing has touched have the number 0, and for them
//! nothing changes.
//!
//! **Hearing of a closing.** Who asks the loader now and then does not learn when something was closed, and what ran
//! before and after looks the same. So a function of ours is put on the list that each library empties when it
//! is unloaded (`__cxa_atexit` with the library's own handle): it runs after the library's last function and
//! before its addresses are free. A library that was there for less than a tick, or that has no such handle, is
//! missed; then what stood there is *not known*, which is no name.
//!
//! **Cost.** A load for each record while nothing was ever closed; else two comparisons a frame.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::loaded::{Closed, Library, overlap};
use crate::sys;

/// How many closings there were. The numbers begin with 1.
static CLOSINGS: AtomicU64 = AtomicU64::new(0);
/// Where they were, each wide enough; nearly all programs load plugins into one.
static REGIONS: [Region; 8] = [const { Region::new() }; 8];
/// Libraries whose closing is heard.
static HEARD: [Heard; 512] = [const { Heard::new() }; 512];
/// Where code was met of which nothing is known, since the last look.
static STRANGE: Region = Region::new();
/// Whether such code was met since the last look.
static IS_TIME: AtomicBool = AtomicBool::new(false);
/// How many closings were heard and not noted yet.
static WAITING: AtomicU64 = AtomicU64::new(0);

/// So many closings are remembered one by one.
const REMEMBERED: usize = 256;

/// Addresses, and the last closing that touched one of them. It only grows, so that whoever reads it while it does sees
/// all that was in it before.
struct Region {
    start: AtomicU64,
    end: AtomicU64,
    last: AtomicU64,
}

impl Region {
    const fn new() -> Self {
        Self { start: AtomicU64::new(u64::MAX), end: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    // Relaxed, all below: who runs at these addresses later was let in by the loader after it let out who was
    // there before, so it sees what was written then.
    fn range(&self) -> Range<u64> {
        self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }

    fn grow(&self, range: &Range<u64>, number: u64) {
        self.last.fetch_max(number, Ordering::Relaxed);
        self.start.fetch_min(range.start, Ordering::Relaxed);
        self.end.fetch_max(range.end, Ordering::Relaxed);
    }

    /// Takes what is in it out; for whoever has the lock.
    fn take(&self) -> Range<u64> {
        self.start.swap(u64::MAX, Ordering::Relaxed)..self.end.swap(0, Ordering::Relaxed)
    }
}

/// A library whose closing is heard, for the function that is called then.
struct Heard {
    /// 0 if the place is free.
    name: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
    /// The number of its closing, or 0.
    closing: AtomicU64,
}

impl Heard {
    const fn new() -> Self {
        Self {
            name: AtomicU64::new(0),
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            closing: AtomicU64::new(0),
        }
    }

    fn holds(&self, address: u64) -> bool {
        // Acquire: pairs with the Release in `is_unloaded`.
        self.closing.load(Ordering::Acquire) != 0
            && (self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed))
                .contains(&address)
    }
}

/// The libraries as the last look found them, and what was closed before.
pub(super) struct Libraries {
    open: Vec<Open>,
    closed: Vec<Closed>,
    /// The last closing that is not remembered any more.
    forgotten: u64,
    /// How many were loaded and unloaded at the last look.
    generation: Option<(u64, u64)>,
    names: u64,
}

struct Open {
    library: Arc<Library>,
    /// The name of its place among those that are heard, or 0.
    name: u64,
    /// How often it was looked for its handle.
    looks: u32,
}

/// A library that a look finds, with what may be its handles.
pub(super) struct Found {
    pub(super) library: Library,
    pub(super) handles: Vec<u64>,
}

impl Libraries {
    pub(super) const fn new() -> Self {
        Self { open: Vec::new(), closed: Vec::new(), forgotten: 0, generation: None, names: 0 }
    }

    /// Takes note of what is loaded now.
    pub(super) fn look(&mut self, found: Vec<Found>, generation: (u64, u64)) {
        self.take_note(found, generation, STRANGE.take());
    }

    fn take_note(&mut self, mut found: Vec<Found>, generation: (u64, u64), strange: Range<u64>) {
        let before = self.generation.replace(generation).unwrap_or(generation);
        if generation.1 == before.1 {
            // Nothing was closed. If a library looks otherwise than before, its file was written to.
            for library in found.iter_mut().map(|found| &mut found.library) {
                let is_it = |open: &&Open| {
                    open.library.file == library.file && open.library.base == library.base
                };
                if let Some(open) = self.open.iter().find(is_it) {
                    *library = Library::clone(&open.library);
                }
            }
        }
        let is_there = |open: &Open| found.iter().any(|found| found.library == *open.library);
        let heard = self.hear();
        let (mut stayed, gone): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(is_there);
        let unheard = generation.1.saturating_sub(before.1).saturating_sub(heard);
        // Were as many unloaded as are missing, there was no other one in between.
        let others = unheard > gone.len() as u64;
        if others && !strange.is_empty() {
            let known = stayed.iter().map(|open| open.library.code());
            self.was_closed(without(strange, known), None);
        }
        for open in gone {
            free(open.name);
            // What came meanwhile may have been there: then nobody knows whose the addresses were.
            let is_sure = generation.0 == before.0;
            self.was_closed([open.library.code()].into(), is_sure.then_some(open.library));
        }
        for Found { library, handles } in found {
            let known = stayed.iter_mut().find(|open| *open.library == library);
            let open = match known {
                Some(open) => open,
                None => {
                    stayed.push(Open { library: Arc::new(library), name: 0, looks: 0 });
                    stayed.last_mut().expect("pushed above")
                }
            };
            open.looks += 1;
            if open.name == 0 && !handles.is_empty() {
                open.name = listen(&mut self.names, &open.library.code(), &handles);
            }
        }
        self.open = stayed;
    }

    /// Whether a library has no handle yet: it may have been in the midst of being loaded.
    pub(super) fn needs_another_look(&self) -> bool {
        self.open.iter().any(|open| open.name == 0 && open.looks < 2)
    }

    /// Takes note of closings that were heard; returns how many.
    pub(super) fn hear(&mut self) -> u64 {
        let mut heard: Vec<(u64, Arc<Library>)> = Vec::new();
        self.open.retain(|open| {
            let number = closing(open.name);
            if number != 0 {
                heard.push((number, Arc::clone(&open.library)));
                free(open.name);
            }
            number == 0
        });
        heard.sort_by_key(|(number, _)| *number);
        let count = heard.len() as u64;
        for (number, library) in heard {
            let ranges = [library.code()].into();
            self.remember(Closed { number, ranges, library: Some(library) });
        }
        count
    }

    /// Takes note of a closing that was not heard.
    fn was_closed(&mut self, ranges: Box<[Range<u64>]>, library: Option<Arc<Library>>) {
        // Relaxed: a number, and who runs there later is let in later.
        let number = CLOSINGS.fetch_add(1, Ordering::Relaxed) + 1;
        for range in &ranges {
            touch(range, number);
        }
        self.remember(Closed { number, ranges, library });
    }

    fn remember(&mut self, closed: Closed) {
        let is_there = |known: &&Closed| overlap(&known.ranges, &closed.ranges);
        let last = self.closed.iter().rfind(is_there).map(|known| known.number);
        // The same library time and again in the same place means the same all the time.
        self.closed.retain(|known| {
            let is_same = known.library == closed.library && known.ranges == closed.ranges;
            !(is_same && last == Some(known.number))
        });
        self.closed.push(closed);
        if self.closed.len() > REMEMBERED {
            self.forgotten = self.forgotten.max(self.closed.remove(0).number);
        }
    }

    /// Returns what was closed, in order, and the last closing that is not remembered.
    pub(super) fn closed(&mut self) -> (Vec<Closed>, u64) {
        self.hear();
        (self.closed.clone(), self.forgotten)
    }
}

/// Takes ranges out of a range.
fn without(range: Range<u64>, others: impl Iterator<Item = Range<u64>>) -> Box<[Range<u64>]> {
    let mut left = vec![range];
    for other in others {
        let parts = |range: Range<u64>| {
            let below = range.start..range.end.min(other.start);
            let above = range.start.max(other.end)..range.end;
            [below, above].into_iter().filter(|part| !part.is_empty())
        };
        left = left.into_iter().flat_map(parts).collect();
    }
    left.into()
}

/// Has the closing of a library heard, and returns the name of its place; 0 if there is none left.
fn listen(names: &mut u64, code: &Range<u64>, handles: &[u64]) -> u64 {
    // Relaxed, all but the last: whoever is called has the name.
    let is_free = |place: &Heard| place.name.load(Ordering::Relaxed) == 0;
    let Some(position) = HEARD.iter().position(is_free) else { return 0 };
    *names += 1;
    let name = *names * HEARD.len() as u64 + position as u64;
    let place = &HEARD[position];
    place.start.store(code.start, Ordering::Relaxed);
    place.end.store(code.end, Ordering::Relaxed);
    place.closing.store(0, Ordering::Relaxed);
    // Release: pairs with the Acquire in `is_unloaded`.
    place.name.store(name, Ordering::Release);
    for handle in handles {
        sys::on_unload(*handle, is_unloaded, name);
    }
    name
}

fn place(name: u64) -> &'static Heard {
    &HEARD[(name % HEARD.len() as u64) as usize]
}

/// Returns the number of a closing that was heard, or 0.
fn closing(name: u64) -> u64 {
    // Acquire: pairs with the Release in `is_unloaded`.
    if name == 0 { 0 } else { place(name).closing.load(Ordering::Acquire) }
}

fn free(name: u64) {
    if name != 0 {
        // Relaxed: whoever is called with the old name finds another one, or none.
        if place(name).closing.swap(0, Ordering::Relaxed) != 0 {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
        place(name).name.store(0, Ordering::Relaxed);
    }
}

/// Called when a library is unloaded, on the thread that does so; takes no lock and allocates nothing.
extern "C" fn is_unloaded(name: *mut c_void) {
    let name = name.addr() as u64;
    let place = place(name);
    // Acquire: pairs with the Release in `listen`.
    if place.name.load(Ordering::Acquire) != name || place.closing.load(Ordering::Acquire) != 0 {
        return;
    }
    // Relaxed, as in `Region`.
    let number = CLOSINGS.fetch_add(1, Ordering::Relaxed) + 1;
    let code = place.start.load(Ordering::Relaxed)..place.end.load(Ordering::Relaxed);
    touch(&code, number);
    WAITING.fetch_add(1, Ordering::Relaxed);
    // Release: pairs with the Acquire in `closing` and `holds`.
    place.closing.store(number, Ordering::Release);
    super::RULES.clear();
}

/// Notes that a closing has touched these addresses.
fn touch(range: &Range<u64>, number: u64) {
    let distance = |region: &&Region| {
        let known = region.range();
        if known.is_empty() {
            // Better than one that is a megabyte away: what lies between is not touched.
            return 1 << 20;
        }
        let below = known.start.saturating_sub(range.end);
        below.max(range.start.saturating_sub(known.end))
    };
    if let Some(region) = REGIONS.iter().min_by_key(distance) {
        region.grow(range, number);
    }
}

/// Returns the number of the last closing that has touched one of these addresses, or a later one; 0 if none
/// has. The thread is where the addresses lead, so nothing of it is closed meanwhile.
///
/// # Signal safety
///
/// Loads.
#[inline]
pub(crate) fn closings_under(frames: &[u64]) -> u64 {
    // Relaxed: as in `Region`.
    if CLOSINGS.load(Ordering::Relaxed) == 0 { 0 } else { last_under(frames) }
}

/// Returns whether anything was ever closed.
pub(super) fn was_any_closed() -> bool {
    // Relaxed: as in `Region`.
    CLOSINGS.load(Ordering::Relaxed) != 0
}

#[cold]
fn last_under(frames: &[u64]) -> u64 {
    let mut last_under = 0;
    for region in &REGIONS {
        let last = region.last.load(Ordering::Relaxed);
        let range = region.range();
        if last > last_under && frames.iter().any(|address| range.contains(address)) {
            last_under = last;
        }
    }
    last_under
}

/// Returns whether a closing may have touched an address.
pub(crate) fn was_touched(address: u64) -> bool {
    last_under(&[address]) != 0
}

/// Returns whether what the tables say of an address is of a library that is closed, since the last look.
pub(super) fn is_stale(address: u64) -> bool {
    // Relaxed: raised before anything else can run at these addresses.
    WAITING.load(Ordering::Relaxed) != 0 && HEARD.iter().any(|place| place.holds(address))
}

/// Notes that code was met of which nothing is known.
///
/// # Signal safety
///
/// Stores.
pub(super) fn is_strange(address: u64) {
    STRANGE.grow(&(address.saturating_sub(1)..address.saturating_add(1)), 0);
    // Relaxed: a hint.
    IS_TIME.store(true, Ordering::Relaxed);
}

/// Returns whether something was met or heard that makes it time to look.
pub(crate) fn is_time_to_look() -> bool {
    // Relaxed, both: hints.
    IS_TIME.load(Ordering::Relaxed) || WAITING.load(Ordering::Relaxed) != 0
}

/// Notes that a look begins: what is met from now on is for the next one.
pub(super) fn look_begins() {
    // Relaxed: a hint.
    IS_TIME.store(false, Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
