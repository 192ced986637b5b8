//! A signal at every single instruction of what programs spend their time in: the processor steps,
//! and each walk is held against libgcc's.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::*;

/// The walks that went wrong: where, and how many frames there were and should have been.
static WRONG: [[AtomicU64; 3]; 16] = [const { [const { AtomicU64::new(0) }; 3] }; 16];
static WRONG_COUNT: AtomicUsize = AtomicUsize::new(0);
static STEPS: AtomicUsize = AtomicUsize::new(0);

/// Deeper than the stacks of these tests.
const DEPTH: usize = 128;

thread_local! {
    static BOUNDS: Cell<Option<StackBounds>> = const { Cell::new(None) };
    /// The callers of the test, and how many they are.
    static ROOT: Cell<([u64; DEPTH], usize)> = const { Cell::new(([0; DEPTH], 0)) };
}

/// What libgcc finds above the interrupted instruction.
struct Oracle {
    interrupted: u64,
    met: bool,
    frames: [u64; DEPTH],
    count: usize,
}

extern "C" fn visit(context: *mut UnwindContext, oracle: *mut c_void) -> c_int {
    // SAFETY: libgcc passes its own context.
    let address = unsafe { _Unwind_GetIP(context) } as u64;
    // SAFETY: this is the exclusive reference that `stepped` passes.
    let oracle = unsafe { &mut *oracle.cast::<Oracle>() };
    if oracle.met && address != 0 && oracle.count < DEPTH {
        oracle.frames[oracle.count] = address - sys::CALL_LENGTH;
        oracle.count += 1;
    }
    oracle.met |= address == oracle.interrupted;
    0
}

extern "C" fn stepped(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passed it to this handler.
    let at = unsafe { sys::interrupted(context) };
    let mut frames = [0; DEPTH];
    let count = loop {
        // Tests on other threads may hold all parsers.
        let cut = cut_walks();
        let count = capture_interrupted(at, BOUNDS.get(), &mut frames);
        if cut == cut_walks() {
            break count;
        }
    };
    let mut oracle = Oracle { interrupted: at.pc, met: false, frames: [0; DEPTH], count: 0 };
    // SAFETY: the function takes what is passed with it, and does not unwind.
    unsafe { _Unwind_Backtrace(visit, (&raw mut oracle).cast()) };
    STEPS.fetch_add(1, Ordering::Relaxed);
    let (callers, expected) = (&frames[1..count], &oracle.frames[..oracle.count]);
    // Some linkers write no tables for what leads to libraries (`.plt`, two instructions). The walk is by
    // frame pointers then, if there are any.
    let known = !expected.is_empty();
    let (root, depth) = ROOT.get();
    let right = if known {
        callers == expected
    } else {
        callers.ends_with(&root[..depth]) || !frame_pointers()
    };
    let right = right && frames[0] == at.pc;
    if !right {
        let number = WRONG_COUNT.fetch_add(1, Ordering::Relaxed);
        if let Some([pc, found, expected]) = WRONG.get(number) {
            pc.store(at.pc, Ordering::Relaxed);
            found.store(count as u64, Ordering::Relaxed);
            expected.store(oracle.count as u64 + 1, Ordering::Relaxed);
        }
    }
}

/// Calls `body` with a trap after each instruction.
#[inline(never)]
fn step_through(body: fn()) {
    // SAFETY: sets and clears the flag that makes the processor trap, on the stack as compilers know
    // that such a block may use it.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    body();
    // SAFETY: as above.
    unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], ~0x100", "popfq") };
}

/// Steps through `body` and returns how many instructions it has, all of which must be walked from
/// like libgcc does.
#[track_caller]
fn check(body: fn()) -> usize {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    prepare();
    BOUNDS.set(sys::stack_bounds());
    let callers = captured().split_off(2);
    let mut root = [0; DEPTH];
    root[..callers.len()].copy_from_slice(&callers);
    ROOT.set((root, callers.len()));
    // SAFETY: zeroed is a value of this type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = stepped as extern "C" fn(_, _, _) as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler is a function of this program; nobody else uses this signal.
    unsafe { libc::sigaction(libc::SIGTRAP, &raw const action, std::ptr::null_mut()) };
    body();
    STEPS.store(0, Ordering::Relaxed);
    WRONG_COUNT.store(0, Ordering::Relaxed);
    step_through(body);
    let wrong = WRONG_COUNT.load(Ordering::Relaxed);
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    let shown: Vec<String> = WRONG[..wrong.min(WRONG.len())]
        .iter()
        .map(|[pc, found, expected]| {
            format!("{}: {} of {} frames", name(load(pc)), load(found), load(expected))
        })
        .collect();
    let steps = STEPS.load(Ordering::Relaxed);
    assert_eq!(wrong, 0, "of {steps}: {shown:#?}");
    steps
}

/// Returns the function and the distance into it, as far as the loader knows.
fn name(pc: u64) -> String {
    let mut found = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the result is written if something is found.
    unsafe { libc::dladdr(pc as *const c_void, found.as_mut_ptr()) };
    // SAFETY: zeroed is a value of this type.
    let found = unsafe { found.assume_init() };
    let text = |pointer: *const std::ffi::c_char| {
        // SAFETY: texts of the loader's, ended by zero.
        (!pointer.is_null()).then(|| unsafe { std::ffi::CStr::from_ptr(pointer) })
    };
    let base = found.dli_fbase.addr() as u64;
    format!("{:?} {:?}+{:#x}", text(found.dli_sname), text(found.dli_fname), pc - base)
}

#[test]
fn every_instruction_of_the_allocator_of_c() {
    let steps = check(|| {
        for size in [1, 24, 1000, 5000, 200_000] {
            // SAFETY: any size may be asked for.
            let block = unsafe { libc::malloc(black_box(size)) };
            // SAFETY: allocated above.
            let block = unsafe { libc::realloc(block, black_box(size * 3)) };
            // SAFETY: any sizes may be asked for.
            let zeroed = unsafe { libc::calloc(black_box(3), black_box(size)) };
            // SAFETY: allocated above and not used any more.
            unsafe { libc::free(block) };
            // SAFETY: as above.
            unsafe { libc::free(zeroed) };
        }
    });
    assert!(steps > 1000, "{steps}");
}

#[test]
fn every_instruction_that_copies_and_compares() {
    let steps = check(|| {
        let mut memory = [7_u8; 9000];
        for size in [1, 7, 15, 31, 60, 100, 200, 300, 1000, 2500, 4400] {
            let size = black_box(size);
            memory.copy_within(1..=size, 0);
            memory.copy_within(0..size, 1);
            memory.copy_within(0..size, 4500);
            memory[..size].fill(black_box(9));
            black_box(memory[..size] == memory[4500..4500 + size]);
        }
    });
    assert!(steps > 1000, "{steps}");
}

#[test]
fn every_instruction_that_reads_a_clock() {
    let steps = check(|| {
        black_box(std::time::Instant::now());
        black_box(std::time::SystemTime::now());
        std::thread::yield_now();
    });
    assert!(steps > 100, "{steps}");
}

#[test]
fn every_instruction_of_text_and_collections() {
    let steps = check(|| {
        let texts: Vec<String> = (0..10).map(|number| format!("{number:>5}")).collect();
        let joined = texts.concat();
        black_box(joined.parse::<f64>().is_ok());
        black_box(joined.to_uppercase());
    });
    assert!(steps > 1000, "{steps}");
}
