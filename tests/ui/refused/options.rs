use profiler_core::profiled;

#[profiled(nmae = "typo")]
fn unknown() {}

#[profiled("any name")]
fn no_keyword() {}

#[profiled(name = "one", name = "two")]
fn name_twice() {}

#[profiled(labels(a = 1), labels(b = 2))]
fn labels_twice() {}

#[profiled(crate = profiler_core, crate = profiler_core)]
fn crate_twice() {}

#[profiled(name = 1)]
fn name_is_a_number() {}

#[profiled(name = "")]
fn name_is_empty() {}

#[profiled(name)]
fn name_is_missing() {}

#[profiled(name = "one" labels(a = 1))]
fn comma_is_missing() {}

#[profiled(crate = "profiler_core")]
fn crate_is_a_string() {}

#[profiled(labels())]
fn labels_are_empty() {}

#[profiled(labels)]
fn labels_are_missing() {}

#[profiled(labels(a))]
fn label_without_value() {}

#[profiled(labels("a" = 1))]
fn label_is_a_string() {}

#[profiled(labels(a = 1, b = 2, a = 3))]
fn label_twice() {}

#[profiled(skip)]
fn skip_outside_a_block() {}

// The functions are there all the same.
fn main() {
    unknown();
    no_keyword();
    name_twice();
    labels_twice();
    crate_twice();
    name_is_a_number();
    name_is_empty();
    name_is_missing();
    comma_is_missing();
    crate_is_a_string();
    labels_are_empty();
    labels_are_missing();
    label_without_value();
    label_is_a_string();
    label_twice();
    skip_outside_a_block();
}
