//! What reading costs: 10,000 stacks of 30 frames, and five kinds again and again.

use std::hint::black_box;

use profiler_benches::down;
use profiler_benches::process::{Took, forget_peak, mib};
use profiler_core::{Config, Kind, Rates, Symbols, default_view, snapshot_with, wait};

const STACKS: u32 = 10_000;
const ROUNDS: usize = 15;
/// What this program can give without a capture and without an allocator of the profiler's.
const KINDS: [Kind; 5] =
    [Kind::Block, Kind::Goroutine, Kind::Mutex, Kind::Spans, Kind::Threadcreate];

fn record(way: u32) {
    down(30, way, &mut || wait("thing", || ()));
}

/// CPU time of this thread: what others run meanwhile does not count.
fn milliseconds(mut body: impl FnMut()) -> f64 {
    let mut figures: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (took, ()) = Took::of(&mut body);
            took.caller
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    figures[ROUNDS / 2]
}

fn scrape(symbols: Symbols) -> usize {
    let mut bytes = Vec::new();
    for kind in KINDS {
        let profile = snapshot_with(kind, default_view().symbols(symbols)).expect("available");
        profile.write_to(&mut bytes).expect("memory takes all");
    }
    bytes.len()
}

fn main() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    // A working service has some hundreds of stacks.
    (0..300).for_each(record);
    let (Took { caller: first, .. }, _) = Took::of(|| scrape(Symbols::Dwarf));
    let resident = mib("VmRSS");
    forget_peak();
    let each = milliseconds(|| {
        black_box(scrape(Symbols::Dwarf));
    });
    let peak = mib("VmHWM") - resident;
    println!("\n## Five kinds, 300 stacks, with names\n");
    println!("| scrape | figure | budget |\n|---|---:|---|");
    println!("| first | {first:.1} ms | – |");
    println!("| each further one | {each:.2} ms | – |");
    println!("| of a core, every 10 s | {:.3} % | 0.5 % |", each / 10_000.0 * 100.0);
    println!("| peak memory above resident | {:.1} MiB | 8 MiB |", peak);

    (0..STACKS).for_each(record);
    let view = default_view().symbols(Symbols::None);
    let read = milliseconds(|| {
        black_box(snapshot_with(Kind::Block, view)).expect("available");
    });
    let profile = snapshot_with(Kind::Block, view).expect("available");
    let mut bytes = Vec::new();
    let write = milliseconds(|| {
        bytes.clear();
        profile.write_to(&mut bytes).expect("memory takes all");
    });
    println!("\n## {STACKS} stacks of 30 frames, without symbolization\n");
    println!("| stage | ms | budget |\n|---|---:|---|");
    println!("| merge and build | {read:.1} | |");
    println!("| encode and gzip ({} KiB) | {write:.1} | |", bytes.len() / 1024);
    println!("| together ({} samples) | {:.1} | 25 ms |", profile.len(), read + write);
}
