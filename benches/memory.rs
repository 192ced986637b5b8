//! What the profiler holds when nothing happens: 100 threads of 10 stacks each.

use std::sync::Barrier;

use profiler_benches::down;
use profiler_core::{Config, Rates, stats, wait};

const THREADS: usize = 100;

fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.expect("a number") * 4096.0 / f64::from(1 << 20)
}

fn main() {
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
        let before = resident();
        together.wait();
        together.wait();
        let after = resident();
        println!("\n## {THREADS} threads of 10 stacks of 30 frames\n");
        println!("| what | MiB | budget |\n|---|---:|---|");
        let held = stats().bytes as f64 / f64::from(1 << 20);
        println!("| held, by the profiler's own count | {held:.2} | 4 MiB |");
        println!("| resident memory, more than before | {:.2} | 4 MiB |", after - before);
        together.wait();
    });
}
