//! The names in profiles.

use std::cell::RefCell;

use profiler_core::__private::CallSite;
use profiler_core::profiled;

thread_local! {
    static ENTERED: RefCell<Vec<&'static CallSite>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the call sites.
pub(crate) mod __private {
    pub(crate) use profiler_core::__private::{CallSite, Name, output, profiled_last};

    pub(crate) fn enter(site: &'static CallSite) {
        super::ENTERED.with_borrow_mut(|entered| entered.push(site));
    }

    pub(crate) async fn future<F: Future>(site: &'static CallSite, future: F) -> F::Output {
        let () = enter(site);
        future.await
    }
}

/// Where the types are.
mod shop {
    use super::profiled;

    pub(crate) struct Cart;
    pub(crate) struct Shelf<'a, T, const N: usize>(pub &'a [T; N]);

    pub(crate) trait Priced {
        fn price(&self) {}
        #[profiled(crate = super)]
        fn doubled(&self) {}
    }

    #[profiled(crate = super)]
    impl Cart {
        pub(crate) fn add() {}
        pub(crate) fn swap<T>(_with: T) {}
        pub(crate) async fn checkout() {}
    }

    #[profiled(crate = super)]
    impl<T: Copy, const N: usize> Shelf<'_, T, N> {
        pub(crate) fn first(&self) -> Option<T> {
            self.0.first().copied()
        }
    }

    #[profiled(crate = super)]
    impl Priced for Cart {
        fn price(&self) {}
    }

    #[profiled(crate = super)]
    impl<T, const N: usize> Priced for Shelf<'_, T, N> {
        fn price(&self) {}
    }
}

/// Where some of their impls are.
mod sale {
    use super::profiled;
    use super::shop::{Cart, Priced};

    #[profiled(crate = super)]
    impl Cart {
        pub(crate) fn discount() {}
    }

    #[profiled(crate = super)]
    impl Priced for [u8] {
        fn price(&self) {}
    }

    #[profiled(crate = super)]
    pub(crate) fn open() {}

    #[profiled(crate = super)]
    pub(crate) extern "C" fn called_from_c() {}

    #[profiled(crate = super, name = "any text: ü")]
    pub(crate) fn named() {}
}

use shop::{Cart, Priced, Shelf};

#[track_caller]
fn check(code: impl FnOnce(), expected: &str) {
    ENTERED.take();
    code();
    let names: Vec<_> = ENTERED.take().into_iter().map(CallSite::name).collect();
    assert_eq!(names, [expected]);
}

#[test]
fn names_read_like_paths() {
    check(sale::open, "attribute::name::sale::open");
    check(|| sale::called_from_c(), "attribute::name::sale::called_from_c");
    check(sale::named, "any text: ü");
    check(Cart::add, "attribute::name::shop::Cart::add");
    check(|| Cart::swap(1), "attribute::name::shop::Cart::swap");
    check(|| super::runtime::block_on(Cart::checkout()), "attribute::name::shop::Cart::checkout");
    check(Cart::discount, "attribute::name::shop::Cart::discount");
}

#[test]
fn names_of_generic_impls_tell_what_is_fixed() {
    check(|| _ = Shelf(&[1]).first(), "attribute::name::shop::Shelf<'_, _, N>::first");
}

#[test]
fn names_of_trait_methods_tell_type_and_trait() {
    let cart = "<attribute::name::shop::Cart as attribute::name::shop::Priced>::price";
    check(|| Cart.price(), cart);
    check(|| [1].price(), "<[u8] as attribute::name::shop::Priced>::price");
    check(
        || Shelf(&[1]).price(),
        "<attribute::name::shop::Shelf<'_, _, N> as attribute::name::shop::Priced>::price",
    );
    check(|| Cart.doubled(), "attribute::name::shop::Priced::doubled");
}

#[test]
fn a_function_in_a_future_is_named_by_functions_only() {
    async fn outer() {
        #[profiled(crate = self)]
        fn inner() {}
        inner();
    }
    check(
        || super::runtime::block_on(outer()),
        "attribute::name::a_function_in_a_future_is_named_by_functions_only::outer::inner",
    );
}

#[test]
fn the_place_is_that_of_the_function() {
    struct Here;
    let line = line!() + 4;
    #[profiled(crate = self)]
    impl Here {
        /// With a line before it.
        fn here() {}
    }
    ENTERED.take();
    Here::here();
    let entered = ENTERED.take();
    assert_eq!((entered[0].file(), entered[0].line()), (file!(), line));
}

#[test]
fn all_instances_of_a_generic_function_are_one_place() {
    #[profiled(crate = self)]
    fn generic<T>(_value: T) {}
    ENTERED.take();
    generic(1_u8);
    generic("");
    let entered = ENTERED.take();
    assert_eq!(entered[0], entered[1]);
}
