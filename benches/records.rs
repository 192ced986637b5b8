//! What one record costs, all of it, 30 frames deep: two clock readings, the walk, the row.

use std::hint::black_box;

use corosensei::ScopedCoroutine;
use profiler_benches::{Case, compare, down};
use profiler_core::{Config, Rates, wait, with_labels};

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
    let route = || ["/checkout", "/stock", "/prices"].map(|route| [("route", route)]);
    let labelled = move |n| {
        let routes = black_box(route());
        for round in 0..n {
            with_labels(routes[round as usize % routes.len()], || black_box(()));
        }
    };
    compare(
        "`with_labels`, of a set that the thread has used before",
        &mut [
            Case::new("nothing", |n| (0..n).for_each(|_| black_box(()))),
            Case::new("one pair", labelled).budget("60 ns"),
            Case::new("two pairs", |n| {
                let pairs = black_box([("route", "/checkout"), ("tenant", "blue")]);
                (0..n).for_each(|_| with_labels(pairs, || black_box(())));
            })
            .budget("60 ns"),
            Case::new("one pair, while three threads do the same", move |n| {
                std::thread::scope(|scope| {
                    for _ in 0..3 {
                        scope.spawn(|| labelled(n));
                    }
                    labelled(n);
                });
            }),
        ],
    );
}
