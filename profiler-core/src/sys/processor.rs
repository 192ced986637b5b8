//! What a walk must know of a processor, told of all that are served, whichever this is compiled for: so what
//! one of them does is tested on every other.

/// The registers that a stack walk starts from and carries on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Registers {
    /// A return address: the instruction after a call.
    pub(crate) pc: u64,
    /// The stack pointer.
    pub(crate) sp: u64,
    /// The frame pointer, or whatever code without frame pointers keeps in that register.
    pub(crate) fp: u64,
    /// The link register, where the processor has one and it is known: not in a caller, which has overwritten
    /// it by its call. Otherwise 0.
    pub(crate) lr: u64,
}

/// A processor.
pub(crate) trait Processor {
    /// How far before its return address a call lies at the most probable: an address so far back is
    /// inside the call, which is what names the caller's line.
    const CALL_LENGTH: u64;
    /// So many bytes below the stack pointer belong to the function that runs: no signal writes there.
    const RED_ZONE: u64;
    /// Whether a call leaves the return address in a register, the link register, and not on the stack.
    const LINKS: bool;
    /// DWARF's numbers of the stack pointer, the frame pointer, and the return address or link register.
    const NUMBERS: [u16; 3];
    /// How to know what a signal's handler returns to, where tables do not tell.
    const TRAMPOLINE: Option<Trampoline>;

    /// Returns a return address without what the processor keeps beside it.
    fn strip(address: u64) -> u64;
}

/// Code that gives the registers back that a signal has interrupted.
#[derive(Debug)]
pub(crate) struct Trampoline {
    /// Its two instructions.
    pub(crate) code: [u32; 2],
    /// Bytes from the stack pointer up to the stack pointer, the frame pointer and the address that are given
    /// back; the link register stands behind the frame pointer.
    pub(crate) saved: [u64; 3],
}

#[derive(Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "one of them is the native one"))]
pub(crate) struct X86_64;

impl Processor for X86_64 {
    const CALL_LENGTH: u64 = 1;
    const RED_ZONE: u64 = 128;
    const LINKS: bool = false;
    const NUMBERS: [u16; 3] = [7, 6, 16];
    /// The C library's own has tables.
    const TRAMPOLINE: Option<Trampoline> = None;

    #[inline(always)]
    fn strip(address: u64) -> u64 {
        address
    }
}

#[derive(Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "one of them is the native one"))]
pub(crate) struct Aarch64;

impl Processor for Aarch64 {
    /// Every instruction has four bytes.
    const CALL_LENGTH: u64 = 4;
    /// Linux promises none.
    const RED_ZONE: u64 = 0;
    const LINKS: bool = true;
    const NUMBERS: [u16; 3] = [31, 29, 30];
    /// The kernel's. Since 5.8 it has no table, and before the table led to the link register's function, so
    /// that the one which was interrupted was missing: debuggers know it by its instructions, `mov x8, 139` and
    /// `svc 0`. Below, the kernel has put `siginfo` of 128 bytes, and a `ucontext` with the registers from 184.
    const TRAMPOLINE: Option<Trampoline> =
        Some(Trampoline { code: [0xd280_1168, 0xd400_0001], saved: [560, 544, 568] });

    /// The signature of a processor with pointer authentication stands in the upper bits. Addresses of user
    /// code have at most 48.
    #[inline(always)]
    fn strip(address: u64) -> u64 {
        address & 0x0000_ffff_ffff_ffff
    }
}
