//! A batch of threads that writes its own profiles: `cpu.pb.gz` and `heap.pb.gz`, in the folder that is named, else here.
//!
//! ```sh
//! cargo run --release --bin threads && go tool pprof -top cpu.pb.gz
//! ```

use std::alloc::System;
use std::error::Error;
use std::fs::File;
use std::path::PathBuf;

use profiler_core::{
    Capture, Config, Kind, Profile, ProfiledAllocator, profiled, snapshot, thread,
};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(PathBuf::new, PathBuf::from);
    profiler_core::start(Config::from_env()?)?;
    let capture = Capture::start(Kind::Profile)?;

    let workers: Vec<_> = (1..=4).map(|n| thread::spawn(move || primes(n * 500_000))).collect();
    let found: Vec<_> =
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect();

    write(&capture.finish(), folder.join("cpu.pb.gz"))?;
    write(&snapshot(Kind::Heap)?, folder.join("heap.pb.gz"))?;
    println!("found {} primes", found.iter().map(Vec::len).sum::<usize>());
    Ok(())
}

fn write(profile: &Profile, path: PathBuf) -> Result<(), Box<dyn Error>> {
    profile.write_to(File::create(&path)?)?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Returns the primes below a limit (the sieve of Eratosthenes).
#[profiled]
fn primes(limit: usize) -> Vec<usize> {
    let mut is_prime = vec![true; limit];
    for number in 2..limit {
        if is_prime[number] {
            (number * number..limit)
                .step_by(number)
                .for_each(|multiple| is_prime[multiple] = false);
        }
    }
    (2..limit).filter(|&number| is_prime[number]).collect()
}
