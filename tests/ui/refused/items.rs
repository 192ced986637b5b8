use profiler_core::profiled;

#[profiled]
/// With a line between.
pub(crate) struct Struct;

#[profiled]
enum Enum {
    Variant,
}

#[profiled]
union Union {
    byte: u8,
}

#[profiled]
trait Trait {
    fn default_method(&self) {}
}

#[profiled]
mod module {
    pub fn function() {}
}

#[profiled]
const CONST: u8 = 1;

#[profiled]
static STATIC: u8 = 1;

#[profiled]
type Alias = u8;

#[profiled]
use std::mem::drop as imported;

#[profiled]
extern crate core;

#[profiled]
unsafe extern "C" {
    fn abs(n: i32) -> i32;
}

#[profiled]
macro_rules! rules {
    () => {};
}

#[profiled(crate = profiler_core)]
thread_local! {
    static LOCAL: u8 = const { 1 };
}

impl Trait for Struct {}

// The items are there all the same.
fn main() {
    let _ = (Struct, Enum::Variant, Union { byte: 1 }, CONST, STATIC, 1 as Alias);
    Struct.default_method();
    module::function();
    imported(1);
    core::hint::black_box(1);
    let _ = unsafe { abs(1) };
    rules!();
    LOCAL.with(|_| ());
}
