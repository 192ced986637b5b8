//! What depends on the processor alone: registers, the cycle counter, the form of return addresses.

#![allow(unsafe_code, reason = "registers and counters are read by assembly")]

use std::arch::{asm, naked_asm};
use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::processor::{Processor, Registers};

/// The processor that this is compiled for.
#[cfg(target_arch = "x86_64")]
pub(crate) type Native = super::processor::X86_64;
/// The processor that this is compiled for.
#[cfg(target_arch = "aarch64")]
pub(crate) type Native = super::processor::Aarch64;

pub(crate) const CALL_LENGTH: u64 = Native::CALL_LENGTH;
pub(crate) const RED_ZONE: u64 = Native::RED_ZONE;

/// Returns the registers of the function that this is inlined into.
///
/// `pc` stands as if the function had just been returned to, like every other frame of a walk.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn registers() -> Registers {
    let (pc, sp, fp): (u64, u64, u64);
    // SAFETY: the block reads three registers and changes nothing else.
    unsafe {
        asm!(
            "lea {pc}, [rip]",
            "mov {sp}, rsp",
            "mov {fp}, rbp",
            pc = out(reg) pc, sp = out(reg) sp, fp = out(reg) fp,
            options(nomem, nostack, preserves_flags),
        );
    }
    Registers { pc, sp, fp, lr: 0 }
}

/// Returns the registers of the function that this is inlined into.
///
/// `pc` stands as if the function had just been returned to, like every other frame of a walk. Where it does
/// not keep the link register on the stack yet, it has not been overwritten either.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn registers() -> Registers {
    let (pc, sp, fp, lr): (u64, u64, u64, u64);
    // SAFETY: the block reads four registers and changes nothing else.
    unsafe {
        asm!(
            // First, since one of the others may be put there.
            "mov {lr}, x30",
            "adr {pc}, . + 4",
            "mov {sp}, sp",
            "mov {fp}, x29",
            pc = out(reg) pc, sp = out(reg) sp, fp = out(reg) fp, lr = out(reg) lr,
            options(nomem, nostack, preserves_flags),
        );
    }
    Registers { pc, sp, fp, lr }
}

/// Returns the registers where a signal struck, from the context that its handler is given.
///
/// # Safety
///
/// The context is the one that the kernel passed to a handler with `SA_SIGINFO`, which still runs.
pub(crate) unsafe fn interrupted(context: *mut c_void) -> Registers {
    // SAFETY: given by the caller.
    let context = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    {
        let register = |number: i32| context.gregs[number as usize].cast_unsigned();
        Registers {
            pc: register(libc::REG_RIP),
            sp: register(libc::REG_RSP),
            fp: register(libc::REG_RBP),
            lr: 0,
        }
    }
    #[cfg(target_arch = "aarch64")]
    Registers { pc: context.pc, sp: context.sp, fp: context.regs[29], lr: context.regs[30] }
}

/// A stack to call something on, whatever small one the caller may be on. The default is none: the
/// caller's own is used.
#[derive(Debug, Default)]
pub(crate) struct OwnStack(Box<[MaybeUninit<u128>]>);

impl OwnStack {
    /// Allocates a stack of so many bytes; pages that are never touched take no memory.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Box::new_uninit_slice(bytes / size_of::<u128>()))
    }

    /// Calls `body` on this stack.
    ///
    /// # Panics
    ///
    /// A panic in `body` aborts the process: nothing can unwind from one stack to another.
    pub(crate) fn call<R>(&mut self, body: impl FnOnce() -> R) -> R {
        if self.0.is_empty() {
            return body();
        }
        let top = self.0.as_mut_ptr_range().end;
        // SAFETY: the stack is exclusively borrowed, and its end aligned to 16 bytes.
        unsafe { call_on(top.cast(), body) }
    }
}

/// Calls `body` on the stack that ends there. A panic in `body` aborts the process.
///
/// # Safety
///
/// Below `top`, which is aligned to 16 bytes, there is room for what `body` needs, and nobody else uses it
/// meanwhile.
pub(crate) unsafe fn call_on<R>(top: *mut u128, body: impl FnOnce() -> R) -> R {
    extern "C" fn run<F: FnOnce() -> R, R>(job: *mut (Option<F>, Option<R>)) {
        // SAFETY: passed below, and used by nobody else meanwhile.
        let job = unsafe { &mut *job };
        job.1 = job.0.take().map(|body| body());
    }
    type Job<F, R> = (Option<F>, Option<R>);
    fn run_of<F: FnOnce() -> R, R>(_: &F) -> extern "C" fn(*mut Job<F, R>) {
        run::<F, R>
    }

    let run = run_of(&body) as *const c_void;
    let mut job = (Some(body), None);
    // SAFETY: the caller answers for the stack; `run` gets what it is made for, and does not unwind.
    unsafe { change_stack(run, (&raw mut job).cast(), top.cast()) };
    job.1.unwrap_or_else(|| unreachable!("`run` has run"))
}

/// Calls a function of one argument on the stack that ends there.
///
/// It has a frame pointer and says so, whatever the program keeps: a walk that begins on the other stack, where a
/// signal has struck, finds back.
///
/// # Safety
///
/// `run` is such a function, for this `job`, and does not unwind; `top` is as for [`call_on`].
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn change_stack(run: *const c_void, job: *mut c_void, top: *mut c_void) {
    naked_asm!(
        ".cfi_startproc",
        "push rbp",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbp, -16",
        "mov rbp, rsp",
        ".cfi_def_cfa_register rbp",
        "mov rsp, rdx",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "mov rsp, rbp",
        "pop rbp",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
    )
}

/// The same.
///
/// # Safety
///
/// The same.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn change_stack(run: *const c_void, job: *mut c_void, top: *mut c_void) {
    naked_asm!(
        ".cfi_startproc",
        "stp x29, x30, [sp, #-16]!",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset w29, -16",
        ".cfi_offset w30, -8",
        "mov x29, sp",
        ".cfi_def_cfa w29, 16",
        "mov sp, x2",
        "mov x9, x0",
        "mov x0, x1",
        "blr x9",
        "mov sp, x29",
        "ldp x29, x30, [sp], #16",
        ".cfi_def_cfa wsp, 0",
        ".cfi_restore w29",
        ".cfi_restore w30",
        "ret",
        ".cfi_endproc",
    )
}

/// Returns the time stamp counter.
///
/// Not ordered against other instructions: some ten nanoseconds of them may still be under way,
/// and a fence would double the price.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn cycle_counter() -> u64 {
    // SAFETY: every x86_64 processor has the instruction; a system that forbids it to user code
    // is not told to be steady, and then nobody reads the counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Returns the virtual counter of the generic timer.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(crate) fn cycle_counter() -> u64 {
    let count: u64;
    // SAFETY: Linux lets user code read this register, and reading changes nothing.
    unsafe {
        asm!("mrs {count}, cntvct_el0", count = out(reg) count, options(nomem, nostack, preserves_flags));
    }
    count
}

/// Returns whether the processor promises one speed in every power state.
#[cfg(target_arch = "x86_64")]
pub(crate) fn counter_is_invariant() -> bool {
    #[allow(unused_unsafe, reason = "unsafe before Rust 1.94")]
    fn leaf(number: u32) -> std::arch::x86_64::CpuidResult {
        // SAFETY: every x86_64 processor has the instruction.
        unsafe { std::arch::x86_64::__cpuid(number) }
    }

    const POWER_MANAGEMENT: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    leaf(0x8000_0000).eax >= POWER_MANAGEMENT && leaf(POWER_MANAGEMENT).edx & INVARIANT_TSC != 0
}

/// The architecture promises it.
#[cfg(target_arch = "aarch64")]
pub(crate) const fn counter_is_invariant() -> bool {
    true
}

/// The name of the counter among the kernel's clock sources.
pub(crate) const CLOCK_SOURCE: &str =
    if cfg!(target_arch = "aarch64") { "arch_sys_counter" } else { "tsc" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_on_an_own_stack_is_a_call() {
        let mut stack = OwnStack::new(64 << 10);
        let range = stack.0.as_ptr_range();
        let (start, end) = (range.start.addr(), range.end.addr());
        let text = "what is captured".to_owned();
        let (inside, text) = stack.call(|| {
            let local = 0_u8;
            ((start..end).contains(&std::ptr::from_ref(&local).addr()), text.to_uppercase())
        });
        assert!(inside);
        assert_eq!(text, "WHAT IS CAPTURED");
        assert_eq!(OwnStack::default().call(|| 7), 7);
    }
}
