//! The platform contract: everything that depends on the operating system or the processor.
//!
//! Linux on `x86_64` and `aarch64` is served by `linux.rs` and `arch.rs`. Everything else, and Linux
//! under `--cfg profiler_unsupported`, compiles through `unsupported.rs`, where nothing native is
//! known: there are no native stacks, threads are taken to live for ever, and the clock is
//! std's. Which it is, `build.rs` says once, as `cfg(profiler_native)`.
//!
//! Unless a function says otherwise it allocates nothing, keeps `errno`, and may be called in a
//! signal handler.

use std::ffi::CStr;
use std::io;

#[cfg(profiler_native)]
mod arch;
#[cfg(profiler_native)]
mod bounds;
#[cfg_attr(profiler_native, path = "files.rs")]
#[cfg_attr(not(profiler_native), path = "no_files.rs")]
mod files;
#[cfg(profiler_native)]
mod handler;
#[cfg(profiler_native)]
mod handler_stacks;
#[cfg(profiler_native)]
mod in_handler;
#[cfg(profiler_native)]
mod main_stack;
#[cfg(profiler_native)]
mod modules;
#[cfg_attr(profiler_native, path = "own_threads.rs")]
#[cfg_attr(not(profiler_native), path = "no_own_threads.rs")]
mod own_threads;
#[cfg_attr(profiler_native, path = "linux.rs")]
#[cfg_attr(not(profiler_native), path = "unsupported.rs")]
mod platform;
#[cfg_attr(profiler_native, path = "process.rs")]
#[cfg_attr(not(profiler_native), path = "no_forks.rs")]
mod process;
#[cfg(profiler_native)]
mod processor;
#[cfg(profiler_native)]
mod quit;
#[cfg_attr(profiler_native, path = "sampling.rs")]
#[cfg_attr(not(profiler_native), path = "no_sampling.rs")]
pub(crate) mod sampling;
#[cfg_attr(profiler_native, path = "sockets.rs")]
#[cfg_attr(not(profiler_native), path = "no_sockets.rs")]
mod sockets;
#[cfg(profiler_native)]
mod thread_locals;
#[cfg(profiler_native)]
mod threads;

#[cfg(all(test, profiler_native, target_arch = "x86_64"))]
pub(crate) use arch::interrupted;
#[cfg(profiler_native)]
pub(crate) use arch::{CALL_LENGTH, Native, OwnStack, RED_ZONE, registers};
#[cfg(profiler_native)]
pub(crate) use in_handler::{InHandler, assert_may_allocate};
#[cfg(profiler_native)]
pub(crate) use modules::{LoadedModule, ModuleBytes, module_generation, on_unload, visit_modules};
#[cfg(all(test, profiler_native))]
pub(crate) use processor::{Aarch64, X86_64};
#[cfg(profiler_native)]
pub(crate) use processor::{Processor, Registers};

#[cfg(not(profiler_native))]
pub(crate) use platform::assert_may_allocate;

pub(crate) use files::{file_stamp, open_file};
pub use own_threads::OwnThread;
pub(crate) use process::Process;
pub use sockets::{OwnSocket, close_inherited};

/// Registers where nothing is known of them.
#[cfg(not(profiler_native))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers;

/// The stack of one thread, as the kernel or libc tells it: lowest address and first one above.
///
/// Made only by [`stack_bounds`] and [`stack_from`], so that what lies between a live stack pointer and the upper
/// end can be read without a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StackBounds {
    low: usize,
    high: usize,
}

/// What tells a file from others, and from itself before it was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(profiler_native), allow(dead_code, reason = "never made there"))]
pub(crate) struct FileStamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
}

/// What the kernel says that a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(profiler_native), allow(dead_code, reason = "never made there"))]
pub(crate) enum Activity {
    /// It runs, or could.
    Running,
    /// Waits for a lock, a condition, another thread: a futex.
    Futex,
    Sleep,
    /// Waits for a file, a socket, or any of several.
    Io,
    /// In another system call.
    SystemCall,
    /// Sleeps, in a system call or for a page, where no signal reaches it.
    Uninterruptible,
    /// By a debugger or by job control.
    Stopped,
    /// The kernel's files are not to be seen.
    Unknown,
}

/// Whether a signal reaches a thread, by what the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(profiler_native), allow(dead_code, reason = "never made there"))]
pub(crate) enum Hearing {
    /// As soon as it has a processor.
    Hears,
    /// It blocks the signal; some do so for a moment.
    Blocks {
        /// Whether it runs, or would if a processor were free.
        runs: bool,
    },
    /// See [`Activity::Uninterruptible`].
    Uninterruptible,
    /// See [`Activity::Stopped`].
    Stopped,
    Gone,
    /// The kernel's files are not to be seen.
    Untold,
}

/// Returns `Ok` where native stacks, threads and modules are known, else the reason, as a
/// sentence for users.
pub(crate) fn supported() -> Result<(), &'static str> {
    platform::supported()
}

/// Returns the kernel's number of the calling thread; elsewhere a number that no other thread of
/// this process has had. A system call: keep the answer.
pub(crate) fn thread_id() -> u32 {
    platform::thread_id()
}

/// Returns false once the thread of this process is gone for certain.
///
/// Where that cannot be known every thread lives: what it owned is then never given to another.
pub(crate) fn is_thread_alive(thread: u32) -> bool {
    platform::is_thread_alive(thread)
}

/// Calls `body` while no timer's signal is delivered to the calling thread; one that comes meanwhile
/// is delivered after.
pub(crate) fn while_no_timer_strikes<R>(body: impl FnOnce() -> R) -> R {
    platform::while_no_timer_strikes(body)
}

/// Returns the name of a thread of this process. Allocates; not for signal handlers.
pub(crate) fn thread_name(thread: u32) -> Option<String> {
    platform::thread_name(thread)
}

/// Returns the kernel's numbers of the threads of this process, sorted. One may be missing if
/// another ends meanwhile: the kernel goes by positions in a list that gets shorter. Reads a directory,
/// and allocates; not for signal handlers.
///
/// # Errors
///
/// Why they are not known, for users.
pub(crate) fn threads() -> Result<Vec<u32>, &'static str> {
    platform::threads()
}

/// Returns the name of a thread of this process and what it does; nothing if it is gone. Reads two
/// files, and allocates; not for signal handlers. Without the files the name is empty.
pub(crate) fn thread_activity(thread: u32) -> Option<(String, Activity)> {
    platform::thread_activity(thread)
}

/// Returns whether a thread of this process can be interrupted by [`interrupt`](sampling::interrupt). Reads a file, and
/// allocates; not for signal handlers.
pub(crate) fn hearing(thread: u32) -> Hearing {
    platform::hearing(thread)
}

/// Returns how often a thread of this process has waited for anything, if it runs now or would if it had a processor; nothing
/// if not, or if the system does not say. Reads a file, and allocates; not for signal handlers.
pub(crate) fn waits_of_running(thread: u32) -> Option<u64> {
    platform::waits_of_running(thread)
}

/// Returns whether the signal of a timer waits for a thread of this process that blocks it. Reads a file, and allocates; not
/// for signal handlers.
pub(crate) fn blocks_timers(thread: u32) -> bool {
    platform::blocks_timers(thread)
}

/// Returns the bounds of the calling thread's stack, the main thread's too.
///
/// May allocate and, for the main thread, read a file: take them once, when the thread joins, and
/// never in a signal handler.
pub(crate) fn stack_bounds() -> Option<StackBounds> {
    platform::stack_bounds()
}

/// Returns bounds within the calling thread's stack, where a signal has struck it: from the page of the
/// stack pointer to libc's own block of the thread, which libc has put at the stack's upper end. Nothing
/// if that is not so, on the main thread, on a coroutine's stack, and on one that is used deeper than 256 KiB.
///
/// What it returns stays as long as the thread runs: it is one piece without a gap, and so one stack, since
/// below each there is a page that cannot be read. Costs a system call, unless the stack pointer lies in what
/// is `known` from an earlier call on this thread.
pub(crate) fn stack_from(at: Registers, known: Option<StackBounds>) -> Option<StackBounds> {
    platform::stack_from(at, known)
}

/// Copies memory of this process, and returns false, leaving any content, if some of it is not
/// mapped or not readable. Never faults; costs a system call.
pub(crate) fn read_memory(address: usize, into: &mut [u8]) -> bool {
    read_some_memory(address, into) == into.len()
}

/// The same, as far as it is mapped and readable; returns how many bytes that are.
pub(crate) fn read_some_memory(address: usize, into: &mut [u8]) -> usize {
    platform::read_memory(address, into)
}

/// Returns the text of `/proc/self/maps`, empty if it cannot be read, and with other characters in names that are no text.
/// Allocates.
pub(crate) fn memory_maps() -> String {
    platform::memory_maps()
}

/// Returns the bytes of this process that are resident now, and the most that ever were. Reads a file;
/// not for signal handlers.
pub(crate) fn resident_bytes() -> (Option<u64>, Option<u64>) {
    platform::resident_bytes()
}

/// The size of huge pages, or any where there are none.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Asks for huge pages for memory that was mapped.
pub(crate) fn advise_huge_pages(memory: &mut [u8]) {
    platform::advise_huge_pages(memory);
}

/// Has the C library's allocator give unused memory back, where there is a call for it. Takes its
/// locks; not for signal handlers.
pub(crate) fn release_memory() {
    platform::release_memory();
}

/// Maps zeroed memory that is never given back; null if the system has none, or no such call.
pub(crate) fn map_memory(bytes: usize) -> *mut u8 {
    platform::map_memory(bytes)
}

/// Gives memory back that [`map_memory`] returned, and that nobody uses any more.
///
/// # Signal safety
///
/// A system call.
pub(crate) fn unmap_memory(memory: *mut u8, bytes: usize) {
    platform::unmap_memory(memory, bytes);
}

/// Returns nanoseconds of the monotonic clock since a point fixed for this process.
#[inline]
pub(crate) fn monotonic_nanoseconds() -> u64 {
    platform::monotonic_nanoseconds()
}

/// Returns the processor's counter of time; meaningful only if [`cycle_counter_is_steady`].
#[inline]
pub(crate) fn cycle_counter() -> u64 {
    platform::cycle_counter()
}

/// Returns whether the counter runs at one speed on every core and in every power state, and the
/// kernel trusts it with its own clock. Reads a file; not for signal handlers.
pub(crate) fn cycle_counter_is_steady() -> bool {
    platform::cycle_counter_is_steady()
}

/// Notes SIGQUIT from now on, for [`is_quitting`]; false if the system refuses.
///
/// A handler from before is called as it was. Where there was none the process ends at [`quit`], or at the
/// second signal.
pub(crate) fn on_quit() -> bool {
    platform::on_quit()
}

/// Has this process, after a fork, do the same: it has a thread that looks at [`is_quitting`].
pub(crate) fn quit_here() {
    platform::quit_here();
}

/// Returns whether SIGQUIT has come since [`on_quit`] or [`quit`].
pub(crate) fn is_quitting() -> bool {
    platform::is_quitting()
}

/// Lets SIGQUIT have the effect that it had before [`on_quit`].
pub(crate) fn quit() {
    platform::quit();
}

/// Writes to the standard error stream, whoever holds a lock on it; what cannot be written is lost.
pub(crate) fn write_error(text: &[u8]) {
    platform::write_error(text);
}

/// Returns the number of this process: 0 in the first one with the profiler, and in the child of a fork one that no process
/// has which it came from, however it was forked.
///
/// A load or two; where the kernel wipes no pages, a system call.
#[inline]
pub fn process_number() -> u32 {
    process::number()
}

/// Has `handler` run in the child after each `fork`, where only the forking thread lives on. It does not in children that
/// are forked without libc's `fork`, by `_Fork` or a system call: those only have another [`process_number`].
///
/// Four can be registered, a fifth one is refused with false. It may do what a signal handler may.
pub(crate) fn on_fork_child(handler: &'static fn()) -> bool {
    process::on_fork_child(handler)
}

/// Makes a thread that blocks all signals, but for those of faults, before it is there, and has a name of up to 15
/// bytes.
///
/// # Errors
///
/// The system refuses to create it.
pub(crate) fn spawn(
    name: &'static CStr,
    stack_size: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<OwnThread> {
    own_threads::spawn(name, stack_size, Box::new(body))
}

/// Returns whether a thread of this process was made by [`spawn`], and so hears no question and has no samples.
pub(crate) fn is_own_thread(thread: u32) -> bool {
    own_threads::is_own(thread)
}

/// The standard error stream, written to past the lock that std keeps on it, which a thread that is stuck may hold.
#[derive(Debug)]
pub(crate) struct StandardError;

impl std::io::Write for StandardError {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        write_error(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
