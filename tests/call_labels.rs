//! `#[profiled(labels(…))]` on the profiler itself: what is recorded in the body has the labels.

use std::cell::Cell;
use std::fmt::{Display, Formatter, Result};
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use profiler_core::{Config, Kind, Rates, profiled, snapshot, wait};

/// Counts how often it is made into text.
struct Shop(Cell<u32>);

impl Display for Shop {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        self.0.set(self.0.get() + 1);
        formatter.write_str("north")
    }
}

#[profiled(labels(shop = shop, order = order + 1))]
fn sync(shop: &Shop, order: u32) -> u32 {
    wait("inside", || order)
}

#[profiled(labels(shop = "south"))]
async fn later() {
    pause("inside").await;
}

#[profiled(labels(shop = "east"))]
fn boxed<'a>() -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(async move { pause("inside").await })
}

/// Waits, is pending once, and waits again.
async fn pause(kind: &'static str) {
    wait(kind, || ());
    let mut paused = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
    wait(kind, || ());
}

/// Returns after one poll.
fn poll(future: Pin<&mut (impl Future + ?Sized)>) -> bool {
    let ready = future.poll(&mut Context::from_waker(Waker::noop())).is_ready();
    wait("outside", || ());
    ready
}

/// Counts the waits of a kind by a label.
fn waits(kind: &str, label: &str, value: Option<&str>) -> i64 {
    let block = snapshot(Kind::Block).expect("available");
    let samples = block.samples().filter(|sample| sample.label("kind") == Some(kind));
    samples.filter(|sample| sample.label(label) == value).map(|sample| sample.values()[0]).sum()
}

#[test]
fn records_of_the_body_have_the_labels() {
    let shop = Shop(Cell::new(0));
    assert_eq!(sync(&shop, 1), 1);
    assert_eq!(shop.0.get(), 0, "made into text while the profiler was off");

    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    assert_eq!(sync(&shop, 1), 1);
    assert_eq!(shop.0.get(), 1);
    assert_eq!(waits("inside", "shop", Some("north")), 1);
    assert_eq!(waits("inside", "order", Some("2")), 1);

    let (mut south, mut east) = (pin!(later()), boxed());
    assert!(!poll(south.as_mut()) && !poll(east.as_mut()));
    assert!(poll(south.as_mut()) && poll(east.as_mut()));
    assert_eq!(waits("inside", "shop", Some("south")), 2);
    assert_eq!(waits("inside", "shop", Some("east")), 2);
    assert_eq!(waits("outside", "shop", None), 4, "labels stayed between polls");
}
