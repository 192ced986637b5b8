use profiler_core::profiled;

#[profiled]
const fn constant() -> u8 {
    1
}

#[profiled(name = "pointer")]
pub const unsafe extern "C" fn constant_and_more() {}

#[profiled]
#[profiled(name = "again")]
fn twice() {}

trait Trait {
    #[profiled]
    fn without_a_body(&self);
}

struct Struct;

impl Trait for Struct {
    fn without_a_body(&self) {}
}

// The functions are there all the same.
const VALUE: u8 = constant();

fn main() {
    let _ = VALUE;
    unsafe { constant_and_more() };
    twice();
    Struct.without_a_body();
}
