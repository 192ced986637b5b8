//! What the profiler holds when nothing happens: for 100 threads of 10 stacks each, and for 10 GiB that
//! are alive.

#![allow(unsafe_code, reason = "an allocator is called by hand")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::Barrier;

use profiler_benches::addresses::Addresses;
use profiler_benches::down;
use profiler_benches::process::mib;
use profiler_core::{
    Config, Kind, ProfiledAllocator, Rates, count, memory, set_rates, stats, wait,
};

const THREADS: usize = 100;

static ADDRESSES: Addresses = Addresses::new();
/// Not the program's own: its blocks are addresses without memory.
static HEAP: ProfiledAllocator<&Addresses> = ProfiledAllocator::new(&ADDRESSES);
/// Stacks that hold 10 GiB together: as many as there are samples, so that nearly each has its row.
const STACKS: u32 = 20_480;
const BYTES_A_STACK: usize = (10 << 30) / STACKS as usize;

fn main() {
    threads();
    heap();
}

fn threads() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    let together = &Barrier::new(THREADS + 1);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(move || {
                together.wait();
                together.wait();
                (0..10).for_each(|way| down(30, way, &mut || wait("thing", || ())));
                together.wait();
                together.wait();
            });
        }
        together.wait();
        let before = mib("VmRSS");
        together.wait();
        together.wait();
        let after = mib("VmRSS");
        println!("\n## {THREADS} threads of 10 stacks of 30 frames\n");
        println!("| what | MiB | budget |\n|---|---:|---|");
        let held = stats().bytes as f64 / f64::from(1 << 20);
        println!("| held, by the profiler's own count | {held:.2} | 4 MiB |");
        println!("| resident memory, more than before | {:.2} | 4 MiB |", after - before);
        together.wait();
    });
}

/// Allocates 10 GiB at the default rate, in blocks of one size for each stack, from 16 B to 16 KiB.
fn heap() {
    set_rates(Rates::DEFAULT);
    ADDRESSES.reserve();
    let before = (mib("VmRSS"), stats().bytes);
    for stack in 0..STACKS {
        // Sizes whose logarithms are evenly spread.
        let size = 2_f64.powf(4.0 + 10.0 * f64::from(stack) / f64::from(STACKS)) as usize;
        down(30, stack, &mut || {
            let layout = Layout::from_size_align(size, 8).expect("a layout");
            for _ in 0..BYTES_A_STACK / size {
                // SAFETY: the size is not zero.
                black_box(unsafe { HEAP.alloc(layout) });
            }
        });
    }
    let held = (stats().bytes - before.1) as f64 / f64::from(1 << 20);
    let grown = mib("VmRSS") - before.0;
    let exact = memory().allocations.expect("there is an allocator");
    println!(
        "\n## {:.2} GiB alive in {} blocks of {STACKS} stacks of 30 frames, {} rows\n",
        exact.live_bytes() as f64 / f64::from(1 << 30),
        exact.live_objects(),
        count(Kind::Heap),
    );
    println!("| what | MiB | budget |\n|---|---:|---|");
    println!("| held, by the profiler's own count | {held:.2} | 16 MiB |");
    println!("| resident memory, more than before | {grown:.2} | 16 MiB |");
}
