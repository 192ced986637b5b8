//! Where programs spend their time in libraries without frame pointers: a sample in the allocator or in
//! a copy of memory says who called it, up to the thread's start.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::ptr;

use profiler_core::{Config, Sample, thread};
use profiler_tests::cpu::{self, MILLISECOND, fastest, for_cpu_time, has};
use profiler_tests::keep;
use profiler_tests::modules::code_of;

/// CPU time of each caller, in nanoseconds.
const EACH: u64 = 2000 * MILLISECOND;

const CALLERS: [&str; 2] = ["caller_of_the_allocator", "caller_of_copies"];

/// And the profiler's own thread.
const OTHERS: [&str; 3] = [CALLERS[0], CALLERS[1], "profiler_core::profiler::tend"];

/// Whether the functions of a stack, leaf first, name the caller and lead to where the thread starts.
fn is_whole(functions: &[&str], caller: &str) -> bool {
    let caller = functions.iter().position(|name| name.ends_with(caller));
    caller.is_some() && functions.last().is_some_and(|name| name.ends_with("::thread_start"))
}

#[inline(never)]
#[allow(unsafe_code, reason = "the allocator is asked directly")]
fn caller_of_the_allocator() {
    let mut blocks = [ptr::null_mut(); 64];
    for_cpu_time(EACH, || {
        for (number, block) in blocks.iter_mut().enumerate() {
            // Larger than what each thread keeps for itself, so that the allocator has work to do.
            // SAFETY: any size may be asked for.
            *block = unsafe { libc::malloc(black_box(1100 + 16 * number)) };
            // SAFETY: any size may be asked for, and the block was allocated above.
            *block = unsafe { libc::realloc(*block, black_box(1500 + 90 * number)) };
        }
        // The odd ones first: the even ones are then joined with what is free on both sides.
        for first in [1, 0] {
            for block in blocks.iter().skip(first).step_by(2) {
                // SAFETY: allocated above and freed once.
                unsafe { libc::free(*block) };
            }
        }
    });
    keep!();
}

#[inline(never)]
fn caller_of_copies() {
    let mut memory = vec![1_u8; 1 << 16];
    let mut round = 0_usize;
    for_cpu_time(EACH, || {
        for _ in 0..100 {
            round = round.wrapping_add(7919);
            let length = 1 + round % 30_000;
            black_box(&mut memory).copy_within(0..length, 32_000);
            black_box(&mut memory).copy_within(0..length, 1);
        }
    });
    keep!();
}

fn functions<'a>(sample: &Sample<'a>) -> Vec<&'a str> {
    sample.frames().map(|frame| frame.function.unwrap_or("?")).collect()
}

#[test]
fn samples_in_the_allocator_and_in_copies_have_their_callers() {
    profiler_core::start(Config::default()).expect("the first start");
    let capture = fastest();
    for caller in [caller_of_the_allocator, caller_of_copies] {
        thread::spawn(caller).join().expect("no panic");
    }
    let profile = capture.finish();
    cpu::is_whole(&profile);
    // By the address: most functions of the allocator have no name in what is distributed.
    let library = code_of("/libc.so");
    for caller in CALLERS {
        let (mut all, mut whole) = (0, 0);
        let mut leaves = BTreeMap::new();
        for sample in profile.samples() {
            let leaf = sample.frames().next().expect("a leaf");
            let stack = functions(&sample);
            // Of samples without a caller it is not known whose they are: they count for both.
            let mut others = OTHERS.iter().filter(|other| **other != caller);
            let is_of_another = others.any(|other| has(&sample, other));
            if is_of_another || !library.iter().any(|code| code.contains(&leaf.address)) {
                continue;
            }
            all += sample.values()[1];
            *leaves.entry(stack[0]).or_insert(0) += sample.values()[1] / 1_000_000;
            if is_whole(&stack, caller) {
                whole += sample.values()[1];
            } else {
                println!("{:?} {stack:?}", sample.values());
            }
        }
        let share = 100.0 * whole as f64 / all as f64;
        println!("{caller}: {share:.2} % of {} ms: {leaves:?}", all as u64 / MILLISECOND);
        // The kernel samples every 4 ms on most systems: enough that one sample is less than a hundredth. How much of a
        // caller's time is the library's depends on what the rest costs without optimisation.
        assert!(all as u64 > EACH / 4, "{caller}: {all} of {EACH}");
        assert!(share >= 99.0, "{caller}: {share} %");
    }
}
