//! What is entered is known until it leaves; what is not is hardly ever taken for it.

use super::*;

const ALL: usize = usize::MAX;

fn vicinity<const PAGES: usize>() -> Vicinity<PAGES> {
    Vicinity::new(std::array::from_fn(|_| AtomicU16::new(0)))
}

#[test]
fn a_page_is_asked_about_as_long_as_it_holds_samples() {
    let vicinity = vicinity::<4>();
    let (first, second) = (0x7f00_0000_1010, 0x7f00_0000_1ff0);
    vicinity.enter(first);
    vicinity.enter(second);
    for address in [first, second, 0x1000, 0x5abc] {
        assert!(vicinity.may_hold(address, ALL), "{address:#x}");
    }
    for address in [0, 0x2010, 0x7f00_0000_0ff0] {
        assert!(!vicinity.may_hold(address, ALL), "{address:#x}");
    }
    vicinity.leave(first);
    assert!(!vicinity.may_hold(first, ALL) && vicinity.may_hold(second, ALL));
    vicinity.leave(second);
    assert!(!vicinity.may_hold(first, ALL) && !vicinity.may_hold(second, ALL));
}

#[test]
fn one_sample_is_told_from_its_neighbours() {
    for size in [8, 16, 24, 32, 48] {
        for sample in (0x7f12_3456_7000..0x7f12_3456_8000).step_by(size) {
            let vicinity = vicinity::<2>();
            vicinity.enter(sample);
            assert!(vicinity.may_hold(sample, ALL));
            let neighbours = (0x7f12_3456_7000..0x7f12_3456_8000).step_by(size);
            let taken = neighbours.filter(|address| vicinity.may_hold(*address, ALL)).count();
            assert!(taken <= 1 + 4096 / size / 50, "{taken} blocks of {size} for {sample:#x}");
        }
    }
}

/// Each of so many is known at every number of others, also where a word overflows.
#[test]
fn what_is_entered_is_known_until_it_leaves() {
    for most in [1, 2, 3, 253, 254, 255, 256, 1000] {
        let vicinity = vicinity::<1>();
        let addresses: Vec<_> = (1..=most).map(|number| number * 16).collect();
        for (entered, address) in addresses.iter().enumerate() {
            vicinity.enter(*address);
            assert!(addresses[..=entered].iter().all(|address| vicinity.may_hold(*address, ALL)));
        }
        for (left, address) in addresses.iter().enumerate() {
            assert!(addresses[left..].iter().all(|address| vicinity.may_hold(*address, ALL)));
            vicinity.leave(*address);
        }
        assert_eq!(
            addresses.iter().any(|address| vicinity.may_hold(*address, ALL)),
            most > 254,
            "{most}"
        );
    }
}

#[test]
fn without_bits_every_address_is_that_of_page_0() {
    let vicinity = vicinity::<2>();
    assert!(!vicinity.may_hold(0x1000, 0));
    vicinity.fill(0);
    assert!(vicinity.may_hold(0x1000, 0));
    assert!(!vicinity.may_hold(0x1000, ALL));
}
