//! Native stacks: which calls led here.

use crate::sys::{self, Registers, StackBounds};

/// Gets ready to walk. Allocates; called once at the start.
pub(crate) fn prepare() {}

/// Takes note of libraries that were loaded or unloaded. Allocates; called by the profiler's own
/// thread and before a profile is read.
pub(crate) fn refresh() {}

/// Returns whether this program keeps frame pointers.
pub(crate) fn frame_pointers() -> bool {
    true
}

/// Captures the calls that led to this place, innermost first, and returns how many they are.
///
/// Each is an address inside the call; the first lies in the function that this is inlined into.
/// What does not fit into `frames` is left out on the side of the thread's start.
///
/// # Signal safety
///
/// Allocates nothing, takes no lock, reads only the thread's own stack.
#[inline(always)]
pub(crate) fn capture(bounds: StackBounds, frames: &mut [u64]) -> usize {
    walk(sys::registers(), bounds, frames)
}

#[inline(never)]
fn walk(mut registers: Registers, bounds: StackBounds, frames: &mut [u64]) -> usize {
    let Some(word) = bounds.reader(registers.sp) else { return 0 };
    let mut count = 0;
    for frame in frames {
        *frame = registers.pc - sys::CALL_LENGTH;
        count += 1;
        let (Some(fp), Some(pc)) = (word(registers.fp), word(registers.fp + 8)) else { break };
        let pc = sys::strip_pointer_authentication(pc);
        if pc == 0 || registers.fp < registers.sp {
            break;
        }
        registers = Registers { pc, sp: registers.fp + 16, fp };
    }
    count
}
