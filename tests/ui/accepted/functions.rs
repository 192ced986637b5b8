//! Every kind of function.

#![deny(warnings)]

use profiler_core::profiled;

#[profiled]
fn free() {}

#[profiled()]
fn parentheses(_: u8) -> u8 {
    1
}

#[profiled]
pub(crate) unsafe fn dangerous() {}

#[profiled]
extern "C" fn called_from_c(n: u32) -> u32 {
    n
}

#[profiled]
#[unsafe(no_mangle)]
unsafe extern "C" fn exported_to_c() {}

#[profiled]
fn generic<'a, T: Clone, const N: usize>(values: &'a [T; N]) -> impl Iterator<Item = T> + 'a
where
    T: 'a,
{
    values.iter().cloned()
}

#[profiled]
#[track_caller]
#[inline(always)]
#[must_use]
fn attributes() -> &'static std::panic::Location<'static> {
    #![allow(unused_variables)]
    let unused = 1;
    std::panic::Location::caller()
}

#[profiled]
fn diverges() -> ! {
    std::process::exit(0)
}

#[profiled]
fn question_mark(text: &str) -> Option<u8> {
    let first = text.bytes().next()?;
    if first == 0 {
        return None;
    }
    Some(first)
}

#[profiled]
fn returns_a_closure(n: u8) -> impl Fn(u8) -> u8 {
    move |m| n + m
}

#[profiled]
fn returns_an_async_closure() -> impl AsyncFn() -> u8 {
    async || 1
}

#[profiled]
fn main() {
    free();
    parentheses(1);
    // SAFETY: it is not.
    unsafe { dangerous() };
    called_from_c(1);
    // SAFETY: it is not dangerous.
    unsafe { exported_to_c() };
    generic(&[1]).count();
    assert_eq!(attributes().line(), line!());
    question_mark("a");
    returns_a_closure(1)(2);
    drop(returns_an_async_closure());
    diverges();
}
