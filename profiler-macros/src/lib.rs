//! The `#[profiled]` attribute; use it through `profiler_core::profiled`.
//!
//! The attribute only emits calls. What they do lives in `profiler_core`, so a change there needs
//! no new expansion, and an annotated function stays small: one call when it starts and one when
//! it ends. Three steps, a file each: read the options (`args`), read the annotated item and
//! refuse what cannot be measured (`item`), write the calls (`expand`, and `tail` for futures that a
//! function returns).

mod args;
mod expand;
mod item;
mod tail;

use proc_macro::TokenStream;

/// Puts a function on the span stack while it runs: its name shows in span paths, its calls are
/// counted, and the time it makes others wait is charged to it.
///
/// It goes on free functions, methods, methods of trait impls and default methods of traits, be
/// they generic, `unsafe`, `extern` or `async`, and on whole `impl` blocks.
///
/// ```
/// use profiler_core::profiled;
///
/// #[profiled]
/// fn total(prices: &[u64]) -> u64 {
///     prices.iter().sum()
/// }
///
/// struct Cart(Vec<u64>);
///
/// #[profiled]
/// impl Cart {
///     async fn checkout(&self) -> Result<u64, std::num::TryFromIntError> {
///         let count = u64::try_from(self.0.len())?;
///         Ok(total(&self.0) + count)
///     }
///
///     #[profiled(skip)]
///     fn len(&self) -> usize {
///         self.0.len()
///     }
/// }
///
/// let cart = Cart(vec![1, 2]);
/// assert_eq!((total(&cart.0), cart.len()), (3, 2));
/// # drop(cart.checkout());
/// ```
///
/// # Options
///
/// | option | effect |
/// |---|---|
/// | `name = "…"` | the name in profiles, instead of the function's path |
/// | `labels(key = expression, …)` | labels that hold while the body runs; a value is what `Display` shows of an expression, which may use the arguments |
/// | `skip` | leaves this method of an annotated `impl` block alone |
/// | `crate = path` | where `profiler_core` is found, if not at `::profiler_core` |
///
/// An `impl` block takes `crate` only; its methods take all four.
///
/// ```
/// use profiler_core::profiled;
///
/// struct Order {
///     warehouse: String,
/// }
///
/// #[profiled(name = "reserve stock", labels(warehouse = order.warehouse))]
/// fn reserve(order: &Order) -> bool {
///     !order.warehouse.is_empty()
/// }
///
/// assert!(reserve(&Order { warehouse: "north".to_owned() }));
/// ```
///
/// The expressions are evaluated at the call, once, before the body, and made into text only while
/// the profiler is on. For an `async fn` that is its first poll: nothing of it runs earlier.
///
/// # What it expands to, roughly
///
/// A function becomes
///
/// ```
/// # use profiler_core::__private as profiler;
/// fn total(prices: &[u64]) -> u64 {
///     let _entered = profiler::enter({
///         fn name() -> &'static str {
///             core::any::type_name_of_val(&name)
///         }
///         static SITE: profiler::CallSite =
///             profiler::CallSite::new(profiler::Name::Enclosing(name), file!(), line!());
///         &SITE
///     });
///     match () {
///         () => prices.iter().sum(),
///     }
/// }
/// # assert_eq!(total(&[1, 2]), 3);
/// ```
///
/// so that `?`, an early return and a panic leave the stack as they found it. The `match` drops the
/// temporaries of the last expression, a lock guard for example, while the function is still on
/// the stack. Arguments that the body does not consume are dropped after it has left.
///
/// An `async fn` is on the stack while it is polled and not between polls. No guard lives across
/// an `.await`; the body becomes
///
/// ```
/// # use profiler_core::__private as profiler;
/// # static SITE: profiler::CallSite =
/// #     profiler::CallSite::new(profiler::Name::Literal("total"), file!(), line!());
/// async fn total(prices: &[u64]) -> u64 {
///     profiler::future(&SITE, async move { prices.iter().sum() }).await
/// }
/// # drop(total(&[]));
/// ```
///
/// A function that is not `async` but ends in `async move { … }` or `Box::pin(async move { … })`,
/// which is what `#[async_trait]` makes, is measured in the same way: each such block is wrapped
/// where it stands, and the statements before it run as they did. A function that returns a
/// future made elsewhere is measured while it makes that future.
///
/// # Together with `#[instrument]`
///
/// Both attributes on one function, in either order, give one frame, with the layer installed or
/// not. `#[profiled]` lets `#[instrument]` go first, finds the span that it made and notes the line
/// of that span in the call site; the layer does not push a span whose file and line are those of
/// the innermost call site.
///
/// # Refused
///
/// `const fn`, since it may run in the compiler (inside an annotated block it is left alone);
/// methods without a body; everything that is neither a function nor an `impl` block. The item is
/// emitted all the same, so that one mistake gives one error.
#[proc_macro_attribute]
pub fn profiled(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::profiled(options.into(), item.into()).into()
}

/// What [`macro@profiled`] leaves on a function whose other attributes must expand first.
///
/// On the methods of an annotated block it also says that they are in one. Not for direct use.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn profiled_last(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::profiled_last(options.into(), item.into()).into()
}

/// Edition 2021 drops the temporaries of a function's last expression after its locals; they must
/// be gone before the frame all the same.
///
/// ```edition2021
/// use std::cell::RefCell;
///
/// use profiler_core::profiled;
///
/// thread_local!(static LOG: RefCell<Vec<&'static str>> = RefCell::default());
///
/// struct Logged(&'static str);
///
/// impl Logged {
///     fn value(&self) -> Result<usize, std::num::ParseIntError> {
///         Ok(self.0.len())
///     }
/// }
///
/// impl Drop for Logged {
///     fn drop(&mut self) {
///         LOG.with(|log| log.borrow_mut().push(self.0));
///     }
/// }
///
/// mod runtime {
///     pub mod __private {
///         pub use profiler_core::__private::{output, CallSite, Name};
///         use crate::Logged;
///         use std::future::Future;
///
///         pub fn enter(_: &'static CallSite) -> impl Drop {
///             Logged("frame")
///         }
///
///         pub async fn future<F: Future>(site: &'static CallSite, future: F) -> F::Output {
///             let _entered = enter(site);
///             future.await
///         }
///     }
/// }
///
/// #[profiled(crate = runtime)]
/// fn sync() -> Result<usize, std::num::ParseIntError> {
///     let _local = Logged("local");
///     Logged("temporary").value()
/// }
///
/// #[profiled(crate = runtime)]
/// async fn later() -> Result<usize, Box<dyn std::error::Error>> {
///     let _local = Logged("local");
///     Ok(Logged("temporary").value()?)
/// }
///
/// #[profiled(crate = runtime)]
/// async fn never() -> ! {
///     loop {
///         std::future::pending::<()>().await
///     }
/// }
///
/// #[profiled(crate = runtime)]
/// async unsafe fn dangerous(pointer: *const u8) -> u8 {
///     *pointer
/// }
///
/// fn main() {
///     assert_eq!(sync(), Ok(9));
///     assert_eq!(LOG.with(|log| log.take()), ["local", "temporary", "frame"]);
///
///     let mut future = Box::pin(later());
///     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
///     assert!(std::future::Future::poll(future.as_mut(), &mut context).is_ready());
///     assert_eq!(LOG.with(|log| log.take()), ["local", "temporary", "frame"]);
///
///     drop((never(), unsafe { dangerous(&1) }));
/// }
/// ```
#[cfg(doctest)]
struct Edition2021;
