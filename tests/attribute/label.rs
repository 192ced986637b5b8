//! `labels(key = expression)`.

use super::check;
use super::runtime::{self, block_on, log, pause, profiled};

struct Order {
    warehouse: String,
}

#[profiled(crate = runtime)]
impl Order {
    #[profiled(labels(warehouse = self.warehouse))]
    fn work(&self) -> std::pin::Pin<Box<dyn Future<Output = usize> + '_>> {
        Box::pin(async move { self.warehouse.len() })
    }
}

#[test]
fn labels_hold_around_the_frame() {
    #[profiled(crate = runtime, labels(warehouse = order.warehouse, r#type = "small"))]
    fn work(order: &Order) -> usize {
        order.warehouse.len()
    }
    let order = Order { warehouse: "north".to_owned() };
    let calls = [
        "labels warehouse=north type=small",
        "enter work",
        "leave work",
        "without warehouse=north type=small",
    ];
    assert_eq!(check(|| work(&order), &calls), 5);
}

#[test]
fn values_are_computed_once_before_the_body() {
    fn computed(text: &str) -> String {
        log("computed");
        text.to_uppercase()
    }
    #[profiled(crate = runtime, labels(key = computed(&text)))]
    async fn work(text: String) -> String {
        pause().await;
        text
    }
    let calls = [
        "computed",
        "labels key=A",
        "enter work",
        "leave work",
        "without key=A",
        "labels key=A",
        "enter work",
        "leave work",
        "without key=A",
    ];
    assert_eq!(check(|| block_on(work("a".to_owned())), &calls), "a");
}

#[test]
fn a_method_of_a_block_and_a_boxed_future_have_labels() {
    let order = Order { warehouse: "south".to_owned() };
    let calls = ["labels warehouse=south", "enter work", "leave work", "without warehouse=south"];
    assert_eq!(check(|| block_on(order.work()), &calls), 5);
}
