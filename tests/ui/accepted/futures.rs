//! Every kind of function that gives a future.

#![deny(warnings)]

use std::pin::Pin;

use profiler_core::profiled;

#[profiled]
async fn free(text: &str) -> Result<u8, std::num::ParseIntError> {
    text.parse()
}

#[profiled]
async unsafe fn dangerous() {}

#[profiled]
async fn two_borrows<'a>(left: &'a str, right: &str) -> &'a str {
    if right.is_empty() { "" } else { left }
}

#[profiled]
async fn opaque() -> Option<impl Iterator<Item = impl std::fmt::Display>> {
    Some([1].into_iter())
}

#[profiled]
async fn never_ends() -> ! {
    loop {
        std::future::pending::<()>().await;
    }
}

#[profiled]
async fn patterns((a, mut b): (u8, u8), [c, ..]: [u8; 2], _: u8) -> u8 {
    b += a;
    b + c
}

#[profiled]
fn block() -> impl Future<Output = u8> {
    let n = 1;
    async move { n }
}

#[profiled]
fn borrowing_block(n: &u8) -> impl Future<Output = u8> {
    async { *n }
}

#[profiled]
fn boxed<'a>(n: &'a u8) -> Pin<Box<dyn Future<Output = u8> + Send + 'a>> {
    Box::pin(async move { *n })
}

#[profiled]
fn recursive(n: u8) -> Pin<Box<dyn Future<Output = u8>>> {
    if n == 0 { Box::pin(async { 0 }) } else { Box::pin(async move { recursive(n - 1).await }) }
}

struct Cart(u8);

#[profiled]
impl Cart {
    async fn by_reference(&self) -> &u8 {
        &self.0
    }

    async fn by_value(mut self) -> u8 {
        self.0 += 1;
        self.0
    }
}

fn send<T: Send>(_: T) {}

fn main() {
    send(free(""));
    // SAFETY: it is not dangerous.
    send(unsafe { dangerous() });
    send(two_borrows("", ""));
    send(opaque());
    send(never_ends());
    send(patterns((1, 2), [3, 4], 5));
    send(block());
    send(borrowing_block(&1));
    send(boxed(&1));
    drop(recursive(1));
    send(Cart(1).by_reference());
    send(Cart(1).by_value());
}
