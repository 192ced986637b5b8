//! What the shop says about itself: where the profiler listens, who holds the locks, and whose memory it is.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use profiler_core::{Kind, Profile, StackView, View, snapshot, snapshot_with};

use crate::load::{Load, per_second};
use crate::rounds;

const INTERVAL: Duration = Duration::from_secs(5);

/// How many lock holders are shown.
const MOST: usize = 3;

/// Says where the profiler is and what can be done there.
pub(crate) fn introduce(profiler: Option<String>) {
    let Some(profiler) = profiler else { return println!("profiler  off") };
    println!(
        "profiler  {profiler} (open it in a browser)\n\n  \
           who holds the locks     go tool pprof -top {profiler}mutex\n  \
           who waits for them      go tool pprof -top -tagfocus=kind=mutex {profiler}block\n  \
           what is alive, by span  go tool pprof -top '{profiler}heap?stack=logical'\n  \
           what every thread does  curl '{profiler}goroutine?debug=2'\n"
    );
}

/// Shows at each interval who held the locks in it, and who made what is alive, until the other end of
/// the channel is dropped.
pub(crate) fn every_interval(load: &Load, end: Receiver<()>) {
    let mut before = snapshot(Kind::Mutex).ok();
    let (mut requests, mut time) = (load.requests(), Instant::now());
    for _ in rounds(INTERVAL, end) {
        let rate = per_second(load.requests() - requests, time.elapsed());
        (requests, time) = (load.requests(), Instant::now());
        let seconds = INTERVAL.as_secs();
        println!(
            "the last {seconds} s: {rate} requests a second, the slowest order took {:.0?}",
            load.slowest_order()
        );

        let now = snapshot(Kind::Mutex).ok();
        if let (Some(before), Some(now)) = (&before, &now) {
            show_holders(&now.since(before));
        }
        before = now;

        // By span: functions of the shop, not of the libraries that allocate for them.
        let view = View::default().stack(StackView::Logical);
        if let Ok(heap) = snapshot_with(Kind::Heap, view) {
            show_largest(&heap);
        }
    }
}

fn show_holders(holders: &Profile) {
    let mut title = "others waited for";
    for holder in holders.top(MOST) {
        let seconds = Duration::from_nanos(holder.flat.unsigned_abs()).as_secs_f64();
        println!("  {title:17} {seconds:8.3} s  {}", holder.name);
        title = "";
    }
}

fn show_largest(heap: &Profile) {
    for maker in heap.top(1) {
        let mebibytes = maker.flat as f64 / f64::from(1 << 20);
        println!("  {:17} {mebibytes:8.1} MiB  {}", "alive, made by", maker.name);
    }
}
