//! Code that was made at run time, which no table knows, and registers that hold garbage.

use std::arch::{asm, naked_asm};
use std::hint::black_box;
use std::{ptr, slice};

use profiler_core::Profile;
use profiler_tests::cpu::{MILLISECOND, cumulative, for_cpu_time};
use profiler_tests::keep;

use super::{capture, functions, is_part_of, is_root};

/// `mov ecx, 20000; again: dec ecx; jnz again; ret`: it touches no frame pointer.
const WITHOUT_FRAME: &[u8] = &[0xb9, 0x20, 0x4e, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xc3];
/// The same between `push rbp; mov rbp, rsp` and `pop rbp`.
const WITH_FRAME: &[u8] =
    &[0x55, 0x48, 0x89, 0xe5, 0xb9, 0x20, 0x4e, 0x00, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0x5d, 0xc3];

/// A page of machine code; it stays for good.
fn make(code: &[u8]) -> (extern "C" fn(), u64) {
    const PAGE: usize = 4096;
    // SAFETY: a fresh mapping of private memory.
    let page = unsafe {
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(ptr::null_mut(), PAGE, writable, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the page is this function's, and as long.
    unsafe { slice::from_raw_parts_mut(page.cast::<u8>(), code.len()) }.copy_from_slice(code);
    // SAFETY: the page is this function's.
    let made = unsafe { libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC) };
    assert_eq!(made, 0);
    // SAFETY: the code is a function that takes nothing and keeps to the rules for registers.
    (unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(page) }, page.addr() as u64)
}

#[inline(never)]
fn caller_of_made_code(code: extern "C" fn()) {
    for_cpu_time(200 * MILLISECOND, || {
        for _ in 0..10 {
            code();
        }
    });
    keep!();
}

/// The stack of the caller, taken where it calls the clock.
fn whole_stack(profile: &Profile, caller: &str) -> Vec<String> {
    let stacks =
        profile.samples().map(|sample| functions(&sample).into_iter().map(str::to_owned).collect());
    let through = |stack: &Vec<String>| stack.iter().any(|name| name.ends_with(caller));
    stacks.filter(through).max_by_key(Vec::len).expect("the caller was sampled itself")
}

/// The callers of a leaf, without the closure that calls it: the clock is not called from there.
fn callers<'a>(stack: &[&'a str]) -> Vec<&'a str> {
    let is_closure = |name: &str| {
        name.starts_with("cpu_hostile_code::made_code::") && name.ends_with("::{{closure}}")
    };
    stack[1..].iter().filter(|name| !is_closure(name)).copied().collect()
}

/// Runs made code, and asserts that its samples keep the address and have stacks that are right, or
/// leave out frames. Returns how many have the caller.
fn check(code: &'static [u8]) -> (i64, i64) {
    let (function, start) = make(code);
    let profile = capture(move || caller_of_made_code(function));
    let whole = whole_stack(&profile, "caller_of_made_code");
    let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
    let (mut all, mut with_caller) = (0, 0);
    for sample in profile.samples() {
        let leaf = sample.frames().next().expect("a leaf");
        if (start..start + code.len() as u64).contains(&leaf.address) {
            let stack = functions(&sample);
            let callers = callers(&stack);
            assert!(is_part_of(&callers, &whole), "{stack:?} in {whole:?}");
            all += sample.values()[1];
            if stack.iter().any(|name| name.ends_with("caller_of_made_code")) {
                with_caller += sample.values()[1];
            }
        }
    }
    assert!(all > 100 * MILLISECOND.cast_signed(), "{all}");
    (all, with_caller)
}

#[test]
fn made_code_keeps_its_address_and_has_no_wrong_callers() {
    check(WITHOUT_FRAME);
    // This program keeps frame pointers, and so does this code.
    let (all, with_caller) = check(WITH_FRAME);
    assert!(with_caller as f64 > 0.95 * all as f64, "{with_caller} of {all}");
}

/// Spins with that word in the register of the frame pointer.
#[unsafe(naked)]
unsafe extern "C" fn spin_with_frame_pointer(word: u64) {
    naked_asm!(
        "push rbp",
        "mov rbp, rdi",
        "mov ecx, 20000",
        "2: dec ecx",
        "jnz 2b",
        "pop rbp",
        "ret",
    )
}

/// The same inside a function that tables say keeps its frame pointer.
#[inline(never)]
fn spin_in_a_function(word: u64) {
    // SAFETY: the register is put back before the compiler's code runs on.
    unsafe {
        asm!(
            "push rbp",
            "mov rbp, {word}",
            "mov ecx, 20000",
            "2: dec ecx",
            "jnz 2b",
            "pop rbp",
            word = in(reg) word,
            out("ecx") _,
        );
    }
    keep!();
}

#[inline(never)]
fn holder_of_garbage() {
    let local = 0_u64;
    let heap = Box::new([0_u64; 64]);
    let here = ptr::from_ref(&local).addr() as u64;
    let words = [
        0,
        7,
        u64::MAX,
        u64::MAX - 15,
        0x8000_0000_0000_0000,
        here + 1,
        here - 4096,
        here + (1 << 30),
        heap.as_ptr().addr() as u64,
        holder_of_garbage as fn() as usize as u64,
    ];
    for word in words {
        for_cpu_time(30 * MILLISECOND, || {
            // SAFETY: it keeps to the rules for registers.
            unsafe { spin_with_frame_pointer(black_box(word)) };
            spin_in_a_function(black_box(word));
        });
    }
    keep!();
}

#[test]
fn garbage_in_the_frame_pointer_makes_stacks_short() {
    let profile = capture(holder_of_garbage);
    let whole = whole_stack(&profile, "holder_of_garbage");
    let whole: Vec<&str> = whole.iter().map(String::as_str).collect();
    assert!(is_root(whole.last().expect("a root")), "{whole:?}");
    for spinner in ["spin_with_frame_pointer", "spin_in_a_function"] {
        assert!(cumulative(&profile, spinner) > 50 * MILLISECOND.cast_signed(), "{spinner}");
        for sample in profile.samples() {
            let stack = functions(&sample);
            if stack[0].ends_with(spinner) {
                assert!(is_part_of(&callers(&stack), &whole), "{stack:?} in {whole:?}");
            }
        }
    }
}
