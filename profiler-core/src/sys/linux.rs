//! Linux, with glibc or musl.

#![allow(unsafe_code, reason = "system calls")]

use std::ffi::{c_int, c_long, c_void};
use std::mem::MaybeUninit;

use super::arch;
pub(super) use super::bounds::{stack_bounds, stack_from};
pub(super) use super::quit::{is_quitting, on_quit, quit, quit_here};
use super::sampling;
pub(super) use super::threads::{
    blocks_timers, hearing, thread_activity, threads, waits_of_running,
};

/// The thread's `errno`, put back when this is dropped: the code that was interrupted may be
/// about to read its own.
pub(super) struct KeepErrno(c_int);

impl KeepErrno {
    pub(super) fn new() -> Self {
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

/// Says a last word and aborts; allocates nothing.
#[cfg(debug_assertions)]
#[cold]
pub(super) fn die(word: &[u8]) -> ! {
    // SAFETY: a live slice; whether it could be written makes no difference any more.
    unsafe { libc::write(libc::STDERR_FILENO, word.as_ptr().cast(), word.len()) };
    std::process::abort();
}

pub(super) fn errno() -> c_int {
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

/// By signal 0 to the thread, or by its clock where the system refuses that one. Anything but "no such thread" leaves it
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
    result == 0 || (errno() != libc::ESRCH && !sampling::is_clock_gone(thread))
}

pub(super) fn while_no_timer_strikes<R>(body: impl FnOnce() -> R) -> R {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: makes an empty set.
    unsafe { libc::sigemptyset(signals.as_mut_ptr()) };
    // SAFETY: initialised above, and the signal exists.
    unsafe { libc::sigaddset(signals.as_mut_ptr(), libc::SIGPROF) };
    let mut before = MaybeUninit::uninit();
    // SAFETY: both are live; the second is written on success.
    let blocked =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), before.as_mut_ptr()) };
    let result = body();
    if blocked == 0 {
        // SAFETY: written above.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    }
    result
}

pub(super) fn thread_name(thread: u32) -> Option<String> {
    let mut name = std::fs::read(format!("/proc/self/task/{thread}/comm")).ok()?;
    name.pop_if(|last| *last == b'\n');
    Some(String::from_utf8_lossy(&name).into_owned())
}

/// No page is smaller, and each that is larger ends at such a border.
const PAGE: usize = 4096;

pub(super) fn read_memory(address: usize, into: &mut [u8]) -> usize {
    let _errno = KeepErrno::new();
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let part = |address, iov_len| {
        let iov_base = std::ptr::without_provenance_mut::<c_void>(address);
        libc::iovec { iov_base, iov_len }
    };
    // The kernel copies a part as a whole or not at all, so one ends with the page.
    let first = into.len().min(PAGE - address % PAGE);
    let remote = [part(address, first), part(address.wrapping_add(first), into.len() - first)];
    // SAFETY: getpid takes nothing and cannot fail.
    let process = unsafe { libc::getpid() };
    // SAFETY: the vectors are one and two elements long; the local one is a live exclusive slice, the
    // remote ones are checked by the kernel.
    let read =
        unsafe { libc::process_vm_readv(process, &raw const local, 1, remote.as_ptr(), 2, 0) };
    if read < 0 && matches!(errno(), libc::EPERM | libc::ENOSYS) {
        return read_memory_by_pipe(address, into);
    }
    usize::try_from(read).unwrap_or(0)
}

/// The way that is open where seccomp forbids the other one, as container runtimes used to do: what a pipe takes can be
/// read, and the kernel refuses what cannot.
fn read_memory_by_pipe(address: usize, into: &mut [u8]) -> usize {
    let mut ends = [0; 2];
    // SAFETY: two descriptors are written.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return 0;
    }
    let [read, write] = ends;
    let mut done = 0;
    while done < into.len() {
        let address = address.wrapping_add(done);
        // One part ends with the page, as above; a pipe takes so much at once.
        let part = (into.len() - done).min(PAGE - address % PAGE);
        let from = std::ptr::without_provenance(address);
        // SAFETY: the descriptor is open; the kernel checks the address.
        let taken = unsafe { libc::write(write, from, part) };
        if usize::try_from(taken) != Ok(part) {
            break;
        }
        let to = into[done..done + part].as_mut_ptr();
        // SAFETY: the descriptor is open, and the slice is live, exclusive and so long.
        unsafe { libc::read(read, to.cast(), part) };
        done += part;
    }
    for end in ends {
        // SAFETY: opened above and used by nobody else.
        unsafe { libc::close(end) };
    }
    done
}

pub(super) fn memory_maps() -> String {
    // One name that is no text must not take all others away.
    String::from_utf8_lossy(&std::fs::read("/proc/self/maps").unwrap_or_default()).into_owned()
}

pub(super) fn resident_bytes() -> (Option<u64>, Option<u64>) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    // For example `VmRSS:      1234 kB`.
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

pub(super) fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time outside of signal handlers.
    unsafe {
        libc::malloc_trim(0);
    }
}

pub(super) fn map_memory(bytes: usize) -> *mut u8 {
    map(bytes, libc::PROT_READ | libc::PROT_WRITE, 0)
}

pub(super) fn advise_huge_pages(memory: &mut [u8]) {
    let _errno = KeepErrno::new();
    let skipped = memory.as_ptr().align_offset(super::HUGE_PAGE);
    if let Some(memory) = memory.get_mut(skipped..) {
        // SAFETY: the slice is live and exclusive, and what it holds stays; its start is that of a page.
        unsafe { libc::madvise(memory.as_mut_ptr().cast(), memory.len(), libc::MADV_HUGEPAGE) };
    }
}

/// Sets addresses aside, which take no memory and count for none; null if there are not so many.
pub(super) fn reserve_addresses(bytes: usize) -> *mut u8 {
    map(bytes, libc::PROT_NONE, libc::MAP_NORESERVE)
}

fn map(bytes: usize, access: c_int, flags: c_int) -> *mut u8 {
    let _errno = KeepErrno::new();
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: a fresh mapping of private memory.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED { std::ptr::null_mut() } else { memory.cast() }
}

pub(super) fn unmap_memory(memory: *mut u8, bytes: usize) {
    let _errno = KeepErrno::new();
    // SAFETY: a mapping of our own, which the caller uses no more.
    unsafe { libc::munmap(memory.cast(), bytes) };
}

/// Returns how many processors there may ever be, whichever of them the process may use.
pub(super) fn processors() -> usize {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible");
    possible
        .ok()
        .as_deref()
        .and_then(last_processor)
        .map_or_else(mask_of_processors, |last| last + 1)
}

/// Reads a list as `0-3,8-127`.
fn last_processor(list: &str) -> Option<usize> {
    list.trim().rsplit(['-', ',']).next()?.parse().ok()
}

/// Where the kernel's files are not to be seen: how many bits its mask of processors has, so many at the least.
fn mask_of_processors() -> usize {
    let mut mask = [0_u8; 4096];
    // SAFETY: the mask is live and so long. By the system call, since libc does not tell how much is written.
    let bytes = unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, c_long::from(0), mask.len(), mask.as_mut_ptr())
    };
    usize::try_from(bytes).map_or(1, |bytes| bytes * 8)
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

pub(super) fn write_error(mut text: &[u8]) {
    while !text.is_empty() {
        // SAFETY: the slice is live.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => text = &text[written..],
            Err(_) if errno() == libc::EINTR => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn set_errno(value: c_int) {
        // SAFETY: libc returns the address of the calling thread's errno, valid while it runs.
        let location = unsafe { libc::__errno_location() };
        // SAFETY: see above.
        unsafe { location.write(value) };
    }

    #[test]
    fn a_thread_is_alive_until_it_is_joined() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(thread_id()).unwrap();
            ended.recv().unwrap();
        });
        let id = told.recv().unwrap();
        assert_ne!(id, thread_id());
        set_errno(7);
        assert!(is_thread_alive(id));
        end.send(()).unwrap();
        thread.join().unwrap();
        // The kernel takes a thread off its list a moment after it has told those who join it.
        while is_thread_alive(id) {
            std::thread::yield_now();
        }
        assert_eq!(errno(), 7);
    }

    #[test]
    fn a_thread_has_the_name_it_was_given() {
        let builder = std::thread::Builder::new().name("tea kettle".to_owned());
        let name = builder.spawn(|| thread_name(thread_id())).unwrap().join().unwrap();
        assert_eq!(name.as_deref(), Some("tea kettle"));
        assert_eq!(thread_name(0), None);
    }

    /// Checks one way of reading memory.
    fn check_read(read: fn(usize, &mut [u8]) -> usize) {
        let memory = *b"twelve bytes";
        let mut copy = [0; 12];
        assert_eq!(read(memory.as_ptr().addr(), &mut copy), copy.len());
        assert_eq!(copy, memory);
        let many: Vec<u8> = (0..3 * PAGE).map(|byte| byte as u8).collect();
        let mut copy_of_many = vec![0; many.len()];
        assert_eq!(read(many.as_ptr().addr(), &mut copy_of_many), many.len());
        assert!(copy_of_many == many);
        // Up to a page that cannot be read.
        let pages = map_memory(2 * PAGE);
        let second = pages.wrapping_add(PAGE).cast();
        // SAFETY: mapped above, and nothing refers to it.
        assert_eq!(unsafe { libc::mprotect(second, PAGE, libc::PROT_NONE) }, 0);
        assert_eq!(read(pages.addr() + 7, &mut copy_of_many), PAGE - 7);
        for unmapped in [0, 8, usize::MAX - 64] {
            assert_eq!(read(unmapped, &mut copy), 0, "{unmapped:#x}");
        }
    }

    #[test]
    fn memory_is_read_and_nothing_faults() {
        set_errno(7);
        check_read(read_memory);
        assert_eq!(errno(), 7);
    }

    #[test]
    fn processors_are_counted_with_and_without_the_kernels_files() {
        for (list, last) in
            [("0\n", Some(0)), ("0-127\n", Some(127)), ("0,4-5", Some(5)), ("", None)]
        {
            assert_eq!(last_processor(list), last, "{list}");
        }
        assert!(mask_of_processors() >= processors());
    }

    #[test]
    fn memory_is_read_where_the_system_call_is_forbidden() {
        check_read(read_memory_by_pipe);
    }
}
