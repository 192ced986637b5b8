//! Native stacks: which calls led here, at a nanosecond or two a frame.
//!
//! **Problem.** Code that keeps frame pointers can be walked in no time, but nobody has all of it:
//! a C library in between, or one crate built otherwise, and a walk by frame pointers alone
//! silently leaves out callers or strays. Unwind tables (`.eh_frame`) tell the truth about each
//! instruction, but reading them takes a microsecond a frame.
//!
//! **Idea.** What the tables say about a call site never changes, and fits into one word, a
//! [`rule`]. A [`table`] shared by all threads keeps the rules of the call sites seen so far; a
//! miss asks [`dwarf`]. Where the rule is that of code with frame pointers, the step is the same two
//! loads that a walk by frame pointers makes, and it is known to be right.
//!
//! **Code without tables** (`-Cforce-unwind-tables=no`, code made at run time) is walked by frame
//! pointers if a self-test at the start finds that this program keeps them, else the walk ends
//! there: a short stack, not a wrong one.
//!
//! **Stacks that are not the thread's own** (coroutines, alternate signal stacks) are copied by the kernel,
//! a piece at a time, since nobody knows where one ends: what lies above it may be unmapped by another
//! thread at any moment, so that having looked once whether it is there proves nothing later.

mod copy;
mod dwarf;
mod frame_pointer;
mod loaded;
mod modules;
mod rule;
mod table;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use self::copy::Copy;
use self::dwarf::{Pool, lock_for_a_while};
pub(crate) use self::loaded::{closings_under, is_time_to_look, was_touched};
use self::modules::Modules;
use self::rule::Rule;
use self::table::Table;
use crate::loaded::Closed;
use crate::sys::{self, Native, Processor, Registers, StackBounds};

/// Room for a thread that calls [`refresh`], in bytes: without optimisation gimli builds its rows on the
/// stack, by some 30 kB.
pub(crate) const REFRESH_STACK: usize = 256 << 10;

static RULES: Table = Table::new();
static PARSERS: Pool = Pool::new();
static MODULES: Mutex<Modules> = Mutex::new(Modules::new());
static FRAME_POINTERS: AtomicBool = AtomicBool::new(false);
static UNRESOLVED: AtomicU64 = AtomicU64::new(0);
/// The process in which the profiler was started.
static STARTED_IN: AtomicU32 = AtomicU32::new(0);
/// The process in which a thread looks at the loader's list for the first time, and 1.
static LOOKING_IN: AtomicU32 = AtomicU32::new(0);

/// Gets ready to walk: before, a stack has one frame. Allocates; called once at the start.
pub(crate) fn prepare() {
    // Relaxed: the flag guards nothing but itself.
    FRAME_POINTERS.store(frame_pointer::self_test(), Ordering::Relaxed);
    let process = sys::process_number();
    // Relaxed, all: read by the thread itself, or in a child.
    let looking = LOOKING_IN.swap(process + 1, Ordering::Relaxed);
    if looking != 0 && looking != process + 1 {
        // In the child of a fork in the midst of this: whoever had the loader's lock is not there.
        return;
    }
    STARTED_IN.store(process, Ordering::Relaxed);
    refresh();
    LOOKING_IN.store(0, Ordering::Relaxed);
}

/// Takes note of libraries that were loaded or unloaded. Allocates, and takes the loader's lock;
/// for the profiler's own thread, and before a profile is read.
///
/// Nothing in the child of a fork: another thread may have held the loader's lock just then, and nobody
/// unlocks it there. What the child loads itself is code without tables.
pub(crate) fn refresh() {
    // Relaxed: set before anything is recorded.
    if STARTED_IN.load(Ordering::Relaxed) != sys::process_number() {
        return;
    }
    let Some(mut modules) = lock_for_a_while(&MODULES) else { return };
    if modules.refresh(&PARSERS) {
        // After the parsers were given the new tables, so that none enters an old rule again.
        RULES.clear();
    }
}

/// Looks at what is loaded, and returns what was closed until now, in order, and the number of the last closing that is
/// not remembered.
pub(crate) fn closed() -> (Vec<Closed>, u64) {
    refresh();
    noted()
}

/// Returns what was closed, as far as it was noted, and the number of the last closing that is not remembered.
pub(crate) fn noted() -> (Vec<Closed>, u64) {
    if !loaded::was_any_closed() {
        return (Vec::new(), 0);
    }
    let modules = lock_for_a_while(&MODULES);
    // In the child of a fork the lock may be held for ever: then nothing is remembered.
    modules.map_or_else(|| (Vec::new(), u64::MAX), |mut modules| modules.closed())
}

/// Returns how many libraries had been unloaded at the last [`refresh`]; nothing if that did nothing.
pub(crate) fn unloaded() -> Option<u64> {
    // Relaxed: set before anything is recorded.
    if STARTED_IN.load(Ordering::Relaxed) != sys::process_number() {
        return None;
    }
    lock_for_a_while(&MODULES)?.unloaded()
}

/// Returns whether this program keeps frame pointers, as [`prepare`] found out.
fn frame_pointers() -> bool {
    // Relaxed: see `prepare`.
    FRAME_POINTERS.load(Ordering::Relaxed)
}

/// Returns how many walks ended early because all parsers were busy at that moment.
pub(crate) fn cut_walks() -> u64 {
    // Relaxed: a count.
    UNRESOLVED.load(Ordering::Relaxed)
}

/// Captures the calls that led to this place, innermost first, and returns how many they are.
///
/// Each is an address inside the call; the first lies in the function that this is inlined into.
/// What does not fit into `frames` is left out on the side of the thread's start.
///
/// `bounds` are those of the thread's stack, if they are known. Any other is copied by the kernel into `room`, a
/// microsecond or two for thirty frames if it has 4 KiB; the stack of a coroutine may be too small to have it there.
///
/// # Signal safety
///
/// Allocates nothing, waits for nothing; what cannot be read ends the walk.
#[inline(always)]
pub(crate) fn capture(bounds: Option<StackBounds>, room: &mut [u8], frames: &mut [u64]) -> usize {
    walk(sys::registers(), bounds, room, frames)
}

/// Captures the calls that led to where a signal struck, innermost first, and returns how many.
///
/// `at` are the registers there, `bounds` as for [`capture`]. The handler has a stack of ours, with room.
///
/// # Signal safety
///
/// Allocates nothing, waits for nothing; what cannot be read ends the walk.
pub(crate) fn capture_interrupted(
    at: Registers,
    bounds: Option<StackBounds>,
    frames: &mut [u64],
) -> usize {
    // As if a call stood there: the table is asked for the address before.
    let at = Registers { pc: at.pc.wrapping_add(sys::CALL_LENGTH), ..at };
    let lowest = at.sp.saturating_sub(sys::RED_ZONE);
    let own = bounds.filter(|bounds| bounds.reader(at.sp).is_some());
    match own.and_then(|bounds| bounds.reader(lowest)) {
        Some(word) => walk_by(at, word, frames),
        None => walk_with_room(at, frames),
    }
}

#[inline(never)]
fn walk(
    start: Registers,
    bounds: Option<StackBounds>,
    room: &mut [u8],
    frames: &mut [u64],
) -> usize {
    match bounds.and_then(|bounds| bounds.reader(start.sp)) {
        Some(word) => walk_by(start, word, frames),
        None => walk_copied(start, room, frames),
    }
}

/// Walks a stack of which nobody knows where it ends, with room on this one, which is the handlers'.
#[inline(never)] // it shall not lie on the stack of other walks
fn walk_with_room(at: Registers, frames: &mut [u64]) -> usize {
    walk_copied(at, &mut [0; 4096], frames)
}

#[cold]
#[inline(never)]
fn walk_copied(at: Registers, room: &mut [u8], frames: &mut [u64]) -> usize {
    let mut copy = Copy::new(room);
    walk_by(at, |address| copy.word(address), frames)
}

/// Walks with a reader of the stack's words.
#[inline(always)]
fn walk_by(
    start: Registers,
    mut word: impl FnMut(u64) -> Option<u64>,
    frames: &mut [u64],
) -> usize {
    // PERF: a copy stays in registers; the argument itself would be stored at every step.
    let mut at = start;
    let mut count = 0;
    for frame in frames {
        *frame = at.pc.wrapping_sub(sys::CALL_LENGTH);
        count += 1;
        // PERF: a constant rule, so that its loads need not wait for the table.
        let caller = if RULES.keeps_frame_pointer(at.pc) {
            Rule::BY_FRAME_POINTER.step::<Native>(at, &mut word)
        } else {
            let rule = RULES.get(at.pc).or_else(|| find_rule(at.pc));
            rule.and_then(|rule| rule.step::<Native>(at, &mut word))
        };
        let Some(caller) = caller else { break };
        at = caller;
    }
    count
}

/// Asks the tables, and remembers the answer.
#[cold]
#[inline(never)]
fn find_rule(pc: u64) -> Option<Rule> {
    let found = PARSERS.with(|parser| {
        let known = || if loaded::is_stale(pc) { None } else { parser.rule(pc) };
        let told = trampoline::<Native>(pc).or_else(known);
        if told.is_none() {
            loaded::is_strange(pc);
        }
        let rule = told.unwrap_or_else(guess);
        // While the parser is held: `refresh` relies on it.
        RULES.insert(pc, rule);
        rule
    });
    if found.is_none() {
        // Relaxed: a count.
        UNRESOLVED.fetch_add(1, Ordering::Relaxed);
    }
    found
}

/// The rule of the code that a signal's handler returns to, on processors where it is known by its instructions.
fn trampoline<P: Processor>(pc: u64) -> Option<Rule> {
    let trampoline = P::TRAMPOLINE?;
    let mut code = [[0; 4]; 2];
    let is_read = sys::read_memory(usize::try_from(pc).ok()?, code.as_flattened_mut());
    let [sp, fp, pc] = trampoline.saved;
    (is_read && code.map(u32::from_le_bytes) == trampoline.code)
        .then(|| Rule::interrupted(sp, fp, pc))
        .flatten()
}

/// The rule of code that no table covers.
fn guess() -> Rule {
    if frame_pointers() { Rule::BY_FRAME_POINTER } else { Rule::END }
}

#[cfg(test)]
mod tests;
