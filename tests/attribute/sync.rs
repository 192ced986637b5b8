//! Functions that are not `async`.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::check;
use super::runtime::{self, log, profiled};

/// Says when it is dropped.
struct Noisy(&'static str);

impl Noisy {
    fn touch(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Noisy {
    fn drop(&mut self) {
        log(format!("drop {}", self.0));
    }
}

#[test]
fn the_frame_lasts_as_long_as_the_body() {
    #[profiled(crate = runtime)]
    fn outer() -> u32 {
        log("body");
        inner() + 1
    }
    #[profiled(crate = runtime)]
    fn inner() -> u32 {
        1
    }
    let calls = ["enter outer", "body", "enter inner", "leave inner", "leave outer"];
    assert_eq!(check(outer, &calls), 2);
}

#[test]
fn question_mark_and_early_return_leave() {
    #[profiled(crate = runtime)]
    fn parse(text: &str) -> Result<u32, Box<dyn std::error::Error>> {
        if text.is_empty() {
            return Ok(0);
        }
        Ok(text.parse::<u32>()?)
    }
    for text in ["", "7", "seven"] {
        let parsed = check(|| parse(text), &["enter parse", "leave parse"]);
        assert_eq!(
            parsed.ok(),
            [("", 0), ("7", 7)].into_iter().find(|it| it.0 == text).map(|it| it.1)
        );
    }
}

#[test]
fn a_panic_leaves() {
    #[profiled(crate = runtime)]
    fn fail() {
        std::panic::resume_unwind(Box::new("reason"));
    }
    let calls = ["enter fail", "leave fail"];
    assert!(check(|| catch_unwind(AssertUnwindSafe(fail)), &calls).is_err());
}

#[test]
fn locals_and_temporaries_are_dropped_inside() {
    #[profiled(crate = runtime)]
    fn work() -> usize {
        let _local = Noisy("local");
        Noisy("temporary").touch()
    }
    let calls = ["enter work", "drop temporary", "drop local", "leave work"];
    assert_eq!(check(work, &calls), 9);
}

#[test]
fn arguments_keep_their_patterns_and_borrows() {
    #[profiled(crate = runtime)]
    fn longest<'a>((left, right): (&'a str, &'a str), mut at_least: usize, _: ()) -> &'a str {
        at_least += 1;
        if left.len() > right.len().max(at_least) { left } else { right }
    }
    #[profiled(crate = runtime)]
    fn push(list: &mut Vec<u8>) -> &mut u8 {
        list.push(1);
        &mut list[0]
    }
    let calls = ["enter longest", "leave longest"];
    assert_eq!(check(|| longest(("long", "er"), 2, ()), &calls), "long");
    let mut list = Vec::new();
    *check(|| push(&mut list), &["enter push", "leave push"]) += 1;
    assert_eq!(list, [2]);
}

#[test]
fn the_return_type_guides_the_body() {
    #[profiled(crate = runtime)]
    fn shown() -> Box<dyn Display> {
        Box::new(7)
    }
    #[profiled(crate = runtime)]
    fn digits(n: u8) -> impl Iterator<Item = u8> + Clone {
        (0..n).filter(|digit| digit % 2 == 0)
    }
    #[profiled(crate = runtime)]
    fn pointer() -> fn(u8) -> u8 {
        |n| n + 1
    }
    #[profiled(crate = runtime)]
    fn collected() -> Vec<u8> {
        digits(5).collect()
    }
    #[profiled(crate = runtime)]
    fn diverges() -> ! {
        std::panic::resume_unwind(Box::new(()))
    }
    assert_eq!(shown().to_string(), "7");
    assert_eq!(pointer()(1), 2);
    assert_eq!(collected(), [0, 2, 4]);
    assert!(catch_unwind(|| diverges()).is_err());
}

#[test]
fn every_kind_of_function_is_accepted() {
    #[profiled(crate = runtime)]
    #[expect(unsafe_code, reason = "the form under test")]
    unsafe fn raw(pointer: *const u8) -> u8 {
        // SAFETY: the only caller passes a reference.
        unsafe { *pointer }
    }
    #[profiled(crate = runtime)]
    extern "C" fn callback(n: u32) -> u32 {
        n
    }
    #[profiled(crate = runtime)]
    fn generic<T, const N: usize>(values: [T; N]) -> u64
    where
        T: Copy + Into<u64>,
    {
        values.iter().map(|&value| value.into()).sum()
    }
    #[expect(unsafe_code, reason = "the form under test")]
    // SAFETY: a reference is valid.
    let byte = check(|| unsafe { raw(&3) }, &["enter raw", "leave raw"]);
    assert_eq!(byte, 3);
    assert_eq!(check(|| callback(4), &["enter callback", "leave callback"]), 4);
    assert_eq!(check(|| generic([1_u8, 2]), &["enter generic", "leave generic"]), 3);
}

#[test]
fn the_body_sees_no_name_of_ours() {
    const SITE: u8 = 1;
    fn name() -> u8 {
        2
    }
    #[profiled(crate = runtime, labels(one = "1"))]
    fn look() -> u8 {
        fn labels() -> u8 {
            4
        }
        let (site, _entered, _labels) = (8, 16, 32);
        SITE + name() + labels() + site + _entered + _labels
    }
    assert_eq!(look(), 63);
}

#[test]
fn a_block_profiles_each_method() {
    struct Cart(u32);

    #[profiled(crate = runtime)]
    impl Cart {
        const LIMIT: u32 = Self::limit();

        const fn limit() -> u32 {
            10
        }

        fn new() -> Self {
            Self(Self::LIMIT)
        }

        fn add(&mut self, n: u32) -> &mut Self {
            self.0 += n;
            self
        }

        #[profiled(skip)]
        fn count(&self) -> u32 {
            self.0
        }

        #[cfg_attr(all(), profiled(skip))]
        fn limit_is(&self) -> u32 {
            Self::limit()
        }

        #[profiled(skip)]
        const fn zero() -> u32 {
            0
        }

        #[profiled(name = "empty the cart")]
        fn clear(self) {}
    }

    let mut cart = check(Cart::new, &["enter new", "leave new"]);
    check(|| cart.add(1).add(2).0, &["enter add", "leave add", "enter add", "leave add"]);
    assert_eq!(check(|| (cart.count(), cart.limit_is(), Cart::zero()), &[]), (13, 10, 0));
    check(|| cart.clear(), &["enter empty the cart", "leave empty the cart"]);
}

#[test]
fn trait_methods_with_a_body_are_profiled() {
    trait Priced {
        fn net(&self) -> u32;
        #[profiled(crate = runtime)]
        fn gross(&self) -> u32 {
            self.net() * 2
        }
    }
    struct Cart;
    #[profiled(crate = runtime)]
    impl Priced for Cart {
        fn net(&self) -> u32 {
            1
        }
    }
    check(|| Cart.gross(), &["enter gross", "enter net", "leave net", "leave gross"]);
}

#[test]
fn a_macro_may_make_the_function() {
    macro_rules! make {
        ($name:ident, $argument:ident, $type:ty, $body:expr) => {
            #[profiled(crate = runtime)]
            fn $name($argument: $type) -> $type {
                let twice = $body * 2;
                twice
            }
        };
    }
    make!(double, n, u32, n + 1);
    assert_eq!(check(|| double(1), &["enter double", "leave double"]), 4);
}
