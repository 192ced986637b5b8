//! Counts instructions by stepping a child process through them: exact, whatever the machine does.

#![allow(unsafe_code, reason = "fork and ptrace")]

/// Repetitions, so that what surrounds the loop does not count.
const TIMES: u64 = 100;

/// Returns how many instructions one call of `body` takes, its loop's own included.
///
/// # Errors
///
/// The system does not let a process trace its child.
///
/// # Panics
///
/// If `body` panics.
pub fn count(mut body: impl FnMut()) -> Result<f64, std::io::Error> {
    // Once before, so that what is done once is not counted.
    body();
    let whole = steps(|| (0..TIMES).for_each(|_| body()))?;
    let empty = steps(|| ())?;
    Ok((whole - empty) as f64 / TIMES as f64)
}

/// Runs `body` in a child and counts the instructions between the two stops around it.
fn steps(body: impl FnOnce()) -> Result<u64, std::io::Error> {
    // SAFETY: the child runs `body` and leaves by `_exit`, without running what the parent's other
    // threads had begun.
    let child = unsafe { libc::fork() };
    match child {
        -1 => return Err(std::io::Error::last_os_error()),
        0 => {
            // SAFETY: asks to be traced by the parent.
            unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            stop();
            body();
            stop();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        _ => {}
    }
    let mut steps = 0;
    let mut stops = 0;
    loop {
        let mut status = 0;
        // SAFETY: waits for the child.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } == -1 {
            return Err(std::io::Error::last_os_error());
        }
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            return Ok(steps);
        }
        if libc::WSTOPSIG(status) == libc::SIGSTOP {
            stops += 1;
        } else {
            steps += 1;
        }
        let request = if stops == 1 { libc::PTRACE_SINGLESTEP } else { libc::PTRACE_CONT };
        // SAFETY: the child is stopped and traced by this process; no signal is handed on.
        unsafe { libc::ptrace(request, child, 0, 0) };
    }
}

fn stop() {
    // SAFETY: stops this process until the parent lets it go on.
    unsafe { libc::raise(libc::SIGSTOP) };
}
