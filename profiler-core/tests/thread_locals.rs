//! What runs in destructors of thread-locals is recorded too, in whatever order they run.

use std::cell::RefCell;

use profiler_core::{Config, Kind, Rates, profiled, snapshot, wait, with_labels};

struct Late(&'static str);

impl Drop for Late {
    fn drop(&mut self) {
        destructor();
        wait(self.0, || ());
    }
}

#[profiled]
fn destructor() {}

thread_local! {
    static FIRST: RefCell<Option<Late>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<Late>> = const { RefCell::new(None) };
}

#[test]
fn nothing_is_lost_in_destructors_before_and_after_ours() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    for joins_first in [true, false] {
        for _ in 0..50 {
            std::thread::spawn(move || {
                // One is registered before the thread joins the profiler, the other after.
                FIRST.with(|late| *late.borrow_mut() = Some(Late("first")));
                if joins_first {
                    with_labels([("joined", "yes")], destructor);
                }
                SECOND.with(|late| *late.borrow_mut() = Some(Late("second")));
            })
            .join()
            .expect("no panic");
        }
    }
    let block = snapshot(Kind::Block).expect("available");
    for name in ["first", "second"] {
        let of_name = block.samples().filter(|sample| sample.label("kind") == Some(name));
        assert_eq!(of_name.map(|sample| sample.values()[0]).sum::<i64>(), 100, "{name}");
    }
    let spans = snapshot(Kind::Spans).expect("available");
    assert_eq!(spans.totals()[0], 250);
}
