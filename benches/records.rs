//! What one record costs, all of it, 30 frames deep: two clock readings, the walk, the row.

use std::hint::black_box;

use corosensei::ScopedCoroutine;
use profiler_benches::{Case, compare, down};
use profiler_core::{Config, Rates, wait};

fn deep(levels: u32, mut body: impl FnMut()) -> impl FnMut(u64) {
    move |n| down(levels, 0, &mut || (0..n).for_each(|_| body()))
}

/// The same on a stack that is not the thread's.
fn deep_on_another_stack(levels: u32, mut body: impl FnMut()) -> impl FnMut(u64) {
    move |n| {
        let mut body = || down(levels, 0, &mut || (0..n).for_each(|_| body()));
        ScopedCoroutine::<(), (), (), _>::new(|_, ()| body()).scope(|mut coroutine| {
            coroutine.as_mut().resume(());
        });
    }
}

fn main() {
    compare(
        "`wait` before the start",
        &mut [
            Case::new("nothing", deep(30, || black_box(()))),
            Case::new("`wait`", deep(30, || wait("thing", || ()))),
        ],
    );
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    compare(
        "One record of a wait, all of it",
        &mut [
            Case::new(
                "two readings of the system's clock",
                deep(30, || {
                    black_box(std::time::Instant::now());
                    black_box(std::time::Instant::now());
                }),
            ),
            Case::new("2 frames and main's", deep(0, || wait("thing", || ()))),
            Case::new("32 frames and main's", deep(30, || wait("thing", || ())))
                .budget("200 ns (450 without frame pointers)"),
            Case::new("102 frames and main's", deep(100, || wait("thing", || ()))),
            Case::new(
                "32 frames on a coroutine's stack",
                deep_on_another_stack(30, || wait("thing", || ())),
            ),
            Case::new(
                "102 frames on a coroutine's stack",
                deep_on_another_stack(100, || wait("thing", || ())),
            ),
        ],
    );
}
