//! Methods, one by one and by the block.

#![deny(warnings)]

use profiler_core::profiled;

struct Cart<T>(T);

#[profiled]
impl<T> Cart<T> {
    const EMPTY: usize = 0;

    fn new(value: T) -> Self {
        Self(value)
    }

    fn value(&self) -> &T {
        &self.0
    }

    const fn len() -> usize {
        Self::EMPTY
    }

    #[profiled(skip)]
    const fn skipped_for_two_reasons() {}

    #[profiled(skip)]
    fn into_value(self) -> T {
        self.0
    }

    #[cfg_attr(all(), profiled(skip))]
    fn skipped_on_condition(&self) {}

    #[profiled(name = "changes the value")]
    fn change(&mut self, value: T) {
        self.0 = value;
    }

    #[profiled]
    fn annotated_all_the_same(&self) {}
}

impl<T> Cart<T> {
    #[profiled]
    fn one_by_one(&self) {}
}

trait Priced {
    fn price(&self) -> u8;

    #[profiled]
    fn double(&self) -> u8 {
        self.price() * 2
    }
}

#[profiled]
impl Priced for Cart<u8> {
    fn price(&self) -> u8 {
        self.0
    }
}

impl Priced for u8 {
    #[profiled]
    fn price(&self) -> u8 {
        *self
    }
}

#[profiled]
unsafe impl<T> Send for Cart<T> {}

fn main() {
    let mut cart = Cart::new(1);
    cart.change(*cart.value() + 1);
    cart.one_by_one();
    cart.annotated_all_the_same();
    cart.skipped_on_condition();
    Cart::<u8>::skipped_for_two_reasons();
    assert_eq!(cart.double() + 1_u8.double(), 6);
    assert_eq!(usize::from(cart.into_value()) + Cart::<u8>::len(), 2);
}
