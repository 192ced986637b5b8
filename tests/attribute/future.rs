//! Functions that give a future.

use std::convert::Infallible;
use std::fmt::Display;
use std::pin::Pin;

use super::check;
use super::runtime::{self, block_on, log, pause, profiled};

const ONE_POLL: [&str; 2] = ["enter work", "leave work"];
const TWO_POLLS: [&str; 4] = ["enter work", "leave work", "enter work", "leave work"];

#[test]
fn the_frame_stands_during_polls_only() {
    #[profiled(crate = runtime)]
    async fn work(n: &u32) -> u32 {
        pause().await;
        n + 1
    }
    let future = check(|| work(&1), &[]);
    assert_eq!(check(|| block_on(future), &TWO_POLLS), 2);
}

#[test]
fn nothing_but_polls_is_on_the_stack_when_dropped_midway() {
    #[profiled(crate = runtime)]
    async fn work() {
        pause().await;
    }
    check(
        || {
            let mut future = Box::pin(work());
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(future.as_mut().poll(&mut context).is_pending());
        },
        &ONE_POLL,
    );
}

#[test]
fn the_return_type_guides_the_body() {
    #[profiled(crate = runtime)]
    async fn work(text: &str) -> Result<Box<dyn Display>, Box<dyn std::error::Error>> {
        if text.is_empty() {
            return Ok(Box::new("empty"));
        }
        let number: u32 = text.parse()?;
        Ok(Box::new(number))
    }
    let run = |text| check(|| block_on(work(text)), &ONE_POLL).map(|shown| shown.to_string());
    assert_eq!(run("").ok().as_deref(), Some("empty"));
    assert_eq!(run("7").ok().as_deref(), Some("7"));
    assert!(run("seven").is_err());
}

#[test]
fn return_types_without_a_name_are_inferred() {
    #[profiled(crate = runtime)]
    async fn work(n: u8) -> Option<impl Iterator<Item = u8>> {
        Some((0..n).filter(|n| n % 2 == 0))
    }
    #[profiled(crate = runtime)]
    async fn plain() -> impl Display {
        7
    }
    let even = check(|| block_on(work(4)), &ONE_POLL);
    assert_eq!(even.into_iter().flatten().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(block_on(plain()).to_string(), "7");
}

#[test]
fn futures_that_never_end_are_accepted() {
    #[profiled(crate = runtime)]
    async fn work() -> ! {
        loop {
            pause().await;
        }
    }
    #[profiled(crate = runtime)]
    async fn served() -> Result<Infallible, u32> {
        pause().await;
        Err(1)
    }
    let mut future = std::pin::pin!(work());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    check(|| assert!(future.as_mut().poll(&mut context).is_pending()), &ONE_POLL);
    assert_eq!(block_on(served()), Err(1));
}

#[test]
fn arguments_keep_their_patterns_and_borrows() {
    struct Cart<'a>(&'a mut [u8]);
    #[profiled(crate = runtime)]
    impl<'a> Cart<'a> {
        #[profiled(name = "work")]
        async fn push<'b>(&'b mut self, (left, mut right): (u8, u8), _: ()) -> &'b mut u8 {
            right += 1;
            self.0[0] = left + right;
            &mut self.0[0]
        }

        async fn by_value(mut self: Box<Self>) -> &'a mut [u8] {
            self.0 = &mut self.0[..1];
            self.0
        }
    }
    let mut list = [0, 0];
    let mut cart = Cart(&mut list);
    *check(|| block_on(cart.push((1, 2), ())), &ONE_POLL) += 1;
    assert_eq!(*block_on(Box::new(cart).by_value()), [5]);
}

#[test]
fn the_future_stays_send() {
    #[profiled(crate = runtime)]
    async fn work(text: String) -> usize {
        pause().await;
        text.len()
    }
    fn send<F: Future + Send>(future: F) -> F {
        future
    }
    assert_eq!(block_on(send(work("four".to_owned()))), 4);
}

#[test]
fn unsafe_and_generic_futures_are_accepted() {
    #[profiled(crate = runtime)]
    #[expect(unsafe_code, reason = "the form under test")]
    async unsafe fn work<T: Copy, const N: usize>(values: *const [T; N]) -> [T; N] {
        // SAFETY: the only caller passes a reference.
        unsafe { *values }
    }
    #[expect(unsafe_code, reason = "the form under test")]
    // SAFETY: a reference is valid.
    let values = check(|| block_on(unsafe { work(&[1, 2]) }), &ONE_POLL);
    assert_eq!(values, [1, 2]);
}

#[test]
fn traits_with_async_methods_are_profiled() {
    trait Job {
        #[profiled(crate = runtime)]
        async fn work(&self) -> u32 {
            1
        }
        async fn done(&self) -> u32;
    }
    struct Print;
    #[profiled(crate = runtime)]
    impl Job for Print {
        async fn done(&self) -> u32 {
            self.work().await + 1
        }
    }
    let calls = ["enter done", "enter work", "leave work", "leave done"];
    assert_eq!(check(|| block_on(Print.done()), &calls), 2);
}

#[test]
fn a_returned_async_block_is_measured_and_nothing_before_it_is_lost() {
    #[profiled(crate = runtime)]
    fn work(n: u32) -> impl Future<Output = u32> {
        log("before");
        let n = n + 1;
        async move {
            pause().await;
            n
        }
    }
    let future = check(|| work(1), &["before"]);
    assert_eq!(check(|| block_on(future), &TWO_POLLS), 2);
}

#[test]
fn a_returned_box_is_measured_on_every_branch() {
    type Boxed<'a> = Pin<Box<dyn Future<Output = u32> + Send + 'a>>;

    #[profiled(crate = runtime)]
    fn work(n: &u32) -> Boxed<'_> {
        let early = *n == 0;
        if early {
            return Box::pin(std::future::ready(0));
        }
        match n {
            1 => Box::pin(async move { 1 }),
            2 => std::boxed::Box::pin(async { 2 }),
            3 => {
                log("three");
                Box::pin(async move { *n })
            }
            _ => Box::pin(std::future::ready(*n)),
        }
    }
    assert_eq!(check(|| block_on(work(&0)), &[]), 0);
    assert_eq!(check(|| block_on(work(&1)), &ONE_POLL), 1);
    assert_eq!(check(|| block_on(work(&2)), &ONE_POLL), 2);
    assert_eq!(check(|| block_on(work(&3)), &["three", "enter work", "leave work"]), 3);
    assert_eq!(check(|| block_on(work(&4)), &[]), 4);
}

#[test]
fn a_future_made_elsewhere_is_measured_while_made() {
    async fn elsewhere() {}
    #[profiled(crate = runtime)]
    fn work() -> impl Future<Output = ()> {
        let _inner = async {};
        elsewhere()
    }
    check(|| block_on(work()), &ONE_POLL);
}

#[test]
fn async_trait_is_measured_in_either_order() {
    #[async_trait::async_trait]
    trait Job: Sync {
        async fn work(&self, n: u32) -> Result<u32, Box<dyn std::error::Error>>;
        #[profiled(crate = runtime, name = "work")]
        async fn twice(&self) -> u32 {
            pause().await;
            2
        }
    }
    struct Inside;
    #[async_trait::async_trait]
    impl Job for Inside {
        #[profiled(crate = runtime)]
        async fn work(&self, n: u32) -> Result<u32, Box<dyn std::error::Error>> {
            pause().await;
            log("body");
            Ok(u32::try_from(u64::from(n))?)
        }
    }
    struct Above;
    #[profiled(crate = runtime)]
    #[async_trait::async_trait]
    impl Job for Above {
        async fn work(&self, n: u32) -> Result<u32, Box<dyn std::error::Error>> {
            pause().await;
            log("body");
            Ok(n)
        }
    }
    struct Below;
    #[async_trait::async_trait]
    #[profiled(crate = runtime)]
    impl Job for Below {
        async fn work(&self, n: u32) -> Result<u32, Box<dyn std::error::Error>> {
            pause().await;
            log("body");
            Ok(n)
        }
    }
    let calls = ["enter work", "leave work", "enter work", "body", "leave work"];
    for job in [&Inside as &dyn Job, &Above, &Below] {
        assert_eq!(check(|| block_on(job.work(7)), &calls).ok(), Some(7));
        assert_eq!(check(|| block_on(job.twice()), &TWO_POLLS), 2);
    }
}
