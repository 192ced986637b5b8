//! Mistakes in a user's body are reported where it stands.

use profiler_core::profiled;

struct NoDisplay;

#[profiled]
fn wrong_tail() -> u8 {
    "text"
}

#[profiled]
fn no_tail() -> u8 {
    let _ = 1;
}

#[profiled]
async fn wrong_tail_later() -> u8 {
    "text"
}

#[profiled]
async fn wrong_question_mark() -> Option<u8> {
    let value = Err::<u8, u8>(1)?;
    Some(value)
}

#[profiled(labels(value = NoDisplay))]
fn wrong_label() {}

#[profiled(labels(value = missing))]
async fn missing_label() {}

#[profiled]
fn wrong_boxed() -> std::pin::Pin<Box<dyn Future<Output = u8>>> {
    Box::pin(async move { "text" })
}

#[profiled(crate = nowhere)]
fn wrong_crate() {}

fn main() {}
