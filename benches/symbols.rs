//! What it costs to name 2,000 addresses of this program by its debug information, and the memory for it.

#![allow(unsafe_code, reason = "the profiler's handler is told other places than the true one")]

use std::ffi::{c_int, c_void};
use std::fs;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use profiler_benches::process::{Took, forget_peak, mib, thread_cpu};
use profiler_benches::signals::{Handler, install, profilers, send};
use profiler_core::{Capture, Config, Kind, Profile, Symbols, View, default_view, release_memory};

const ADDRESSES: u64 = 2_000;

static ELSEWHERE: AtomicI64 = AtomicI64::new(0);
static HANDLER: OnceLock<Handler> = OnceLock::new();

/// Tells the profiler that the thread is where `ELSEWHERE` says.
extern "C" fn strike(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(handler) = HANDLER.get() else { return };
    // SAFETY: the kernel passes the context to handlers.
    let mut copy: libc::ucontext_t = unsafe { context.cast::<libc::ucontext_t>().read() };
    let place = ELSEWHERE.load(Ordering::Relaxed);
    #[cfg(target_arch = "x86_64")]
    {
        copy.uc_mcontext.gregs[libc::REG_RIP as usize] = place;
    }
    #[cfg(target_arch = "aarch64")]
    {
        copy.uc_mcontext.pc = place.cast_unsigned();
    }
    handler(signal, info, (&raw mut copy).cast());
}

/// Where the code of this program lies.
fn code() -> Range<u64> {
    let program = std::env::current_exe().expect("Linux");
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux");
    let line = maps
        .lines()
        .find(|line| line.contains(" r-xp ") && line.ends_with(&*program.to_string_lossy()))
        .expect("a program has code");
    let (start, end) = line.split(' ').next().and_then(|at| at.split_once('-')).expect("a range");
    let number = |text| u64::from_str_radix(text, 16).expect("a number");
    number(start)..number(end)
}

/// Captures CPU time at addresses evenly spread over the program, each a little behind those of the
/// turn before; returns what it took to make the profile.
fn profile(handler: Handler, turn: u64, view: View) -> (Took, Profile) {
    let code = code();
    let capture = Capture::start_with(Kind::Profile, Capture::MAX_RATE).expect("Linux");
    install(strike);
    for number in 0..ADDRESSES {
        let place = code.start + (code.end - code.start) / ADDRESSES * number + turn * 64;
        ELSEWHERE.store(place.cast_signed(), Ordering::Relaxed);
        // So much that a sample is due.
        let until = thread_cpu() + 1e9 / f64::from(Capture::MAX_RATE);
        while thread_cpu() < until {}
        send();
    }
    install(handler);
    forget_peak();
    Took::of(|| capture.finish_with(view))
}

fn main() {
    profiler_core::start(Config::default()).expect("the first start");
    let handler = profilers();
    HANDLER.get_or_init(|| handler);
    let size = fs::metadata(std::env::current_exe().expect("Linux")).expect("a file").len();
    println!("\n## {ADDRESSES} addresses, program of {:.1} MB\n", size as f64 / 1e6);
    println!(
        "| names | ms, elapsed | CPU | peak, MiB more | then, MiB more | after `malloc_trim` | frames with a name | budget |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---|");
    let budget = "100 ms; given back";
    for (name, turn, symbols, budget) in [
        ("none", 0, Symbols::None, ""),
        ("symbol table, first", 0, Symbols::SymbolTable, ""),
        ("symbol table, known", 0, Symbols::SymbolTable, ""),
        ("debug information, first", 0, Symbols::Dwarf, budget),
        ("debug information, known", 0, Symbols::Dwarf, ""),
        ("debug information, others", 1, Symbols::Dwarf, budget),
        ("debug information, others again", 2, Symbols::Dwarf, budget),
    ] {
        let before = mib("VmRSS");
        let (took, profile) = profile(handler, turn, default_view().symbols(symbols));
        let peak = mib("VmHWM") - before;
        let leaves = profile.samples().filter_map(|sample| sample.frames().next());
        let named = leaves.filter(|frame| frame.function.is_some()).count();
        drop(profile);
        let after = mib("VmRSS") - before;
        release_memory();
        println!(
            "| {name} | {:.1} | {:.1} | {peak:+.1} | {after:+.1} | {:+.1} | {named} | {budget} |",
            took.elapsed,
            took.caller,
            mib("VmRSS") - before,
        );
    }
}
