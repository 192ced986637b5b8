//! What the kernel tells of the threads of this process, without asking them.

use super::{Activity, Hearing};

pub(super) fn threads() -> Result<Vec<u32>, &'static str> {
    let entries =
        std::fs::read_dir("/proc/self/task").and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|_| "/proc/self/task cannot be read")?;
    let numbers = entries.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<_> = numbers.collect();
    let own = super::thread_id();
    if !numbers.contains(&own) {
        // The kernel may leave it out when another ends; or this is not where this process's threads are told of.
        if std::fs::metadata(format!("/proc/self/task/{own}")).is_err() {
            return Err("/proc/self/task does not show the threads of this process");
        }
        numbers.push(own);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn thread_activity(thread: u32) -> Option<(String, Activity)> {
    let Ok(stat) = std::fs::read(format!("/proc/self/task/{thread}/stat")) else {
        return super::is_thread_alive(thread).then(|| (String::new(), Activity::Unknown));
    };
    let stat = String::from_utf8_lossy(&stat);
    // `12345 (name, which may hold anything) S …`
    let (front, rest) = stat.rsplit_once(") ")?;
    let (_, name) = front.split_once(" (")?;
    let call = || std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).ok();
    let activity = match rest.as_bytes().first()? {
        b'R' => Activity::Running,
        b'D' => Activity::Uninterruptible,
        b'T' | b't' => Activity::Stopped,
        b'X' | b'Z' => return None,
        _ => call().and_then(|call| waiting(&call)).unwrap_or(Activity::SystemCall),
    };
    Some((name.to_owned(), activity))
}

/// Tells by the text of `syscall`: `running`, or the number of the call, its arguments in hexadecimal, the
/// stack pointer and the program counter.
fn waiting(call: &str) -> Option<Activity> {
    let number = call.split_ascii_whitespace().next()?;
    if number == "running" {
        return Some(Activity::Running);
    }
    Some(match number.parse().ok()? {
        libc::SYS_futex => Activity::Futex,
        libc::SYS_clock_nanosleep | libc::SYS_nanosleep => Activity::Sleep,
        libc::SYS_epoll_pwait
        | libc::SYS_ppoll
        | libc::SYS_pselect6
        | libc::SYS_accept
        | libc::SYS_accept4
        | libc::SYS_connect
        | libc::SYS_recvfrom
        | libc::SYS_recvmsg
        | libc::SYS_recvmmsg
        | libc::SYS_sendto
        | libc::SYS_sendmsg
        | libc::SYS_read
        | libc::SYS_readv
        | libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_io_uring_enter => Activity::Io,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait | libc::SYS_poll | libc::SYS_select => Activity::Io,
        _ => Activity::SystemCall,
    })
}

pub(super) fn hearing(thread: u32) -> Hearing {
    match status(thread) {
        Some(status) => hearing_by(&status),
        None if super::is_thread_alive(thread) => Hearing::Untold,
        None => Hearing::Gone,
    }
}

fn hearing_by(status: &str) -> Hearing {
    match field(status, "State:").as_bytes().first() {
        Some(b'X' | b'Z') => Hearing::Gone,
        Some(b'T' | b't') => Hearing::Stopped,
        Some(b'D') => Hearing::Uninterruptible,
        Some(&state) if has_signal(status, "SigBlk:") => Hearing::Blocks { runs: state == b'R' },
        Some(_) => Hearing::Hears,
        None => Hearing::Untold,
    }
}

pub(super) fn blocks_timers(thread: u32) -> bool {
    // One that starts a thread blocks all signals for a moment.
    status(thread).is_some_and(|status| {
        ["SigBlk:", "SigPnd:"].into_iter().all(|set| has_signal(&status, set))
    })
}

pub(super) fn waits_of_running(thread: u32) -> Option<u64> {
    let status = status(thread)?;
    let waits = field(&status, "voluntary_ctxt_switches:").parse().ok()?;
    field(&status, "State:").starts_with('R').then_some(waits)
}

fn status(thread: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim)
}

/// Whether the signal of timers is in a set of signals.
fn has_signal(status: &str, set: &str) -> bool {
    let set = u64::from_str_radix(field(status, set), 16).unwrap_or(0);
    set >> (libc::SIGPROF - 1) & 1 != 0
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::sys::thread_id;

    /// Waits until the kernel says that of a thread.
    fn becomes(thread: u32, expected: Activity) {
        while thread_activity(thread).map(|(_, activity)| activity) != Some(expected) {
            std::thread::yield_now();
        }
    }

    fn started(body: impl FnOnce() + Send + 'static) -> (u32, std::thread::JoinHandle<()>) {
        let (tell, told) = mpsc::channel();
        let builder = std::thread::Builder::new().name("a) R b (c".to_owned());
        let thread = builder.spawn(move || {
            tell.send(thread_id()).unwrap();
            body();
        });
        (told.recv().unwrap(), thread.unwrap())
    }

    #[test]
    fn threads_are_listed_and_said_to_wait_for_what_they_wait() {
        assert!(threads().unwrap().contains(&thread_id()));
        let (end, ended) = mpsc::channel::<()>();
        let (thread, handle) = started(move || ended.recv().unwrap());
        assert!(threads().unwrap().contains(&thread));
        becomes(thread, Activity::Futex);
        assert_eq!(thread_activity(thread).unwrap().0, "a) R b (c");
        end.send(()).unwrap();
        handle.join().unwrap();

        let (thread, handle) = started(|| std::thread::sleep(Duration::from_millis(200)));
        becomes(thread, Activity::Sleep);
        handle.join().unwrap();

        let (mine, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (thread, handle) = started(move || {
            std::io::Read::read(&mut &theirs, &mut [0]).unwrap();
        });
        becomes(thread, Activity::Io);
        std::io::Write::write_all(&mut &mine, &[0]).unwrap();
        handle.join().unwrap();
        while thread_activity(thread).is_some() {
            std::thread::yield_now();
        }
        assert_eq!(thread_activity(thread_id()).unwrap().1, Activity::Running);
    }

    #[test]
    fn calls_are_told_by_their_numbers() {
        for (call, expected) in [
            ("running", Some(Activity::Running)),
            ("-1 0x7ffe 0x7f00", Some(Activity::SystemCall)),
            ("999 0x0 0x7ffe 0x7f00", Some(Activity::SystemCall)),
            ("", None),
            ("what", None),
        ] {
            assert_eq!(waiting(call), expected, "{call}");
        }
        assert_eq!(waiting(&format!("{} 0x0", libc::SYS_futex)), Some(Activity::Futex));
    }

    #[test]
    fn a_thread_that_sleeps_hears_and_one_that_is_gone_does_not() {
        assert_eq!(hearing(i32::MAX as u32), Hearing::Gone);
        assert_eq!(hearing(thread_id()), Hearing::Hears);
        let (thread, handle) = started(std::thread::park);
        becomes(thread, Activity::Futex);
        assert_eq!(hearing(thread), Hearing::Hears);
        handle.thread().unpark();
        handle.join().unwrap();
    }

    #[test]
    fn waits_are_counted_of_a_thread_that_runs() {
        let before = waits_of_running(thread_id()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert!(waits_of_running(thread_id()).unwrap() > before);
        let (thread, handle) = started(std::thread::park);
        becomes(thread, Activity::Futex);
        assert_eq!(waits_of_running(thread), None);
        handle.thread().unpark();
        handle.join().unwrap();
    }

    #[test]
    fn whether_a_signal_reaches_a_thread_is_told_by_its_status() {
        let blocked = format!("SigBlk:\t{:016x}\n", 1_u64 << (libc::SIGPROF - 1));
        for (status, expected) in [
            ("State:\tS (sleeping)\nSigBlk:\t0000000000000000\n", Hearing::Hears),
            ("State:\tR (running)\n", Hearing::Hears),
            (&format!("State:\tS (sleeping)\n{blocked}"), Hearing::Blocks { runs: false }),
            (&format!("State:\tR (running)\n{blocked}"), Hearing::Blocks { runs: true }),
            (&format!("State:\tD (disk sleep)\n{blocked}"), Hearing::Uninterruptible),
            ("State:\tt (tracing stop)\n", Hearing::Stopped),
            ("State:\tZ (zombie)\n", Hearing::Gone),
            ("", Hearing::Untold),
        ] {
            assert_eq!(hearing_by(status), expected, "{status}");
        }
    }
}
