//! How to get from a function to its caller: one rule an address, and one step by it.

use crate::sys::{Processor, Registers};

/// Says where a function, stopped at one certain call, keeps what its caller needs.
///
/// One word, never 0, for the shared [`Table`](super::table::Table). All distances are bytes and
/// multiples of eight. The *frame top* is what the stack pointer will be in the caller; DWARF calls
/// it the canonical frame address.
///
/// | bits  | meaning |
/// |-------|---------|
/// | 0–1   | 1: no caller, the thread starts here. 2: the frame top is told from the stack pointer, 3: from the frame pointer. 0: a signal struck here, see below |
/// | 2–21  | words from that register up to the frame top |
/// | 22–41 | words from the frame top down to the saved frame pointer; 0 if the register still holds it |
/// | 42–61 | words from the frame top down to the return address; 0 if the link register still holds it |
///
/// Where a signal's handler returns to, the kernel has put all registers on the stack. There the
/// fields are words from the stack pointer up to the saved stack pointer, frame pointer and
/// address; a link register stands behind the frame pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule(u64);

/// Which register tells the frame top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    StackPointer,
    FramePointer,
}

const FIELD_BITS: u32 = 20;
const INTERRUPTED: u64 = 0;
const END: u64 = 1;
const FROM_STACK_POINTER: u64 = 2;
const FROM_FRAME_POINTER: u64 = 3;

impl Rule {
    /// Returns the rule of a signal's trampoline, with the distances from the stack pointer up to the
    /// saved stack pointer, frame pointer and address, or nothing if one does not fit.
    pub(super) const fn interrupted(sp: u64, fp: u64, pc: u64) -> Option<Self> {
        match Self::new(Base::StackPointer, sp, fp, pc) {
            // Not 0: three registers cannot all stand in one place.
            Some(Self(word)) if word & !3 != 0 => Some(Self(word & !3)),
            _ => None,
        }
    }

    /// No caller.
    pub(super) const END: Self = Self(END);

    /// The form of code that keeps frame pointers, of both processors: two words, the caller's frame pointer and the
    /// return address, stand where the register points.
    pub(super) const BY_FRAME_POINTER: Self = match Self::new(Base::FramePointer, 16, 16, 8) {
        Some(rule) => rule,
        None => unreachable!(),
    };

    /// Returns the rule with these distances, or nothing if one does not fit: a frame of more
    /// than 8 MiB.
    pub(super) const fn new(
        base: Base,
        top: u64,
        frame_pointer: u64,
        return_address: u64,
    ) -> Option<Self> {
        const fn fits(distance: u64) -> bool {
            distance.is_multiple_of(8) && distance / 8 < 1 << FIELD_BITS
        }
        if !fits(top) || !fits(frame_pointer) || !fits(return_address) {
            return None;
        }
        let flags = match base {
            Base::StackPointer => FROM_STACK_POINTER,
            Base::FramePointer => FROM_FRAME_POINTER,
        };
        Some(Self(
            (return_address / 8) << (2 + 2 * FIELD_BITS)
                | (frame_pointer / 8) << (2 + FIELD_BITS)
                | (top / 8) << 2
                | flags,
        ))
    }

    pub(super) const fn to_word(self) -> u64 {
        self.0
    }

    /// Takes back what [`to_word`](Self::to_word) gave. Any other word is a rule too, though of
    /// nothing.
    pub(super) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// Returns the registers in the caller, or nothing at the thread's start or if the stack does
    /// not bear the rule out.
    ///
    /// Each step leads strictly upwards, so a walk ends whatever the stack holds; but one that takes the link
    /// register, which is not known any more in the caller, may stay where it is: the function that was
    /// interrupted need not have a frame.
    #[inline(always)]
    pub(super) fn step<P: Processor>(
        self,
        at: Registers,
        mut word: impl FnMut(u64) -> Option<u64>,
    ) -> Option<Registers> {
        let base = match self.0 & 3 {
            INTERRUPTED => return self.step_out_of_signal::<P>(at, word),
            FROM_STACK_POINTER => at.sp,
            FROM_FRAME_POINTER => at.fp,
            _ => return None,
        };
        let field = |shift: u32| (self.0 >> shift & ((1 << FIELD_BITS) - 1)) * 8;
        let sp = base.wrapping_add(field(2));
        let (return_address, is_linked) = match field(2 + 2 * FIELD_BITS) {
            0 if P::LINKS => (at.lr, true),
            distance if sp > at.sp => (word(sp.wrapping_sub(distance))?, false),
            _ => return None,
        };
        if is_linked && sp < at.sp {
            return None;
        }
        let pc = P::strip(return_address);
        let fp = match field(2 + FIELD_BITS) {
            0 => at.fp,
            distance => word(sp.wrapping_sub(distance))?,
        };
        (pc != 0).then_some(Registers { pc, sp, fp, lr: 0 })
    }

    /// Returns the registers where the signal struck. Word 0, which is no rule, leads nowhere.
    #[cold]
    fn step_out_of_signal<P: Processor>(
        self,
        at: Registers,
        mut word: impl FnMut(u64) -> Option<u64>,
    ) -> Option<Registers> {
        let place = |shift: u32| {
            let distance = (self.0 >> shift & ((1 << FIELD_BITS) - 1)) * 8;
            at.sp.checked_add(distance)
        };
        let (sp, fp) = (word(place(2)?)?, word(place(2 + FIELD_BITS)?)?);
        let pc = word(place(2 + 2 * FIELD_BITS)?)?;
        let lr = if P::LINKS { word(place(2 + FIELD_BITS)?.checked_add(8)?)? } else { 0 };
        // As if a call stood there, like all addresses of a walk.
        let pc = pc.wrapping_add(P::CALL_LENGTH);
        (self.0 != 0 && sp > at.sp && pc != P::CALL_LENGTH).then_some(Registers { pc, sp, fp, lr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Aarch64, X86_64};

    /// Where the made-up stack begins.
    const LOW: u64 = 0x7000;

    fn registers(pc: u64, sp: u64, fp: u64) -> Registers {
        Registers { pc, sp, fp, lr: 0 }
    }

    /// Steps once on a stack of these words.
    fn step_of<P: Processor>(rule: Rule, at: Registers, stack: &[u64]) -> Option<Registers> {
        rule.step::<P>(at, |address| {
            let offset = address.checked_sub(LOW).filter(|offset| offset.is_multiple_of(8))?;
            stack.get(usize::try_from(offset / 8).ok()?).copied()
        })
    }

    /// The same on both processors, which agree.
    #[track_caller]
    fn step(rule: Rule, at: Registers, stack: &[u64]) -> Option<Registers> {
        let found = step_of::<X86_64>(rule, at, stack);
        assert_eq!(step_of::<Aarch64>(rule, at, stack), found);
        found
    }

    /// Walks by frame pointers and returns the return addresses.
    fn walk(fp: u64, stack: &[u64]) -> Vec<u64> {
        let start = Some(registers(1, LOW, fp));
        std::iter::successors(start, |at| step(Rule::BY_FRAME_POINTER, *at, stack))
            .skip(1)
            .map(|at| at.pc)
            .collect()
    }

    #[test]
    fn a_rule_stands_in_a_word() {
        for base in [Base::StackPointer, Base::FramePointer] {
            for (top, frame_pointer, return_address) in [(8, 0, 8), (640, 16, 8), (1 << 22, 88, 80)]
            {
                let rule = Rule::new(base, top, frame_pointer, return_address).unwrap();
                assert_eq!(Rule::from_word(rule.to_word()), rule);
                assert_ne!(rule.to_word(), 0);
            }
        }
    }

    #[test]
    fn distances_that_do_not_fit_make_no_rule() {
        assert_eq!(Rule::new(Base::StackPointer, 8 << 20, 0, 8), None);
        assert_eq!(Rule::new(Base::StackPointer, 12, 0, 8), None);
    }

    #[test]
    fn frame_pointers_lead_to_the_callers() {
        let stack = [0, 0, LOW + 40, 0xa, 0, LOW + 56, 0xb, 0, 0xc];
        assert_eq!(walk(LOW + 16, &stack), [0xa, 0xb, 0xc]);
    }

    #[test]
    fn a_return_address_of_zero_ends_the_walk() {
        assert_eq!(walk(LOW, &[LOW + 16, 0xa, LOW + 32, 0, 0, 0xb]), [0xa]);
    }

    #[test]
    fn a_frame_pointer_outside_the_stack_ends_the_walk() {
        for garbage in [0, 7, LOW - 8, LOW + 48, u64::MAX, u64::MAX - 7, u64::MAX - 15] {
            assert_eq!(walk(LOW, &[garbage, 0xa, 0, 0, 0, 0]), [0xa], "{garbage:#x}");
        }
    }

    #[test]
    fn a_misaligned_frame_pointer_ends_the_walk() {
        assert_eq!(walk(LOW, &[LOW + 17, 0xa, 0, 0xb, 0, 0xc]), [0xa]);
    }

    #[test]
    fn a_frame_pointer_that_leads_back_ends_the_walk() {
        assert_eq!(walk(LOW, &[LOW, 0xa, 0, 0xb]), [0xa]);
        assert_eq!(walk(LOW + 16, &[0, 0xb, LOW, 0xa]), [0xa]);
    }

    #[test]
    fn a_stack_cut_inside_a_frame_ends_the_walk() {
        assert_eq!(walk(LOW, &[LOW + 16, 0xa, LOW + 32]), [0xa]);
        assert_eq!(walk(LOW, &[LOW + 16]), [0; 0]);
    }

    #[test]
    fn a_frame_may_be_as_large_as_the_stack() {
        let words = 3 << 17;
        let mut stack = vec![0; words + 2];
        (stack[0], stack[1]) = (LOW + 8 * words as u64, 0xa);
        (stack[words], stack[words + 1]) = (0, 0xb);
        assert_eq!(walk(LOW, &stack), [0xa, 0xb]);
        let rule = Rule::new(Base::StackPointer, 8 * words as u64 + 16, 16, 8).unwrap();
        let caller = step(rule, registers(1, LOW, 5), &stack);
        assert_eq!(caller, Some(registers(0xb, LOW + 8 * words as u64 + 16, 0)));
    }

    #[test]
    fn a_rule_from_the_stack_pointer_needs_no_frame_pointer() {
        let rule = Rule::new(Base::StackPointer, 24, 0, 8).unwrap();
        let caller = step(rule, registers(1, LOW, 5), &[0, 0, 0xa]);
        assert_eq!(caller, Some(registers(0xa, LOW + 24, 5)));
    }

    #[test]
    fn a_signal_is_stepped_out_of() {
        let rule = Rule::interrupted(16, 8, 0).unwrap();
        let stack = [0x55, LOW + 40, LOW + 32, 0, 0xa, 0xb];
        let caller = step_of::<X86_64>(rule, registers(1, LOW, 5), &stack);
        assert_eq!(caller, Some(registers(0x56, LOW + 32, LOW + 40)));
        let caller = step_of::<Aarch64>(rule, registers(1, LOW, 5), &stack);
        let interrupted = Registers { lr: LOW + 32, ..registers(0x59, LOW + 32, LOW + 40) };
        assert_eq!(caller, Some(interrupted));
        assert_eq!(step(rule, registers(1, LOW, 5), &[0x55, 0, LOW - 8, 0]), None, "it leads back");
        assert_eq!(Rule::interrupted(0, 0, 0), None);
        assert_eq!(Rule::interrupted(8 << 20, 8, 0), None);
    }

    #[test]
    fn words_that_are_no_rule_lead_nowhere() {
        for word in [0, Rule::END.to_word(), 2, 4, u64::MAX - 3, u64::MAX - 2] {
            let caller = step(Rule::from_word(word), registers(1, LOW, LOW + 16), &[0xa; 8]);
            assert_eq!(caller, None, "{word}");
        }
    }

    /// The interrupted function has made no frame yet, has made one and called nobody, or is done.
    #[test]
    fn a_function_that_has_called_nobody_returns_by_its_link_register() {
        let linked = |top: u64| Rule::new(Base::StackPointer, top, 0, 0).unwrap();
        let at = Registers { lr: 0xa, ..registers(1, LOW, LOW + 16) };
        assert_eq!(step_of::<Aarch64>(linked(0), at, &[]), Some(registers(0xa, LOW, LOW + 16)));
        assert_eq!(
            step_of::<Aarch64>(linked(32), at, &[]),
            Some(registers(0xa, LOW + 32, LOW + 16))
        );
        // Its frame pointer may be on the stack already.
        let saved = Rule::new(Base::StackPointer, 16, 16, 0).unwrap();
        assert_eq!(step_of::<Aarch64>(saved, at, &[0x77]), Some(registers(0xa, LOW + 16, 0x77)));
        // A caller's is not known any more, so no walk stands still.
        let caller = step_of::<Aarch64>(linked(0), at, &[]).unwrap();
        assert_eq!(step_of::<Aarch64>(linked(0), caller, &[0xb; 8]), None);
        assert_eq!(step_of::<Aarch64>(linked(32), caller, &[0xb; 8]), None);
        let back = Rule::new(Base::FramePointer, 0, 0, 0).unwrap();
        assert_eq!(step_of::<Aarch64>(back, Registers { fp: LOW - 8, ..at }, &[0xb; 8]), None);
        assert_eq!(step_of::<X86_64>(linked(0), at, &[0xb; 8]), None);
    }

    #[test]
    fn signatures_are_taken_off_return_addresses() {
        let signed = 0xab34_0000_0000_0000 | 0xffff_a320_6000;
        let linked = Rule::new(Base::StackPointer, 0, 0, 0).unwrap();
        let at = Registers { lr: signed, ..registers(1, LOW, LOW) };
        assert_eq!(step_of::<Aarch64>(linked, at, &[]).map(|at| at.pc), Some(0xffff_a320_6000));
        let caller = step_of::<Aarch64>(Rule::BY_FRAME_POINTER, at, &[LOW + 16, signed]);
        assert_eq!(caller, Some(registers(0xffff_a320_6000, LOW + 16, LOW + 16)));
        // Nothing but a signature is no address.
        let at = Registers { lr: 0xab34 << 48, ..at };
        assert_eq!(step_of::<Aarch64>(linked, at, &[]), None);
    }
}
