//! Go's `TestTimeVDSO`: a clock that is read in the kernel's own page of code.

use std::hint::black_box;
use std::time::Instant;

use profiler_tests::cpu::{MILLISECOND, for_cpu_time};
use profiler_tests::keep;
use profiler_tests::modules::code_of;

use super::{capture, functions, is_root, is_whole};

#[inline(never)]
fn reader_of_the_clock() {
    for_cpu_time(400 * MILLISECOND, || {
        for _ in 0..10_000 {
            black_box(Instant::now());
        }
    });
    keep!();
}

#[test]
fn samples_in_the_vdso_have_their_callers() {
    let profile = capture(reader_of_the_clock);
    let (vdso, mut found) = (code_of("[vdso]"), 0);
    for sample in profile.samples() {
        let leaf = sample.frames().next().expect("a leaf");
        if vdso.iter().any(|code| code.contains(&leaf.address)) {
            let functions = functions(&sample);
            // Other tests read clocks on other threads.
            assert!(functions.last().is_some_and(|root| is_root(root)), "{functions:?}");
            found += i64::from(is_whole(&functions, "reader_of_the_clock"));
        }
    }
    assert!(found > 0);
}
