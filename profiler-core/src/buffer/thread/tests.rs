use super::*;

/// For those that count blocks.
#[cfg(profiler_native)]
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

// Where the end of a thread cannot be known, no block is ever free.
#[cfg(profiler_native)]
#[test]
fn the_block_of_a_thread_that_is_gone_goes_to_the_next() {
    let _turn = TURN.lock();
    let first = std::thread::spawn(|| join(128).map(Thread::number)).join().expect("no panic");
    assert!(first.is_some());
    let blocks = all().count();
    for _ in 0..8 {
        std::thread::spawn(|| join(128).map(Thread::number)).join().expect("no panic");
    }
    // Other tests of this process may join meanwhile, but not eight.
    assert!(all().count() < blocks + 8);
}

#[cfg(profiler_native)]
#[test]
fn what_threads_left_behind_is_set_aside_before_more_is_made() {
    const THREADS: u32 = 8;
    let _turn = TURN.lock();
    let together = std::sync::Barrier::new(THREADS as usize);
    let gone = std::thread::scope(|scope| {
        let threads = [(); THREADS as usize].map(|()| {
            scope.spawn(|| {
                assert!(join(128).is_some());
                together.wait();
                sys::thread_id()
            })
        });
        threads.map(|thread| thread.join().expect("no panic"))
    });
    // The kernel takes a thread off its list a moment after it has told those who join it.
    while gone.iter().any(|thread| sys::is_thread_alive(*thread)) {
        std::thread::yield_now();
    }
    let of_nobody = || all().filter(|thread| thread.owner_id() == NOBODY).count();
    let (blocks, spare) = (all().count(), of_nobody());
    // Numbers that no thread has.
    let strangers: Vec<u32> = (NOBODY - spare as u32 - THREADS..NOBODY).collect();
    prepare_for_signals(&strangers, 128);
    assert!(of_nobody() >= spare + THREADS as usize);
    // Other tests of this process may join meanwhile, but not eight.
    assert!(all().count() < blocks + THREADS as usize);
}

#[test]
fn only_one_frame_of_a_thread_writes() {
    let thread = join(128).expect("memory");
    let writer = thread.write().expect("free");
    assert!(thread.write().is_none());
    drop(writer);
    assert!(thread.write().is_some());
}
