//! Needed by `links` in the manifest; there is nothing to build.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
