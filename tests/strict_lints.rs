//! Every form of `#[profiled]` in a crate that forbids what can be forbidden: the expansion must
//! not speak up, and must not need to be allowed anything.
//!
//! Compiling it is the test; it is run to see that the forms work on the profiler itself, too.

#![forbid(unsafe_code, unused, future_incompatible, nonstandard_style, let_underscore)]
#![forbid(
    missing_docs,
    missing_debug_implementations,
    missing_copy_implementations,
    trivial_casts,
    trivial_numeric_casts,
    unit_bindings,
    unreachable_pub,
    unused_import_braces,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    single_use_lifetimes,
    absolute_paths_not_starting_with_crate
)]
#![forbid(clippy::all, clippy::pedantic, clippy::nursery)]

use std::convert::Infallible;
use std::fmt::{Display, Write};
use std::pin::Pin;
use std::sync::Mutex;

use profiler_core::profiled;

/// A cart.
#[derive(Debug, Default)]
pub struct Cart {
    prices: Mutex<Vec<u64>>,
    owner: String,
}

/// Something with a price.
pub trait Priced {
    /// What it costs.
    fn price(&self) -> u64;

    /// What two cost.
    #[profiled]
    fn double(&self) -> u64 {
        self.price() * 2
    }
}

/// A free function that ends in a temporary.
#[profiled]
#[must_use]
pub fn count(cart: &Cart) -> usize {
    cart.prices.lock().map_or(0, |prices| prices.len())
}

/// Short.
#[profiled]
#[must_use]
#[rustfmt::skip]
pub fn short() -> u64 { 1 }

/// Nothing inside.
#[profiled]
pub fn empty() {}

/// Items ahead of statements.
#[profiled(name = "with items")]
#[must_use]
pub fn items() -> u64 {
    const ONE: u64 = 1;
    use std::cmp::max;
    max(ONE, 0)
}

/// Ends by a panic only.
///
/// # Panics
///
/// Always.
#[profiled]
pub fn diverges() -> ! {
    panic!("always")
}

/// Returns what no one can name.
#[profiled]
pub fn even(up_to: u64) -> impl Iterator<Item = u64> {
    (0..up_to).filter(|n| n % 2 == 0)
}

/// Has labels from its arguments.
#[profiled(labels(owner = cart.owner, next = count + 1, kind = "cart"))]
#[must_use]
pub fn labelled(cart: &Cart, count: u32) -> bool {
    cart.owner.len() > usize::try_from(count).unwrap_or_default()
}

/// Is C's.
#[profiled]
#[must_use]
pub extern "C" fn callback(value: u64) -> u64 {
    value
}

/// Is generic.
#[profiled]
#[must_use]
pub fn sum<T: Copy + Into<u64>, const N: usize>(values: &[T; N]) -> u64 {
    values.iter().map(|&value| value.into()).sum()
}

/// Is pending once.
#[profiled]
pub async fn pause() {
    let mut paused = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut paused, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Waits.
///
/// # Errors
///
/// When it cannot write.
#[profiled(name = "report", labels(owner = cart.owner))]
pub async fn report(
    cart: &Cart,
    (left, right): (u8, u8),
) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    write!(text, "{} {left} {right}", cart.owner)?;
    if text.is_empty() {
        return Ok(text);
    }
    pause().await;
    Ok(text)
}

/// Never ends.
#[profiled]
pub async fn serve() -> ! {
    loop {
        pause().await;
    }
}

/// Ends by an error only.
///
/// # Errors
///
/// Always.
#[profiled]
pub async fn fail() -> Result<Infallible, u8> {
    pause().await;
    Err(1)
}

/// Is not even pending.
///
/// # Panics
///
/// Always.
#[profiled]
pub async fn fail_at_once() -> u64 {
    pause().await;
    panic!("always")
}

/// Returns what no one can name, later.
#[profiled]
pub async fn shown(value: u64) -> impl Display {
    pause().await;
    value
}

/// Returns a future.
#[profiled]
pub fn later(value: u64) -> impl Future<Output = u64> {
    async move { value }
}

/// Returns a future in a box.
#[profiled(labels(value = value))]
#[must_use]
pub fn boxed(value: &u64) -> Pin<Box<dyn Future<Output = u64> + Send + '_>> {
    if *value == 0 {
        return Box::pin(std::future::ready(0));
    }
    Box::pin(async move { *value })
}

#[profiled]
impl Cart {
    /// The most of anything.
    #[must_use]
    pub const fn limit() -> u64 {
        100
    }

    /// Adds.
    pub fn add(&self, price: u64) {
        if let Ok(mut prices) = self.prices.lock() {
            prices.push(price);
        }
    }

    /// Whose it is.
    #[profiled(skip)]
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Gives it to someone.
    #[profiled(name = "give", labels(to = to))]
    #[must_use]
    pub fn give(mut self, to: &str) -> Self {
        to.clone_into(&mut self.owner);
        self
    }

    /// Pays.
    pub async fn pay(&self, price: u64) -> Option<u64> {
        pause().await;
        let most = *self.prices.lock().ok()?.iter().max()?;
        (price >= most).then_some(price)
    }
}

#[profiled]
impl Priced for Cart {
    fn price(&self) -> u64 {
        self.prices.lock().map_or(0, |prices| prices.iter().sum())
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

#[test]
fn every_form_works() {
    let cart = Cart::default().give("someone");
    cart.add(short());
    cart.add(items() + callback(1));
    empty();
    assert_eq!((count(&cart), cart.double(), cart.owner()), (2, 6, "someone"));
    assert_eq!((even(Cart::limit()).count(), sum(&[1_u8, 2])), (50, 3));
    assert!(labelled(&cart, 3));
    assert!(std::panic::catch_unwind(|| diverges()).is_err());

    assert_eq!(block_on(report(&cart, (1, 2))).ok().as_deref(), Some("someone 1 2"));
    assert_eq!(block_on(cart.pay(2)), Some(2));
    assert_eq!(block_on(fail()), Err(1));
    assert!(std::panic::catch_unwind(|| block_on(fail_at_once())).is_err());
    assert_eq!(block_on(shown(7)).to_string(), "7");
    assert_eq!((block_on(later(1)), block_on(boxed(&2)), block_on(boxed(&0))), (1, 2, 0));
    drop(serve());
}
