//! Nothing is taken from the prelude, nor from names around.

#![deny(warnings)]
#![no_implicit_prelude]

mod core {}
mod std {}
mod profiler_core {}

#[allow(dead_code)]
struct Option;
#[allow(dead_code)]
struct Box;

#[::profiler_core::profiled]
fn plain() -> u8 {
    1
}

#[::profiler_core::profiled(labels(key = "value"))]
async fn later() -> ::core::result::Result<u8, u8> {
    ::core::result::Result::Ok(plain())
}

#[::profiler_core::profiled]
async fn never() -> ! {
    loop {
        ::core::future::pending::<()>().await;
    }
}

#[::profiler_core::profiled]
fn boxed() -> ::core::pin::Pin<::std::boxed::Box<dyn ::core::future::Future<Output = u8>>> {
    ::std::boxed::Box::pin(async { 1 })
}

fn main() {
    ::core::mem::drop((later(), never(), boxed()));
}
