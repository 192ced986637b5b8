//! Where the calling thread's stack lies, by libc or by what can be read, and the words on it.

#![allow(
    unsafe_code,
    reason = "libc is asked, and words of the calling thread's own stack are loaded"
)]

use std::ffi::c_void;
use std::mem::MaybeUninit;

use super::platform::{KeepErrno, errno};
use super::{RED_ZONE, Registers, StackBounds};

/// No page is smaller.
const PAGE: usize = 4096;
/// As many as are looked at in one system call.
const MOST_PAGES: usize = 64;

/// So much below the end of the main thread's stack the kernel maps nothing else, unless the program was begun
/// with a smaller limit than is usual. libc counts all that the limit of now allows, up to the next mapping,
/// and where that is far off, or the limit none, the heap grows into it and other stacks are put there.
const MAIN_STACK: usize = 8 << 20;

pub(super) fn stack_bounds() -> Option<StackBounds> {
    let _errno = KeepErrno::new();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: pthread_self takes nothing and cannot fail.
    let thread = unsafe { libc::pthread_self() };
    // SAFETY: the thread is the calling one, so it lives; the attributes are written on success.
    if unsafe { libc::pthread_getattr_np(thread, attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let mut low = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the attributes were initialised above, and both results are written before return.
    let result =
        unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size) };
    // glibc keeps the set of processors in the attributes on the heap: not destroyed, they leak.
    // SAFETY: the attributes were initialised above and are not used again.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    let low = low.addr();
    let high = low.checked_add(size)?;
    let low = if is_main_thread() { low.max(high.saturating_sub(MAIN_STACK)) } else { low };
    (result == 0 && low != 0 && low < high).then_some(StackBounds { low, high })
}

pub(super) fn stack_from(at: Registers, known: Option<StackBounds>) -> Option<StackBounds> {
    let lowest = usize::try_from(at.sp.saturating_sub(RED_ZONE)).ok()?;
    let known = known.filter(|known| (known.low..known.high).contains(&lowest));
    known.or_else(|| stack_above(lowest))
}

/// Also true of the thread that lives on in the child of a fork.
fn is_main_thread() -> bool {
    super::thread_id() == process().cast_unsigned()
}

fn process() -> libc::pid_t {
    // SAFETY: getpid takes nothing and cannot fail.
    unsafe { libc::getpid() }
}

/// Asks the kernel whether all is readable from a stack pointer to libc's block of the thread.
#[cold]
fn stack_above(sp: usize) -> Option<StackBounds> {
    let _errno = KeepErrno::new();
    // The main thread's block is not on its stack, but may adjoin some coroutine's.
    if is_main_thread() {
        return None;
    }
    // SAFETY: pthread_self takes nothing and cannot fail.
    let high = unsafe { libc::pthread_self() } as usize;
    let low = sp & !(PAGE - 1);
    let pages = high.checked_sub(low)?.div_ceil(PAGE);
    if pages > MOST_PAGES || !high.is_multiple_of(8) {
        return None;
    }
    let all = pages > 0 && are_readable(low, pages);
    all.then_some(StackBounds { low, high })
}

/// Returns whether so many pages can be read, 64 at the most.
fn are_readable(low: usize, pages: usize) -> bool {
    let mut bytes = [0_u8; MOST_PAGES];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: pages };
    let remote: [_; MOST_PAGES] = std::array::from_fn(|page| libc::iovec {
        iov_base: std::ptr::without_provenance_mut::<c_void>(low.wrapping_add(page * PAGE)),
        iov_len: 1,
    });
    // SAFETY: the local vector is one live exclusive slice, of the remote ones there are more than
    // `pages`, which the kernel checks.
    let read = unsafe {
        let count = pages as libc::c_ulong;
        libc::process_vm_readv(process(), &raw const local, 1, remote.as_ptr(), count, 0)
    };
    if read < 0 && matches!(errno(), libc::EPERM | libc::ENOSYS) {
        return (0..pages).all(|page| is_readable(low.wrapping_add(page * PAGE)));
    }
    usize::try_from(read) == Ok(pages)
}

/// The way that is open where seccomp forbids the other one: the kernel reads a mask before it finds that what to do with
/// it makes no sense.
fn is_readable(page: usize) -> bool {
    const SENSELESS: libc::c_long = -1;
    const MASK_BYTES: libc::c_long = 8;
    // Not the page's first word, which of the lowest page would be none.
    let mask: *const c_void = std::ptr::without_provenance(page | 8);
    let before = std::ptr::null_mut::<c_void>();
    // SAFETY: the kernel checks the address, and changes nothing.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, SENSELESS, mask, before, MASK_BYTES) };
    errno() == libc::EINVAL
}

impl StackBounds {
    /// Returns a reader of the words between the stack pointer, which must be one of the calling
    /// thread, and the upper end; or nothing if it points elsewhere: to an alternate signal stack,
    /// or to a coroutine's.
    ///
    /// Where a signal has struck, the stack pointer less [`RED_ZONE`](super::RED_ZONE) is one too: what
    /// a function has only just taken off the stack, or never moved the pointer for, is still there.
    #[inline(always)]
    pub(crate) fn reader(self, sp: u64) -> Option<impl Fn(u64) -> Option<u64>> {
        let (low, high) = (self.low as u64, self.high as u64);
        if sp < low || sp >= high || !sp.is_multiple_of(8) {
            return None;
        }
        let words = (high - sp) / 8;
        Some(move |address: u64| {
            // PERF: one comparison tells range and alignment: an odd address is a huge index.
            if address.wrapping_sub(sp).rotate_right(3) >= words {
                return None;
            }
            let word: *const u64 = std::ptr::with_exposed_provenance(address as usize);
            // SAFETY: the word is aligned and lies between a live stack pointer and the end of
            // the stack that it points into, which is mapped as long as the thread runs. Volatile,
            // since the compiler knows nothing of this access.
            Some(unsafe { word.read_volatile() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::registers;

    #[test]
    fn the_stack_of_a_thread_is_as_large_as_asked_for_and_holds_its_locals() {
        let check = || {
            let local = 0_u8;
            let StackBounds { low, high } = stack_bounds().unwrap();
            assert!((low..high).contains(&(&raw const local).addr()));
            // libc may hand out a larger stack that it still has from another thread.
            assert!(high - low >= 3 << 20, "{low:#x} to {high:#x}");
        };
        let builder = std::thread::Builder::new().stack_size(3 << 20);
        builder.spawn(check).unwrap().join().unwrap();
    }

    #[test]
    fn a_stack_is_found_from_where_a_signal_strikes_and_not_below_its_guard() {
        let check = || {
            let StackBounds { low, high } = stack_bounds().unwrap();
            let at = |sp: usize| Registers { sp: sp as u64, ..registers() };
            let here = registers();
            let found = stack_from(here, None).unwrap();
            assert!(low <= found.low && found.high <= high, "{found:x?}");
            assert!((found.low as u64..found.high as u64).contains(&here.sp));
            assert!(high - found.high < 64 << 10, "{found:x?} {high:x}");
            // What is known is not asked for, as long as it holds the place.
            assert_eq!(stack_from(here, Some(found)), Some(found));
            let other = StackBounds { low: 8, high: 16 };
            assert_eq!(stack_from(here, Some(other)), Some(found));
            for elsewhere in [8, low - 8, high + 4096, 1 << 46] {
                assert_eq!(stack_from(at(elsewhere), Some(found)), None, "{elsewhere:#x}");
            }
        };
        // So small that the guard is within reach.
        let builder = std::thread::Builder::new().stack_size(128 << 10);
        builder.spawn(check).unwrap().join().unwrap();
    }

    #[test]
    fn pages_are_told_from_gaps_where_the_system_call_is_forbidden() {
        let here = registers().sp as usize & !(PAGE - 1);
        assert!(is_readable(here) && are_readable(here, 1));
        for nowhere in [0, 1 << 46, usize::MAX & !(PAGE - 1)] {
            assert!(!is_readable(nowhere) && !are_readable(nowhere, 1), "{nowhere:#x}");
        }
    }

    #[test]
    fn words_are_read_between_the_stack_pointer_and_the_upper_end() {
        let words = [0x11_u64, 0x22, 0x33];
        let low = words.as_ptr().addr();
        let bounds = StackBounds { low, high: low + 24 };
        let low = low as u64;
        let word = bounds.reader(low + 8).unwrap();
        assert_eq!(word(low + 8), Some(0x22));
        assert_eq!(word(low + 16), Some(0x33));
        for outside in [low, low + 24, low + 9, low + 17, 0, 7, u64::MAX, u64::MAX - 7] {
            assert_eq!(word(outside), None, "{outside:#x}");
        }
        for elsewhere in [low - 8, low + 24, low + 4, 0, u64::MAX - 7] {
            assert!(bounds.reader(elsewhere).is_none(), "{elsewhere:#x}");
        }
    }
}
