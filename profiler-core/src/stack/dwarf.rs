//! Rules from unwind tables (`.eh_frame`), read by framehop.
//!
//! framehop steps from frame to frame, but what is wanted is the rule of an address, to be kept in
//! the shared [`Table`](super::table::Table). It is told apart by experiment: framehop makes one
//! step with registers and memory that are made up, such that every value in the result shows
//! where it came from. That also keeps whatever a real stack holds away from the parsers.
//!
//! A parser needs 33 kB to work in, which a thread cannot carry about and a capture cannot
//! allocate. So there is a small pool, filled by [`refresh`](super::refresh). It is needed for the
//! first visit of a call site only, a microsecond or two each.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;
use std::{mem, thread};

use framehop::{CacheNative, FrameAddress, MustNotAllocateDuringUnwind, Unwinder, UnwinderNative};

use super::rule::{Base, Rule};
use crate::sys::{ModuleBytes, OwnStack, RED_ZONE, Registers};

/// The unwind tables of all loaded modules.
#[derive(Clone)]
pub(super) struct Tables {
    modules: UnwinderNative<ModuleBytes, MustNotAllocateDuringUnwind>,
    /// Code that has tables, sorted.
    code: Vec<Range<u64>>,
}

impl Tables {
    pub(super) fn new(modules: impl Iterator<Item = framehop::Module<ModuleBytes>>) -> Self {
        let mut tables = Self { modules: UnwinderNative::new(), code: Vec::new() };
        for module in modules {
            tables.code.push(module.avma_range());
            tables.modules.add_module(module);
        }
        tables.code.sort_by_key(|code| code.start);
        tables
    }

    fn cover(&self, pc: u64) -> bool {
        let after = self.code.partition_point(|code| code.start <= pc);
        after.checked_sub(1).is_some_and(|last| pc < self.code[last].end)
    }
}

/// What reads the tables, and the room that it works in.
pub(super) struct Parser {
    tables: Tables,
    cache: CacheNative<MustNotAllocateDuringUnwind>,
    /// What it runs on: a handler may have been put on a stack of 8 KiB, a coroutine lives on one.
    stack: OwnStack,
}

/// Enough without optimisation, where framehop moves tables of 33 kB about.
const STACK_SIZE: usize = 256 << 10;

/// Registers and memory of the experiment, wide apart: sums with any distance stay told apart.
const STACK: u64 = 1 << 40;
const FRAME: u64 = 1 << 41;
/// The word at an address is the address plus this.
const MEMORY: u64 = 1 << 44;
/// Distances up to here are believed; what is farther off is no result of the experiment.
const REACH: u64 = 1 << 32;

impl Parser {
    pub(super) fn new(tables: Tables) -> Self {
        Self { tables, cache: CacheNative::new_in(), stack: OwnStack::new(STACK_SIZE) }
    }

    /// Returns the rule at a return address, or nothing if no table covers it.
    pub(super) fn rule(&mut self, pc: u64) -> Option<Rule> {
        let returned = FrameAddress::from_return_address(pc)?;
        // A call may be the last instruction of its module.
        if !self.tables.cover(pc - 1) {
            return None;
        }
        if let Some(rule) = self.told(returned, pc) {
            return Some(rule);
        }
        // A function that is returned to at its first instruction has called nobody: it was put there
        // as the end of a stack, as `makecontext` does.
        let entered = FrameAddress::from_return_address(pc + 1)?;
        (self.tables.cover(pc) && self.told(entered, pc + 1).is_some()).then_some(Rule::END)
    }

    /// Returns what the tables say, or nothing in a gap.
    fn told(&mut self, returned: FrameAddress, pc: u64) -> Option<Rule> {
        let rule = self.experiment(returned, pc);
        // In a gap of the tables framehop guesses: by the frame pointer after a call, otherwise
        // that the function has only just been entered. Asked both ways, it gives itself away.
        let interrupted = FrameAddress::from_instruction_pointer(pc - 1);
        (rule == Rule::END || rule == self.experiment(interrupted, pc)).then_some(rule)
    }

    fn experiment(&mut self, address: FrameAddress, pc: u64) -> Rule {
        // Inside the call, or at the instruction that was interrupted: what the table is asked for.
        let mut registers = Registers { pc: pc - 1, sp: STACK, fp: FRAME }.to_framehop();
        let mut memory = |address: u64| Ok(address.wrapping_add(MEMORY));
        let caller =
            self.tables.modules.unwind_frame(address, &mut registers, &mut self.cache, &mut memory);
        match caller {
            Ok(Some(pc)) => told_by(Registers::from_framehop(pc, &registers)).unwrap_or(Rule::END),
            Ok(None) | Err(_) => Rule::END,
        }
    }
}

/// Reads the rule off the registers that the experiment left.
fn told_by(after: Registers) -> Option<Rule> {
    let distance = |from: u64, to: u64| to.checked_sub(from).filter(|distance| *distance < REACH);
    // The kernel's frame of a signal: the stack pointer itself was loaded.
    let loaded = |word: u64| distance(STACK, word.checked_sub(MEMORY)?);
    if let Some(sp) = loaded(after.sp) {
        return Rule::interrupted(sp, loaded(after.fp)?, loaded(after.pc)?);
    }
    let (base, top) = match (distance(STACK, after.sp), distance(FRAME, after.sp)) {
        (Some(top), _) => (Base::StackPointer, top),
        (None, Some(top)) => (Base::FramePointer, top),
        (None, None) => return None,
    };
    let saved = |word: u64| distance(word.checked_sub(MEMORY)?, after.sp);
    let frame_pointer = match saved(after.fp) {
        None if after.fp == FRAME => 0,
        // Tables do not say that the register is back once it was taken off the stack. So far below, a
        // signal may have written since.
        Some(distance) if base == Base::StackPointer && distance > top + RED_ZONE => 0,
        distance => distance?,
    };
    Rule::new(base, top, frame_pointer, saved(after.pc)?)
}

/// Parsers at hand. Four: only the first visit of a call site needs one.
pub(super) struct Pool([Mutex<Option<Parser>>; 4]);

impl Pool {
    pub(super) const fn new() -> Self {
        Self([const { Mutex::new(None) }; 4])
    }

    /// Calls `use_it` with a parser, or returns nothing if all are in use or none is there yet.
    /// Never waits: a lock that is only tried cannot make a signal handler wait for the thread
    /// that it interrupted.
    pub(super) fn with<R>(&self, use_it: impl FnOnce(&mut Parser) -> R) -> Option<R> {
        let mut slot = self.0.iter().find_map(|slot| slot.try_lock().ok())?;
        let parser = slot.as_mut()?;
        let mut stack = mem::take(&mut parser.stack);
        let result = stack.call(|| use_it(parser));
        parser.stack = stack;
        Some(result)
    }

    /// Has every parser read these tables from now on, and frees the old ones. Returns false if
    /// one of them is in use for so long that its thread must have been stopped, or lost by fork.
    pub(super) fn replace(&self, tables: &Tables) -> bool {
        // All of them, even after a failure: the others should know the new modules in any case.
        self.0.iter().filter(|slot| !replace_one(slot, tables)).count() == 0
    }
}

fn replace_one(slot: &Mutex<Option<Parser>>, tables: &Tables) -> bool {
    // With a new cache as well, because framehop numbers lists of modules by 16 bits. Made before
    // and freed after the lock is held: both may run an allocator that captures stacks.
    let mut parser = Some(Parser::new(tables.clone()));
    let locked = lock_for_a_while(slot);
    locked.map(|mut slot| mem::swap(&mut *slot, &mut parser)).is_some()
}

/// Returns the lock, or nothing after a tenth of a second: in the child of a fork, a thread that is
/// no more may hold it for ever.
pub(super) fn lock_for_a_while<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        match mutex.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(_)) => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pc: u64, sp: u64, fp: u64) -> Option<Rule> {
        told_by(Registers { pc, sp, fp })
    }

    #[test]
    fn the_experiment_shows_where_each_register_came_from() {
        let by_stack = after(STACK + 32 + MEMORY, STACK + 40, STACK + 24 + MEMORY);
        assert_eq!(by_stack, Rule::new(Base::StackPointer, 40, 16, 8));
        let untouched = after(STACK + 32 + MEMORY, STACK + 40, FRAME);
        assert_eq!(untouched, Rule::new(Base::StackPointer, 40, 0, 8));
        let by_frame = after(FRAME + 8 + MEMORY, FRAME + 16, FRAME + MEMORY);
        assert_eq!(by_frame, Some(Rule::BY_FRAME_POINTER));
    }

    #[test]
    fn a_frame_pointer_far_below_the_stack_is_back_in_its_register() {
        let returning = |below: u64| after(STACK + MEMORY, STACK + 8, STACK - below + MEMORY);
        let far = RED_ZONE + 8;
        assert_eq!(returning(far), Rule::new(Base::StackPointer, 8, 0, 8));
        if RED_ZONE > 0 {
            assert_eq!(returning(8), Rule::new(Base::StackPointer, 8, 16, 8));
        }
    }

    #[test]
    fn registers_that_were_all_loaded_tell_of_a_signal() {
        let at = |distance: u64| STACK + distance + MEMORY;
        assert_eq!(after(at(168), at(160), at(120)), Rule::interrupted(160, 120, 168));
        assert_eq!(after(STACK + 32 + MEMORY, at(160), FRAME), None);
    }

    #[test]
    fn registers_from_nowhere_tell_nothing() {
        assert_eq!(after(STACK + 32 + MEMORY, 40, FRAME), None);
        assert_eq!(after(32, STACK + 40, FRAME), None);
        assert_eq!(after(STACK + 32 + MEMORY, STACK + 40, 16), None);
        // Above the frame top: no place that outlives the call.
        assert_eq!(after(STACK + 48 + MEMORY, STACK + 40, FRAME), None);
    }

    #[test]
    fn an_empty_pool_answers_nothing() {
        assert_eq!(Pool::new().with(|_| ()), None);
    }

    #[test]
    fn a_pool_gives_each_parser_to_one_caller() {
        let pool = Pool::new();
        assert!(pool.replace(&Tables::new(std::iter::empty())));
        let all = pool.with(|_| pool.with(|_| pool.with(|_| pool.with(|_| pool.with(|_| ())))));
        assert_eq!(all, Some(Some(Some(Some(None)))));
    }

    #[test]
    fn a_parser_in_use_is_not_replaced() {
        let pool = Pool::new();
        let tables = Tables::new(std::iter::empty());
        assert!(pool.replace(&tables));
        assert_eq!(pool.with(|_| pool.replace(&tables)), Some(false));
        assert!(pool.replace(&tables));
    }
}
