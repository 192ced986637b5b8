//! The compiler says about an annotated function what it says about any other.

#![deny(warnings)]

use profiler_core::profiled;

#[profiled]
pub fn unused_variable(argument: u8) {
    let variable = 1;
}

#[profiled]
pub async fn unused_variable_later(argument: u8) {
    let variable = 1;
}

#[profiled]
pub fn unreachable() -> u8 {
    return 1;
    2
}

#[profiled]
pub async fn unreachable_later() -> u8 {
    return 1;
    2
}

#[profiled]
pub fn unused_result() -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    "".len();
    Box::pin(async move {
        "".len();
    })
}

#[profiled]
pub fn no_need_for_mut(mut argument: u8) -> u8 {
    argument
}

fn main() {}
