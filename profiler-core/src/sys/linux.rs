//! Linux, with glibc or musl.

#![allow(unsafe_code, reason = "system calls, and loads from the calling thread's own stack")]

use std::ffi::{c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::{StackBounds, arch};

/// The thread's `errno`, put back when this is dropped: the code that was interrupted may be
/// about to read its own.
struct KeepErrno(c_int);

impl KeepErrno {
    fn new() -> Self {
        Self(errno())
    }
}

impl Drop for KeepErrno {
    fn drop(&mut self) {
        // SAFETY: libc returns the address of the calling thread's errno, valid while it runs.
        let location = unsafe { libc::__errno_location() };
        // SAFETY: see above; nothing else refers to it during this write.
        unsafe { location.write(self.0) };
    }
}

fn errno() -> c_int {
    // SAFETY: libc returns the address of the calling thread's errno, valid while it runs.
    let location = unsafe { libc::__errno_location() };
    // SAFETY: see above.
    unsafe { location.read() }
}

#[expect(clippy::unnecessary_wraps, reason = "the other platforms have a reason to give")]
pub(super) const fn supported() -> Result<(), &'static str> {
    Ok(())
}

/// By the system call: the wrapper is missing in glibc before 2.30.
pub(super) fn thread_id() -> u32 {
    // SAFETY: gettid takes nothing and cannot fail.
    let id = unsafe { libc::syscall(libc::SYS_gettid) };
    u32::try_from(id).unwrap_or_default()
}

/// By signal 0 to the thread. Anything but "no such thread" (a refusal by seccomp, say) leaves it
/// alive, and a number that the kernel has given to another thread of ours does so too.
pub(super) fn is_thread_alive(thread: u32) -> bool {
    let _errno = KeepErrno::new();
    // SAFETY: getpid takes nothing and cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: signal 0 is delivered to nobody; the other arguments are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            c_long::from(process),
            c_long::from(thread),
            c_long::from(0),
        )
    };
    result == 0 || errno() != libc::ESRCH
}

pub(super) fn thread_name(thread: u32) -> Option<String> {
    let mut name = std::fs::read(format!("/proc/self/task/{thread}/comm")).ok()?;
    name.pop_if(|last| *last == b'\n');
    Some(String::from_utf8_lossy(&name).into_owned())
}

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
    (result == 0 && low != 0 && low < high).then_some(StackBounds { low, high })
}

impl StackBounds {
    /// Returns a reader of the words between the stack pointer, which must be one of the calling
    /// thread, and the upper end; or nothing if it points elsewhere: to an alternate signal stack,
    /// or to a coroutine's.
    #[inline]
    pub(crate) fn reader(self, sp: u64) -> Option<impl Fn(u64) -> Option<u64>> {
        let (low, high) = (self.low as u64, self.high as u64);
        let last = high - size_of::<u64>() as u64;
        (low <= sp && sp < high).then_some(move |address: u64| {
            if address < sp || address > last || !address.is_multiple_of(8) {
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

pub(super) fn read_memory(address: usize, into: &mut [u8]) -> bool {
    let _errno = KeepErrno::new();
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec {
        iov_base: std::ptr::without_provenance_mut::<c_void>(address),
        iov_len: into.len(),
    };
    // SAFETY: getpid takes nothing and cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: both vectors are one element long; the local one is a live exclusive slice, the
    // remote one is checked by the kernel.
    let read =
        unsafe { libc::process_vm_readv(process, &raw const local, 1, &raw const remote, 1, 0) };
    if read < 0 && matches!(errno(), libc::EPERM | libc::ENOSYS) {
        return read_memory_file(address, into);
    }
    usize::try_from(read) == Ok(into.len())
}

/// The way that is open where seccomp forbids the other one, as container runtimes used to do.
fn read_memory_file(address: usize, into: &mut [u8]) -> bool {
    // SAFETY: the path is a constant, ended by zero.
    let file = unsafe { libc::open(c"/proc/self/mem".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return false;
    }
    let read = match i64::try_from(address) {
        // SAFETY: the file is open and the slice is live and exclusive; the kernel checks the rest.
        Ok(offset) => unsafe { libc::pread64(file, into.as_mut_ptr().cast(), into.len(), offset) },
        Err(_) => -1,
    };
    // SAFETY: opened above and used by nobody else.
    unsafe { libc::close(file) };
    usize::try_from(read) == Ok(into.len())
}

pub(super) fn memory_maps() -> String {
    std::fs::read_to_string("/proc/self/maps").unwrap_or_default()
}

pub(super) fn monotonic_nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the result is a live exclusive value; every Linux has this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[inline]
pub(super) fn cycle_counter() -> u64 {
    arch::cycle_counter()
}

/// The kernel marks a counter unstable when cores disagree, which the processor cannot promise.
pub(super) fn cycle_counter_is_steady() -> bool {
    const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    arch::counter_is_invariant()
        && std::fs::read_to_string(CURRENT).is_ok_and(|name| name.trim() == arch::CLOCK_SOURCE)
}

pub(super) fn on_fork_child(handler: fn()) -> bool {
    static HANDLER: OnceLock<fn()> = OnceLock::new();

    extern "C" fn in_child() {
        if let Some(handler) = HANDLER.get() {
            handler();
        }
    }

    HANDLER.set(handler).is_ok()
        // SAFETY: the handler is a function of this program; libc keeps its address only.
        && unsafe { libc::pthread_atfork(None, None, Some(in_child)) } == 0
}
