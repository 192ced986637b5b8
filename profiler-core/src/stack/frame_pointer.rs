//! Whether this program keeps frame pointers.

use std::hint::black_box;
use std::iter::successors;
use std::ops::RangeInclusive;

use super::rule::Rule;
use crate::sys::{self, Native};

/// The functions of the self-test, and how many frames are compared.
const DEPTH: usize = 3;

/// Walks a chain of functions of this crate by frame pointers alone, and returns whether it meets
/// exactly these. What the compiler was told for this crate it was told for the others, and std
/// is distributed with frame pointers.
pub(super) fn self_test() -> bool {
    let mut met = [0; DEPTH];
    let called = descend(DEPTH, &mut met);
    called.into_iter().zip(met).all(|(called, met)| called.contains(&met))
}

/// Calls itself to that depth and takes the walk at the deepest level. Returns for each level,
/// innermost first, between which two of its instructions it called the next.
#[inline(never)]
fn descend(depth: usize, met: &mut [u64; DEPTH]) -> Vec<RangeInclusive<u64>> {
    let Some(depth) = depth.checked_sub(1) else {
        walk(met);
        // A call that is the last thing to do might become a jump.
        return black_box(Vec::new());
    };
    let before = sys::registers().pc;
    let mut called = descend(depth, met);
    called.push(before..=sys::registers().pc);
    called
}

/// Notes where this function's callers called, from the second on: the first ends the chain.
#[inline(never)]
fn walk(met: &mut [u64; DEPTH]) {
    let start = sys::registers();
    let Some(word) = sys::stack_bounds().and_then(|bounds| bounds.reader(start.sp)) else { return };
    let walk = successors(Some(start), |at| Rule::BY_FRAME_POINTER.step::<Native>(*at, &word));
    for (met, caller) in met.iter_mut().zip(walk.skip(2)) {
        *met = caller.pc;
    }
}
