//! What the shop sells, how much of it there is, and what it should cost.

use std::collections::BTreeMap;

use profiler_core::parking_lot::Mutex;
use profiler_core::profiled;

use crate::prices::Prices;

pub(crate) type Sku = u32;
pub(crate) type Cents = u64;

/// The products have the numbers from 0 to this.
pub(crate) const PRODUCTS: Sku = 16_000;

/// Prices that are tried for each product, from its cost upwards in steps of one percent.
const MARGINS: u32 = 300;

/// A product of which fewer are left is ordered at the supplier's.
const FEW: u32 = 100;

pub(crate) struct Catalog {
    stock: Mutex<BTreeMap<Sku, Product>>,
    pub(crate) prices: Prices,
}

struct Product {
    left: u32,
    cost: Cents,
    /// Sold since the last change of prices.
    sold: u32,
    /// Sold between two changes of prices, on the average.
    demand: f64,
}

#[profiled]
impl Catalog {
    pub(crate) fn stocked() -> Self {
        let product =
            |sku| Product { left: FEW, cost: Cents::from(100 + sku), sold: 0, demand: 1.0 };
        let catalog = Self {
            stock: Mutex::named("stock", (0..PRODUCTS).map(|sku| (sku, product(sku))).collect()),
            prices: Prices::default(),
        };
        catalog.reprice_catalog();
        catalog
    }

    /// Takes products off the shelf, if there are enough of them.
    pub(crate) fn reserve(&self, sku: Sku, quantity: u32) -> bool {
        let mut stock = self.stock.lock();
        let Some(product) = stock.get_mut(&sku).filter(|product| product.left >= quantity) else {
            return false;
        };
        product.left -= quantity;
        product.sold += quantity;
        true
    }

    /// Fills up the shelves.
    pub(crate) fn restock(&self) {
        for product in self.stock.lock().values_mut().filter(|product| product.left < FEW) {
            product.left += 10 * FEW;
        }
    }

    /// Finds the best price for every product.
    ///
    /// All orders wait meanwhile, since it keeps the stock locked while it calculates. This is the
    /// mistake that the mutex profile finds.
    pub(crate) fn reprice_catalog(&self) {
        let mut stock = self.stock.lock();
        let prices = stock.iter_mut().map(|(&sku, product)| (sku, product.reprice())).collect();
        drop(stock);
        self.prices.publish(prices);
    }
}

impl Product {
    /// Returns the price that promises the largest profit, if demand falls off with the price.
    fn reprice(&mut self) -> Cents {
        self.demand = 0.9 * self.demand + 0.1 * f64::from(self.sold);
        self.sold = 0;
        let profit = |&percent: &u32| {
            let margin = f64::from(percent) / 100.0;
            margin * self.demand * (-2.0 * margin).exp()
        };
        let best = (1..=MARGINS).max_by(|a, b| profit(a).total_cmp(&profit(b)));
        self.cost + self.cost * Cents::from(best.unwrap_or(0)) / 100
    }
}
