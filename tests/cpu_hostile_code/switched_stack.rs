//! Go's `TestGoroutineSwitch` and `TestMorestack`: stacks that are not where the thread's should be, and
//! signals while they are switched.

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::mem::MaybeUninit;

use profiler_tests::cpu::{MILLISECOND, cumulative, for_cpu_time, has, use_up};
use profiler_tests::keep;

use super::{capture, functions, is_whole};

const STACK: usize = 64 << 10;

thread_local! {
    /// The thread's own context and the coroutine's.
    static CONTEXTS: UnsafeCell<[MaybeUninit<libc::ucontext_t>; 2]> =
        const { UnsafeCell::new([const { MaybeUninit::uninit() }; 2]) };
}

fn contexts() -> [*mut libc::ucontext_t; 2] {
    CONTEXTS.with(|contexts| {
        let first = contexts.get().cast::<libc::ucontext_t>();
        [first, first.wrapping_add(1)]
    })
}

#[inline(never)]
fn on_the_other_stack() {
    use_up(black_box(MILLISECOND));
    keep!();
}

extern "C" fn coroutine() {
    let [own, other] = contexts();
    loop {
        on_the_other_stack();
        // SAFETY: both contexts were made; the thread waits in its own.
        unsafe { libc::swapcontext(other, own) };
    }
}

/// Goes to the coroutine and back, and works as well.
#[inline(never)]
fn switch() {
    let [own, other] = contexts();
    // SAFETY: the coroutine was made, and waits in its context.
    unsafe { libc::swapcontext(own, other) };
    use_up(black_box(MILLISECOND / 2));
    keep!();
}

fn thread_with_a_coroutine() {
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let [own, other] = contexts();
    // SAFETY: the context is the thread's, and written here.
    unsafe { libc::getcontext(other) };
    // SAFETY: written above, and nobody else's.
    let context = unsafe { &mut *other };
    context.uc_stack.ss_sp = stack.as_mut_ptr().cast();
    context.uc_stack.ss_size = STACK;
    context.uc_link = own;
    // SAFETY: the stack outlives all switches, and the function takes no argument.
    unsafe { libc::makecontext(other, coroutine, 0) };
    for_cpu_time(300 * MILLISECOND, switch);
}

#[test]
fn a_coroutine_has_the_stack_that_it_has() {
    let profile = capture(thread_with_a_coroutine);
    assert!(cumulative(&profile, "on_the_other_stack") > 0);
    for sample in profile.samples() {
        let stack = functions(&sample);
        if let Some(at) = stack.iter().position(|name| name.ends_with("on_the_other_stack")) {
            assert!(stack[at + 1].ends_with("switched_stack::coroutine"), "{stack:?}");
            // It was called by nobody, but for the C library's own start of it.
            assert!(stack.len() <= at + 3, "{stack:?}");
            assert!(!stack.iter().any(|name| name.ends_with("thread_with_a_coroutine")));
        }
    }
    // And the thread's own stack is whole while it is on it.
    let own = profile.samples().filter(|sample| has(sample, "switched_stack::switch"));
    let own: Vec<_> = own.map(|sample| functions(&sample)).collect();
    assert!(own.iter().any(|stack| is_whole(stack, "thread_with_a_coroutine")), "{own:?}");
}
