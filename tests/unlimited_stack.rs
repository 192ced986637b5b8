//! The main thread of a program whose stack may grow without a limit (`ulimit -s unlimited`): libc counts all
//! free addresses below as its stack, and what is mapped later lies there, the stacks of coroutines too.
//! Runs on the main thread, where the harness runs nothing.

#![cfg_attr(not(target_os = "linux"), allow(unused, reason = "there is no test"))]
#![allow(unsafe_code, reason = "a function of assembly is called on a stack that is switched by C")]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    use std::process::Command;

    if std::env::args().any(|argument| argument == "child") {
        return test::child();
    }
    let program = std::env::current_exe().expect("the path of the test");
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -s "$(ulimit -H -s)" && exec "$0" child"#]).arg(program);
    let status = command.status().expect("there is a shell");
    assert!(status.success(), "{status}");
    println!("the stack of the main thread ends where the system's own does");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod test {
    use std::arch::naked_asm;

    use profiler_core::{Config, Kind, Rates, snapshot, wait};
    use profiler_tests::context::call_on;
    use profiler_tests::keep;

    /// Calls the function with that word in the frame pointer. No table tells of this code, so it is walked by
    /// frame pointers.
    #[unsafe(naked)]
    extern "C" fn call_with_frame_pointer(function: extern "C" fn(), word: u64) {
        naked_asm!("push rbp", "mov rbp, rsi", "call rdi", "pop rbp", "ret")
    }

    #[inline(never)]
    extern "C" fn user_function() {
        wait("thing", || ());
        keep!();
    }

    pub(crate) fn child() {
        profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
        // The profiler has asked where the main thread's stack is.
        user_function();
        const SIZE: usize = 128 << 10;
        // The heap's new end, and nothing is above it.
        // SAFETY: only grows.
        let low = unsafe { libc::sbrk(SIZE as isize) };
        assert_ne!(low.addr(), usize::MAX, "no memory");
        let low = low.cast::<u8>().map_addr(|address| address.next_multiple_of(16));
        for above in (0..2 * SIZE).step_by(4096) {
            let mut body = || call_with_frame_pointer(user_function, (low.addr() + above) as u64);
            // SAFETY: the memory is nobody else's.
            unsafe { call_on(low, SIZE - 16, &mut body) };
        }
        let profile = snapshot(Kind::Block).expect("available");
        let mut seen = 0;
        for sample in profile.samples() {
            let mut functions = sample.frames().filter_map(|frame| frame.function);
            let stands = functions.any(|function| function.ends_with("::user_function"));
            assert!(stands, "{:?}", sample.frames().collect::<Vec<_>>());
            seen += sample.values()[0];
        }
        assert_eq!(seen, 65);
    }
}
