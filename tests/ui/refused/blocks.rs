use profiler_core::profiled;

struct Cart(u8);

#[profiled(name = "cart")]
impl Cart {
    fn named(&self) {}
}

#[profiled(labels(value = self.0))]
impl Cart {
    fn labelled(&self) {}
}

#[profiled(skip)]
impl Cart {
    fn skipped(&self) {}

    #[profiled(skip)]
    fn skipped_after_an_error(&self) {}
}

#[profiled]
impl Cart {
    #[profiled(nmae = "typo")]
    fn unknown(&self) {}

    #[profiled]
    const fn constant(&self) -> u8 {
        self.0
    }

    #[profiled(skip)]
    #[profiled(skip)]
    fn skipped_twice(&self) {}
}

// The methods are there all the same.
fn main() {
    let cart = Cart(1);
    cart.named();
    cart.labelled();
    cart.skipped();
    cart.skipped_after_an_error();
    cart.unknown();
    cart.constant();
    cart.skipped_twice();
}
