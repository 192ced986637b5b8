//! The rules of code for aarch64, whatever this runs on: of every row of the tables of real files, against
//! what gimli itself says of it.

use std::env;
use std::fs;
use std::path::PathBuf;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, Vendor,
};
use object::{Object, ObjectSection, ObjectSegment, SegmentFlags};

use super::super::dwarf::{Parser, Table, Tables};
use super::super::rule::{Base, Rule};
use super::super::trampoline;
use crate::sys::{Aarch64, ModuleBytes, Processor, Registers};

/// The files, as `tests/run` has fetched them.
fn files() -> Vec<PathBuf> {
    let folder = env::var("PROFILER_AARCH64").expect(
        "PROFILER_AARCH64 is the folder with libraries for aarch64; `tests/run` fetches it and prints it",
    );
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Where the made-up registers point to, and what they hold.
const SP: u64 = 0x10_0000;
const FP: u64 = 0x20_0000;
const LR: u64 = 0x1234_5678;

/// The made-up word at an address.
const fn word(address: u64) -> u64 {
    address + 0x4000_0000_0000
}

/// What was looked at.
#[derive(Debug, Default)]
struct Seen {
    /// Instructions.
    all: u64,
    /// Those whose return address is in the link register.
    linked: u64,
    /// Those without a caller, by the tables' word.
    ends: u64,
    /// Those whose tables say what no rule can.
    untold: u64,
}

/// Returns the caller of an instruction by a row of the tables; nothing if it tells of other registers.
fn caller(
    top: &CfaRule<usize>,
    register: impl Fn(u16) -> Option<RegisterRule<usize>>,
) -> Option<Option<Registers>> {
    let top = match *top {
        CfaRule::RegisterAndOffset { register: Register(31), offset } => {
            SP.wrapping_add_signed(offset)
        }
        CfaRule::RegisterAndOffset { register: Register(29), offset } => {
            FP.wrapping_add_signed(offset)
        }
        _ => return None,
    };
    let kept = |number: u16, before: u64| match register(number) {
        None | Some(RegisterRule::SameValue) => Some(before),
        Some(RegisterRule::Offset(offset)) => Some(word(top.wrapping_add_signed(offset))),
        _ => None,
    };
    if register(30) == Some(RegisterRule::Undefined) {
        return Some(None);
    }
    let fp = if register(29) == Some(RegisterRule::Undefined) { FP } else { kept(29, FP)? };
    Some(Some(Registers { pc: kept(30, LR)?, sp: top, fp, lr: 0 }))
}

fn look_at(file: &[u8]) -> Seen {
    let object = object::File::parse(file).expect("a library");
    assert_eq!(object.architecture(), object::Architecture::Aarch64);
    let section = |name: &str| {
        let section = object.section_by_name(name).expect(name);
        (section.address(), ModuleBytes::Copied(section.data().expect("bytes").into()))
    };
    let is_code =
        |flags| matches!(flags, SegmentFlags::Elf { p_flags } if p_flags & object::elf::PF_X != 0);
    let code = object.segments().find(|segment| is_code(segment.flags())).expect("code");
    let code = code.address()..code.address() + code.size();
    let (index, entries) = (section(".eh_frame_hdr"), section(".eh_frame"));
    let table = Table { code, index, entries: entries.clone() };
    let mut parser = Parser::<Aarch64>::new(Tables::new([table].into_iter()));

    let bases = BaseAddresses::default().set_eh_frame(entries.0);
    let mut section = EhFrame::new(&entries.1, LittleEndian);
    section.set_vendor(Vendor::AArch64);
    let mut context = UnwindContext::new();
    let mut seen = Seen::default();
    let mut all = section.entries(&bases);
    while let Some(entry) = all.next().expect("an entry") {
        let CieOrFde::Fde(function) = entry else { continue };
        let function = function.parse(EhFrame::cie_from_offset).expect("a function");
        let mut rows = function.rows(&section, &bases, &mut context).expect("rows");
        while let Some(row) = rows.next_row().expect("a row") {
            let register = |number| row.register(Register(number));
            let expected = caller(row.cfa(), register);
            let instructions = (row.end_address() - row.start_address()) / 4;
            seen.all += instructions;
            for pc in [row.start_address(), row.end_address() - 4] {
                // As if a call stood there.
                let at = Registers { pc: pc + Aarch64::CALL_LENGTH, sp: SP, fp: FP, lr: LR };
                let rule = parser.rule(at.pc).expect("a table tells");
                let found = rule.step::<Aarch64>(at, |address| Some(word(address)));
                match expected {
                    Some(expected) => assert_eq!(found, expected, "{pc:#x}: {row:?}"),
                    None => assert_eq!(rule, Rule::END, "{pc:#x}: {row:?}"),
                }
            }
            let is = |wanted: bool| if wanted { instructions } else { 0 };
            seen.linked += is(matches!(expected, Some(Some(caller)) if caller.pc == LR));
            seen.ends += is(expected == Some(None));
            seen.untold += is(expected.is_none());
        }
    }
    seen
}

#[test]
fn every_instruction_of_real_libraries_has_the_caller_that_the_tables_tell() {
    for path in files() {
        let seen = look_at(&fs::read(&path).expect("the file"));
        assert!(seen.all > 10_000 && seen.linked * 50 > seen.all, "{seen:?}");
        // Hand-written code that keeps its caller's registers in others.
        assert!(seen.untold * 1000 < seen.all, "{seen:?}");
    }
}

/// Returns the bytes of `.eh_frame_hdr` and `.eh_frame` at these addresses, of one function of so many bytes.
fn tables([index, entries]: [u64; 2], function: u64, length: u32, program: &[u8]) -> [Vec<u8>; 2] {
    let entry = |bytes: &[u8]| {
        let mut entry = bytes.to_vec();
        // With operations that do nothing up to a whole word.
        entry.resize(bytes.len().next_multiple_of(4), 0);
        let length = u32::try_from(entry.len()).expect("short").to_le_bytes();
        [&length[..], &entry].concat()
    };
    let relative = |from: u64| {
        i32::try_from(function.wrapping_sub(from).cast_signed()).expect("near").to_le_bytes()
    };
    // Version, augmentation, code in units of 4 and data of -8, the link register; addresses are relative to
    // themselves, in 32 bits. At first the frame top is the stack pointer.
    let common = entry(b"\0\0\0\0\x01zR\0\x04\x78\x1e\x01\x1b\x0c\x1f\x00");
    let place = entries + common.len() as u64;
    let back = u32::try_from(common.len() + 4).expect("short").to_le_bytes();
    let head = [&back[..], &relative(place + 8), &length.to_le_bytes(), b"\0", program].concat();
    let bytes = [common, entry(&head), vec![0; 4]].concat();
    // Version and encodings; where the entries are; one of them, sorted by what is relative to this.
    let table = i32::try_from(entries.wrapping_sub(index + 4).cast_signed()).expect("near");
    let first = i32::try_from(place.wrapping_sub(index).cast_signed()).expect("near");
    let head = [1, 0x1b, 0x03, 0x3b];
    let at = relative(index);
    let index = [&head[..], &table.to_le_bytes(), &1_u32.to_le_bytes(), &at, &first.to_le_bytes()];
    [index.concat(), bytes]
}

/// Returns the rules of the instructions of such a function.
fn rules(program: &[u8], instructions: u32) -> Vec<Rule> {
    let addresses = [0x1000, 0x2000];
    let bytes = tables(addresses, 0x8000, 4 * instructions, program);
    let [index, entries] = bytes.map(|bytes| ModuleBytes::Copied(bytes.into()));
    let table = Table { code: 0x8000..0x9000, index: (0x1000, index), entries: (0x2000, entries) };
    let mut parser = Parser::<Aarch64>::new(Tables::new([table].into_iter()));
    assert_eq!(parser.rule(0x8004 + 4 * u64::from(instructions)), None, "behind the function");
    let rule = |number| parser.rule(0x8004 + 4 * u64::from(number)).expect("a table tells");
    (0..instructions).map(rule).collect()
}

#[test]
fn a_function_that_signs_its_return_address_is_walked() {
    // `paciasp; stp x29, x30, [sp, -32]!; …; ldp x29, x30, [sp], 32; autiasp; ret`.
    let program = b"\x41\x2d\x41\x0e\x20\x9d\x04\x9e\x03\x42\x0e\x00\xdd\xde\x41\x2d";
    let linked = Rule::new(Base::StackPointer, 0, 0, 0).unwrap();
    let saved = Rule::new(Base::StackPointer, 32, 32, 24).unwrap();
    assert_eq!(rules(program, 6), [linked, linked, saved, saved, linked, linked]);
    // What was signed is read without the signature.
    let at = Registers { pc: 0x8008, sp: SP, fp: FP, lr: 0x0055 << 48 | LR };
    assert_eq!(linked.step::<Aarch64>(at, |_| None).map(|caller| caller.pc), Some(LR));
    let caller = saved.step::<Aarch64>(at, |address| Some(0x00aa << 48 | word(address)));
    assert_eq!(caller.map(|caller| caller.pc), Some(word(SP + 8)));
}

#[test]
fn a_function_without_a_return_address_has_no_caller() {
    assert_eq!(rules(b"\x07\x1e", 2), [Rule::END; 2]);
    // In another register, where nobody carries it.
    assert_eq!(rules(b"\x09\x1e\x0f", 1), [Rule::END]);
}

/// What the kernel leaves on the stack of a handler, as `arch/arm64/kernel/signal.c` has it.
#[test]
fn a_signal_is_stepped_out_of_to_the_very_instruction() {
    let code = Box::new([0xd280_1168_u32, 0xd400_0001]);
    let rule = trampoline::<Aarch64>(code.as_ptr().addr() as u64).expect("it is known");
    let other = Box::new([0xd280_1168_u32, 0xd400_0002]);
    assert_eq!(trampoline::<Aarch64>(other.as_ptr().addr() as u64), None);
    assert_eq!(trampoline::<Aarch64>(8), None);

    let mut frame = [0_u64; 128 / 8 + 176 / 8 + 35];
    // After `siginfo` and the head of `ucontext`: the fault's address, x0 to x30, sp, pc, the state.
    let registers = 128 / 8 + 176 / 8 + 1;
    frame[registers + 29] = FP;
    frame[registers + 30] = LR;
    frame[registers + 31] = SP + 0x8000;
    frame[registers + 32] = 0x7777_0000;
    let at = Registers { pc: 4, sp: SP, fp: 0, lr: 0 };
    let interrupted =
        rule.step::<Aarch64>(at, |address| frame.get(((address - SP) / 8) as usize).copied());
    assert_eq!(interrupted, Some(Registers { pc: 0x7777_0004, sp: SP + 0x8000, fp: FP, lr: LR }));
}
