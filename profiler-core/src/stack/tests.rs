//! The walker on the test program's own stacks, held against libgcc's unwinder.

#![allow(unsafe_code, reason = "the oracle and the callbacks are C, and an allocator counts")]

mod aarch64;
#[cfg(target_arch = "x86_64")]
mod stepping;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::hint::black_box;
use std::panic::catch_unwind;

use super::*;

/// Deeper than any stack in these tests.
const FRAMES: usize = 512;

#[repr(C)]
struct UnwindContext {
    opaque: [u8; 0],
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut UnwindContext, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
}

/// The return addresses of the callers, as libgcc sees them, innermost first, with this function.
#[inline(never)]
fn oracle() -> Vec<u64> {
    extern "C" fn visit(context: *mut UnwindContext, addresses: *mut c_void) -> c_int {
        // SAFETY: libgcc passes its own context.
        let address = unsafe { _Unwind_GetIP(context) };
        // SAFETY: this is the exclusive reference passed below.
        let addresses = unsafe { &mut *addresses.cast::<Vec<u64>>() };
        addresses.push(address as u64);
        0
    }
    let mut addresses = Vec::new();
    // SAFETY: the function takes what is passed with it, and does not unwind.
    unsafe { _Unwind_Backtrace(visit, (&raw mut addresses).cast()) };
    addresses
}

#[inline(never)]
fn captured() -> Vec<u64> {
    let mut frames = [0; FRAMES];
    let count = capture(sys::stack_bounds(), &mut [0; 1000], &mut frames);
    frames[..count].to_vec()
}

/// Captures and asks the oracle at one place, and compares all callers of that place.
#[inline(never)]
fn agree() -> usize {
    prepare();
    // Both calls are of this function, at other places; everything above is the same.
    let captured = captured();
    let oracle = oracle();
    // libgcc counts the end of the stack as a frame without an address.
    let callers = oracle[2..].iter().filter(|pc| **pc != 0);
    let expected: Vec<u64> = callers.map(|pc| pc - sys::CALL_LENGTH).collect();
    assert_eq!(captured[2..], expected, "{captured:x?}");
    captured.len()
}

/// Calls `leaf` at that depth.
#[inline(never)]
fn deep(depth: usize, leaf: &mut dyn FnMut()) {
    if depth == 0 {
        leaf();
    } else {
        deep(depth - 1, leaf);
    }
    black_box(depth);
}

#[test]
fn the_walk_agrees_with_the_unwinder() {
    agree();
}

#[test]
fn the_walk_agrees_in_a_new_thread() {
    std::thread::spawn(agree).join().unwrap();
}

#[test]
fn the_walk_agrees_through_catch_unwind() {
    catch_unwind(agree).unwrap();
}

#[test]
fn the_walk_agrees_inside_a_callback_of_std() {
    let mut numbers: Vec<u32> = (0..100).rev().collect();
    let mut compared = false;
    numbers.sort_by(|a, b| {
        if !compared {
            agree();
            compared = true;
        }
        a.cmp(b)
    });
    assert!(compared);
}

#[test]
fn the_walk_agrees_inside_a_callback_of_c() {
    extern "C" fn compare(a: *const c_void, b: *const c_void) -> c_int {
        agree();
        // SAFETY: qsort passes pointers to elements.
        let a = unsafe { a.cast::<c_int>().read() };
        // SAFETY: see above.
        let b = unsafe { b.cast::<c_int>().read() };
        a - b
    }
    let mut numbers: [c_int; 3] = [3, 1, 2];
    // SAFETY: the array has so many elements of that size.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), numbers.len(), 4, Some(compare)) };
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn the_walk_agrees_inside_a_signal_handler() {
    thread_local!(static FOUND: Cell<Option<[Vec<u64>; 2]>> = const { Cell::new(None) });
    extern "C" fn handle(_: c_int) {
        // The signal is raised: nothing is interrupted that could not be used here.
        FOUND.set(Some([captured(), oracle()]));
    }
    prepare();
    let handler = handle as extern "C" fn(_) as usize;
    // SAFETY: the handler is a function of this program; nobody else uses this signal.
    unsafe { libc::signal(libc::SIGUSR2, handler) };
    // SAFETY: raised on this thread, for the handler above.
    unsafe { libc::raise(libc::SIGUSR2) };
    let [captured, oracle] = FOUND.take().expect("the handler has run");
    let expected: Vec<u64> = oracle[2..].iter().copied().filter(|pc| *pc != 0).collect();
    assert_eq!(captured[2..].len(), expected.len(), "{captured:x?} {expected:x?}");
    let before = captured[2..].iter().zip(&expected).map(|(call, returned)| returned - call);
    // The trampoline is returned to, the next is where the signal struck, the others have called.
    let before: Vec<u64> = before.collect();
    assert_eq!(before.iter().filter(|distance| **distance == 0).count(), 1, "{before:?}");
    assert!(before.iter().all(|distance| [0, sys::CALL_LENGTH].contains(distance)), "{before:?}");
}

#[test]
fn the_walk_agrees_above_a_frame_of_a_megabyte() {
    #[inline(never)]
    fn large() {
        let space = [1_u8; 1 << 20];
        agree();
        black_box(&space);
    }
    std::thread::Builder::new().stack_size(8 << 20).spawn(large).unwrap().join().unwrap();
}

#[test]
fn a_deep_stack_is_cut_at_its_root() {
    prepare();
    deep(100, &mut || {
        let all = captured();
        assert!(all.len() > 100);
        let bounds = sys::stack_bounds();
        let mut frames = [0; 64];
        assert_eq!(capture(bounds, &mut [0; 1000], &mut frames), 64);
        // The two places differ in this function, and the first frame is `captured` itself.
        assert_eq!(frames[2..], all[3..65]);
        assert_eq!(capture(bounds, &mut [0; 1000], &mut []), 0);
    });
}

#[test]
fn a_stack_that_nobody_knows_is_walked_like_others() {
    #[inline(never)]
    fn captured_by(bounds: Option<StackBounds>) -> Vec<u64> {
        let mut frames = [0; FRAMES];
        let count = capture(bounds, &mut [0; 1000], &mut frames);
        frames[1..count].to_vec()
    }
    prepare();
    let of_another = std::thread::spawn(sys::stack_bounds).join().unwrap();
    deep(100, &mut || {
        // Called at one place.
        let [own, nobody, another] = [sys::stack_bounds(), None, of_another].map(captured_by);
        assert!(own.len() > 100);
        assert_eq!(nobody, own);
        assert_eq!(another, own);
    });
}

/// As a signal finds the profiler when it parses tables.
#[test]
fn the_walk_goes_on_where_the_profiler_changes_the_stack() {
    prepare();
    let mut stack = sys::OwnStack::new(64 << 10);
    deep(100, &mut || {
        let outside = captured();
        let inside = stack.call(captured);
        assert!(outside.len() > 100);
        // Each was called at a place of its own in the innermost function.
        let above = &outside[2..];
        assert!(inside.ends_with(above), "{} of {} frames", inside.len(), outside.len());
    });
}

#[test]
fn the_self_test_agrees_with_the_unwind_tables() {
    prepare();
    let by_tables = PARSERS.with(|parser| parser.rule(sys::registers().pc)).unwrap();
    assert_eq!(frame_pointers(), by_tables == Some(Rule::BY_FRAME_POINTER));
}

#[test]
fn code_without_tables_is_not_known() {
    prepare();
    let heap = Box::new(0_u64);
    assert_eq!(PARSERS.with(|parser| parser.rule((&raw const *heap).addr() as u64)), Some(None));
}

#[test]
fn a_library_is_known_while_it_is_loaded() {
    prepare();
    let rule_at = |pc: u64| PARSERS.with(|parser| parser.rule(pc)).flatten();
    // Part of glibc, and linked by no Rust program.
    // SAFETY: the library runs nothing when it is loaded.
    let library = unsafe { libc::dlopen(c"libresolv.so.2".as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null());
    // SAFETY: the handle is open, and the name ends by zero.
    let function = unsafe { libc::dlsym(library, c"ns_format_ttl".as_ptr()) };
    let inside = function.addr() as u64 + 1;
    refresh();
    assert!(rule_at(inside).is_some());
    // SAFETY: the handle is open and not used again.
    unsafe { libc::dlclose(library) };
    refresh();
    assert_eq!(rule_at(inside), None);
    agree();
}

#[test]
fn a_refresh_fits_on_the_stack_that_is_set_aside_for_it() {
    let builder = std::thread::Builder::new().stack_size(REFRESH_STACK);
    let refresh = builder.spawn(|| {
        let pool = Pool::new();
        assert!(Modules::new().refresh(&pool));
        pool.with(|parser| parser.rule(sys::registers().pc)).flatten()
    });
    assert!(refresh.unwrap().join().unwrap().is_some());
}

thread_local!(static ALLOCATIONS: Cell<usize> = const { Cell::new(0) });

/// Counts what each thread allocates.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises; all memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[test]
fn a_walk_allocates_nothing_even_where_nothing_is_known_yet() {
    prepare();
    let bounds = sys::stack_bounds();
    let mut frames = [0; FRAMES];
    deep(50, &mut || {
        RULES.clear();
        let before = ALLOCATIONS.get();
        let count = capture(bounds, &mut [0; 1000], &mut frames);
        assert_eq!(ALLOCATIONS.get(), before);
        assert!(count > 50);
    });
    let before = ALLOCATIONS.get();
    drop(black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.get(), before + 1, "the allocator counts");
}

#[test]
fn walks_go_on_while_libraries_come_and_go() {
    #[inline(never)]
    fn same_place(rounds: usize) {
        let mut expected = Vec::new();
        for _ in 0..rounds {
            let got = captured();
            // Short if all parsers were busy; never wrong.
            if expected.len() < got.len() {
                assert!(got.starts_with(&expected));
                expected = got;
            } else {
                assert!(expected.starts_with(&got));
            }
        }
        assert!(expected.len() > 2);
    }
    prepare();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| deep(20, &mut || same_place(20_000)));
        }
        for _ in 0..50 {
            // SAFETY: the library runs nothing when it is loaded.
            let library = unsafe { libc::dlopen(c"libutil.so.1".as_ptr(), libc::RTLD_NOW) };
            assert!(!library.is_null());
            refresh();
            // SAFETY: the handle is open and not used again.
            unsafe { libc::dlclose(library) };
            refresh();
        }
    });
}
