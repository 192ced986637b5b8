//! Every form that `#[profiled]` accepts, and what it says about the others.

#[test]
fn accepted_and_refused_forms() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/accepted/*.rs");
    cases.compile_fail("ui/refused/*.rs");
}
