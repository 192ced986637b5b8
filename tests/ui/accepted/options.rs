//! Every option.

#![deny(warnings)]

use profiler_core::{self as renamed, profiled};

mod inner {
    pub(crate) use profiler_core as profiler;
}

struct Order {
    id: u64,
    shop: String,
}

#[profiled(name = "any name")]
fn named() {}

#[profiled(crate = renamed)]
fn elsewhere() {}

#[profiled(crate = crate::inner::profiler, labels(shop = "north"), name = "all",)]
fn all() {}

#[profiled(labels(id = order.id, shop = order.shop, r#type = format!("{}", 1), sum = order.id + 1,))]
fn labelled(order: &Order) {
    let _ = order;
}

#[profiled(labels(shop = order.shop))]
async fn later(order: Order) -> String {
    order.shop
}

#[profiled(crate = renamed)]
impl Order {
    #[profiled(labels(shop = self.shop))]
    fn labelled(&self) {}

    #[profiled(crate = inner::profiler)]
    fn elsewhere(&self) {}
}

fn main() {
    named();
    elsewhere();
    all();
    let order = Order { id: 1, shop: "north".to_owned() };
    labelled(&order);
    order.labelled();
    order.elsewhere();
    drop(later(order));
}
