//! Rules from unwind tables (`.eh_frame`), read by gimli.
//!
//! The rule of an address, to be kept in the shared [`Table`](super::table::Table), is told apart by
//! experiment: the tables' rules and expressions are applied to registers and memory that are made up, such
//! that every value in the result shows where it came from. That also keeps whatever a real stack holds away
//! from the parsers.
//!
//! A parser needs some 30 kB to work in, which a thread cannot carry about and a capture cannot
//! allocate. So there is a small pool, filled by [`refresh`](super::refresh). It is needed for the
//! first visit of a call site only, a microsecond or two each.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;
use std::{mem, thread};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, Encoding, EndianSlice, Evaluation,
    EvaluationResult, EvaluationStorage, LittleEndian, Location, Piece, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection, Value, Vendor,
};

use super::rule::{Base, Rule};
use crate::sys::{ModuleBytes, Native, OwnStack, Processor, Registers};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// The unwind table of one module.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// From the first to the last address of its code.
    pub(super) code: Range<u64>,
    /// `.eh_frame_hdr`, and where it is.
    pub(super) index: (u64, ModuleBytes),
    /// `.eh_frame`, and where it is.
    pub(super) entries: (u64, ModuleBytes),
}

/// The unwind tables of all loaded modules, sorted by their code.
#[derive(Debug, Clone)]
pub(super) struct Tables(Vec<Table>);

impl Tables {
    pub(super) fn new(modules: impl Iterator<Item = Table>) -> Self {
        let mut tables: Vec<_> = modules.collect();
        tables.sort_by_key(|table| table.code.start);
        Self(tables)
    }

    fn covering(&self, pc: u64) -> Option<&Table> {
        let after = self.0.partition_point(|table| table.code.start <= pc);
        self.0[..after].last().filter(|table| pc < table.code.end)
    }
}

/// What reads the tables, and the room that it works in.
pub(super) struct Parser<P = Native> {
    tables: Tables,
    context: Box<UnwindContext<usize>>,
    /// What it runs on: a handler may have been put on a stack of 8 KiB, a coroutine lives on one.
    stack: OwnStack,
    processor: PhantomData<P>,
}

/// Enough without optimisation, where gimli moves rows of 6 kB about.
const STACK_SIZE: usize = 256 << 10;

/// Registers and memory of the experiment, wide apart: sums with any distance stay told apart.
const STACK: u64 = 1 << 40;
const FRAME: u64 = 1 << 41;
/// What the link register holds, which nothing is added to.
const LINK: u64 = 1 << 43;
/// The word at an address is the address plus this.
const MEMORY: u64 = 1 << 44;
/// Distances up to here are believed; what is farther off is no result of the experiment.
const REACH: u64 = 1 << 32;

impl<P: Processor> Parser<P> {
    pub(super) fn new(tables: Tables) -> Self {
        let stack = OwnStack::new(STACK_SIZE);
        Self { tables, context: Box::new(UnwindContext::new()), stack, processor: PhantomData }
    }

    /// Returns the rule at a return address, or nothing if no table covers it.
    pub(super) fn rule(&mut self, pc: u64) -> Option<Rule> {
        // Inside the call, or at the instruction that was interrupted. A call may be the last instruction of
        // its module.
        let called = self.told(pc.wrapping_sub(P::CALL_LENGTH));
        // A function that is returned to at its first instruction has called nobody: it was put there
        // as the end of a stack, as `makecontext` does.
        called.or_else(|| self.told(pc).map(|_| Rule::END))
    }

    /// Returns what the tables say of an instruction, or nothing in a gap.
    fn told(&mut self, pc: u64) -> Option<Rule> {
        let table = self.tables.covering(pc)?;
        let (index, entries) = (&table.index, &table.entries);
        let bases = BaseAddresses::default().set_eh_frame_hdr(index.0).set_eh_frame(entries.0);
        let index = EhFrameHdr::new(&index.1, LittleEndian).parse(&bases, 8).ok()?;
        let mut section = EhFrame::new(&entries.1, LittleEndian);
        if P::LINKS {
            // Who signs return addresses says so by an instruction that others read otherwise.
            section.set_vendor(Vendor::AArch64);
        }
        let entry =
            index.table()?.fde_for_address(&section, &bases, pc, EhFrame::cie_from_offset).ok()?;
        let row = entry.unwind_info_for_address(&section, &bases, &mut self.context, pc).ok()?;
        let experiment = Experiment::<P> {
            section,
            encoding: entry.cie().encoding(),
            pc,
            processor: PhantomData,
        };
        let register = |number: u16| row.register(Register(number));
        let rule = experiment.run(row.cfa(), P::NUMBERS.map(register)).and_then(told_by::<P>);
        Some(rule.unwrap_or(Rule::END))
    }
}

/// A frame that is left as the tables say, with registers and memory that are made up.
struct Experiment<'a, P> {
    section: EhFrame<Bytes<'a>>,
    encoding: Encoding,
    pc: u64,
    processor: PhantomData<P>,
}

impl<P: Processor> Experiment<'_, P> {
    /// Returns the registers in the caller; nothing if there is none, or none that these rules tell.
    fn run(
        &self,
        top: &CfaRule<usize>,
        [sp, fp, link]: [Option<RegisterRule<usize>>; 3],
    ) -> Option<Registers> {
        let [_, frame, return_address] = P::NUMBERS;
        let top = match top {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.before(register.0)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(expression)?,
        };
        let sp = match sp {
            // That is what the frame top is.
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => top,
            Some(rule) => self.value(&rule, top)?,
        };
        let fp = match fp {
            // Code that does not know of it leaves it alone.
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => self.before(frame)?,
            Some(rule) => self.value(&rule, top)?,
        };
        let pc = match link {
            Some(RegisterRule::Undefined) => return None,
            // Where calls put it on the stack, tables always say so.
            None | Some(RegisterRule::SameValue) if P::LINKS => self.before(return_address)?,
            None | Some(RegisterRule::SameValue) => return None,
            Some(rule) => self.value(&rule, top)?,
        };
        Some(Registers { pc, sp, fp, lr: 0 })
    }

    /// Returns what a register of the function holds, if it is one that a walk carries.
    fn before(&self, register: u16) -> Option<u64> {
        let [sp, fp, return_address] = P::NUMBERS;
        match register {
            _ if register == sp => Some(STACK),
            _ if register == fp => Some(FRAME),
            _ if register == return_address => Some(if P::LINKS { LINK } else { self.pc }),
            _ => None,
        }
    }

    /// Returns what a register of the caller holds.
    fn value(&self, rule: &RegisterRule<usize>, top: u64) -> Option<u64> {
        match rule {
            RegisterRule::Offset(offset) => {
                Some(top.wrapping_add_signed(*offset).wrapping_add(MEMORY))
            }
            RegisterRule::ValOffset(offset) => Some(top.wrapping_add_signed(*offset)),
            RegisterRule::Register(register) => self.before(register.0),
            RegisterRule::Expression(place) => Some(self.evaluate(place)?.wrapping_add(MEMORY)),
            RegisterRule::ValExpression(value) => self.evaluate(value),
            _ => None,
        }
    }

    fn evaluate(&self, expression: &UnwindExpression<usize>) -> Option<u64> {
        let expression = expression.get(&self.section).ok()?;
        let mut evaluation = Evaluation::<_, OnStack>::new_in(expression.0, self.encoding);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        let mut result = evaluation.evaluate().ok()?;
        loop {
            result = match result {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => evaluation
                    .resume_with_register(Value::Generic(self.before(register.0)?))
                    .ok()?,
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    let word = Value::Generic(address.wrapping_add(MEMORY));
                    evaluation.resume_with_memory(word).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result().last()?.location {
            Location::Address { address } => Some(address),
            _ => None,
        }
    }
}

/// Far more than expressions of tables have, some of which could loop.
const MAX_OPERATIONS: u32 = 1000;

/// Has expressions evaluated without an allocator.
struct OnStack;

impl<'a> EvaluationStorage<Bytes<'a>> for OnStack {
    type Stack = [Value; 64];
    type ExpressionStack = [(Bytes<'a>, Bytes<'a>); 4];
    type Result = [Piece<Bytes<'a>>; 1];
}

/// Reads the rule off the registers that the experiment left.
fn told_by<P: Processor>(after: Registers) -> Option<Rule> {
    let distance = |from: u64, to: u64| to.checked_sub(from).filter(|distance| *distance < REACH);
    // The kernel's frame of a signal: the stack pointer itself was loaded.
    let loaded = |word: u64| distance(STACK, word.checked_sub(MEMORY)?);
    if let Some(sp) = loaded(after.sp) {
        // With a link register it is known by its code; see `Trampoline`.
        return if P::LINKS {
            None
        } else {
            Rule::interrupted(sp, loaded(after.fp)?, loaded(after.pc)?)
        };
    }
    let (base, top) = match (distance(STACK, after.sp), distance(FRAME, after.sp)) {
        (Some(top), _) => (Base::StackPointer, top),
        (None, Some(top)) => (Base::FramePointer, top),
        (None, None) => return None,
    };
    let saved = |word: u64| distance(word.checked_sub(MEMORY)?, after.sp);
    // A distance of 0 says that the register was not saved, and a place above the frame top is not one.
    let saved = |word: u64| saved(word).filter(|distance| *distance > 0);
    let frame_pointer = match saved(after.fp) {
        None if after.fp == FRAME => 0,
        // Tables do not say that the register is back once it was taken off the stack. So far below, a
        // signal may have written since.
        Some(distance) if base == Base::StackPointer && distance > top + P::RED_ZONE => 0,
        distance => distance?,
    };
    let return_address = if P::LINKS && after.pc == LINK { 0 } else { saved(after.pc)? };
    Rule::new(base, top, frame_pointer, return_address)
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
    // Made before and freed after the lock is held: both may run an allocator that captures stacks.
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
    use crate::sys::{Aarch64, X86_64};

    fn after(pc: u64, sp: u64, fp: u64) -> Option<Rule> {
        told_by::<X86_64>(Registers { pc, sp, fp, lr: 0 })
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
        let far = X86_64::RED_ZONE + 8;
        assert_eq!(returning(far), Rule::new(Base::StackPointer, 8, 0, 8));
        assert_eq!(returning(8), Rule::new(Base::StackPointer, 8, 16, 8));
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
    fn a_return_address_may_be_in_the_link_register_still() {
        let after = |pc: u64, sp: u64, fp: u64| told_by::<Aarch64>(Registers { pc, sp, fp, lr: 0 });
        assert_eq!(after(LINK, STACK, FRAME), Rule::new(Base::StackPointer, 0, 0, 0));
        assert_eq!(after(LINK, STACK + 32, FRAME), Rule::new(Base::StackPointer, 32, 0, 0));
        let saved = after(STACK + 8 + MEMORY, STACK + 48, STACK + MEMORY);
        assert_eq!(saved, Rule::new(Base::StackPointer, 48, 48, 40));
        let framed = after(FRAME + 8 + MEMORY, FRAME + 96, FRAME + MEMORY);
        assert_eq!(framed, Rule::new(Base::FramePointer, 96, 96, 88));
        // At the frame top itself nothing of this function is kept.
        assert_eq!(after(STACK + 48 + MEMORY, STACK + 48, FRAME), None);
        assert_eq!(told_by::<X86_64>(Registers { pc: LINK, sp: STACK, fp: FRAME, lr: 0 }), None);
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
