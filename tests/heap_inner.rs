//! Inner allocators of any habit: what is sampled is told by the set of live samples, not by what an
//! allocator usually does.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::{ptr, thread};

use mimalloc::MiMalloc;
use profiler_core::{Config, Kind, ProfiledAllocator, Rates, set_rates, snapshot};
use profiler_tests::habits::{Bump, Narrow, Paged, Reusing, Tight};
use profiler_tests::inner::{Book, Checked};
use profiler_tests::shadow::{heap_sums, memory_sums};
use profiler_tests::steps::check_random_steps;

/// One test at a time: they share the process's rates and sums.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().stack_depth(1)).expect("the first start")
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test for an inner allocator.
macro_rules! check {
    ($name:ident, $inner:ty, $value:expr) => {
        #[test]
        fn $name() {
            static BOOK: Book = Book::new();
            static HEAP: ProfiledAllocator<Checked<$inner>> =
                ProfiledAllocator::new(Checked::new($value, &BOOK));
            let _turn = turn();
            check_random_steps(&HEAP, &BOOK, &[1, 0], 40);
            check_random_steps(&HEAP, &BOOK, &[512, 0, 1, 8192], 40);
        }
    };
}

check!(no_address_is_aligned_better_than_asked, Tight, Tight);
check!(every_block_begins_at_a_page, Paged, Paged);
check!(blocks_that_are_freed_are_used_again_at_once, Reusing, Reusing::new());
check!(mimalloc_inside, MiMalloc, MiMalloc);
check!(blocks_are_cut_from_one_piece, Bump, Bump::new());

/// What happens on another thread once a block is back and before the one who gave it goes on.
static MEANWHILE: Mutex<Option<Meanwhile>> = Mutex::new(None);
type Meanwhile = Box<dyn FnOnce() + Send>;

/// Lets others have what is given back before it returns.
struct Handing(Reusing);

// SAFETY: blocks are those of the allocator inside; `realloc` is derived from the two.
unsafe impl GlobalAlloc for Handing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: given by the caller.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: given by the caller.
        unsafe { self.0.dealloc(block, layout) };
        let meanwhile = MEANWHILE.lock().expect("no panic").take();
        if let Some(meanwhile) = meanwhile {
            thread::scope(|scope| scope.spawn(meanwhile).join().expect("no panic"));
        }
    }
}

static HANDING: ProfiledAllocator<Handing> = ProfiledAllocator::new(Handing(Reusing::new()));

/// Returns what is in use, objects and bytes.
fn in_use() -> [i64; 2] {
    let [.., objects, bytes] = heap_sums();
    [objects, bytes]
}

/// One thread frees or moves a block, another one has its address before that has returned.
#[track_caller]
fn check_handing(layout: Layout, moved_to: Option<usize>, rates: [u64; 2]) {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);

    let weigh = |rate: u64, size: usize| if rate == 1 { [1, size as i64] } else { [0, 0] };
    let sum = |a: [i64; 2], b: [i64; 2]| [a[0] + b[0], a[1] + b[1]];
    let [first, second] = rates;
    let what = format!("{layout:?} to {moved_to:?} at {rates:?}");
    set_rates(Rates::ALL.heap_bytes(first));
    // SAFETY: the size is not zero.
    let block = unsafe { HANDING.alloc(layout) };
    assert_eq!(in_use(), weigh(first, layout.size()), "{what}");
    *MEANWHILE.lock().expect("no panic") = Some(Box::new(move || {
        set_rates(Rates::ALL.heap_bytes(second));
        // SAFETY: the size is not zero.
        TAKEN.store(unsafe { HANDING.alloc(layout) }.expose_provenance(), Ordering::Relaxed);
    }));
    let kept = match moved_to {
        // SAFETY: allocated above, and the size is not zero.
        Some(size) => unsafe { HANDING.realloc(block, layout, size) },
        None => {
            // SAFETY: allocated above.
            unsafe { HANDING.dealloc(block, layout) };
            ptr::null_mut()
        }
    };
    let taken = ptr::with_exposed_provenance_mut::<u8>(TAKEN.load(Ordering::Relaxed));
    // A sampled block may begin behind its inner address.
    assert_eq!(taken.addr() & !0xF, block.addr() & !0xF, "used again: {what}");
    let kept_sum = moved_to.map_or([0, 0], |size| weigh(first, size));
    assert_eq!(in_use(), sum(kept_sum, weigh(second, layout.size())), "{what}");
    if let Some(size) = moved_to {
        let layout = Layout::from_size_align(size, layout.align()).expect("a layout");
        // SAFETY: reallocated above, to this size.
        unsafe { HANDING.dealloc(kept, layout) };
    }
    assert_eq!(in_use(), weigh(second, layout.size()), "{what}");
    // SAFETY: allocated above, by the other thread.
    unsafe { HANDING.dealloc(taken, layout) };
    assert_eq!(in_use(), [0, 0], "{what}");
}

#[test]
fn an_address_is_used_again_before_its_free_has_returned() {
    let _turn = turn();
    for (size, align) in [(24, 8), (24, 1), (24, 16), (5000, 4096), (64 << 10, 8), (300_000, 8)] {
        let layout = Layout::from_size_align(size, align).expect("a layout");
        for rates in [[1, 1], [1, 0], [0, 1], [0, 0]] {
            for moved_to in [None, Some(4 * size), Some(size / 4)] {
                check_handing(layout, moved_to, rates);
            }
        }
    }
}

/// A sampled block takes 8 bytes more, and 16 for its alignment.
#[test]
fn a_block_that_fits_is_allocated_even_if_there_is_no_room_to_shift_it() {
    static NARROW: ProfiledAllocator<Narrow> = ProfiledAllocator::new(Narrow);

    let _turn = turn();
    set_rates(Rates::ALL);
    let layout = Layout::new::<[u64; 3]>();
    let memory = memory_sums();
    // SAFETY: the size is not zero.
    let block = unsafe { NARROW.alloc_zeroed(layout) };
    assert!(!block.is_null());
    // SAFETY: allocated above, and the size is not zero.
    let block = unsafe { NARROW.realloc(block, layout, 48) };
    assert!(!block.is_null());
    assert_eq!(in_use(), [0, 0], "it is not known when it is freed");
    let lost = |profile: profiler_core::Profile| -> i64 {
        let is_lost = |sample: &profiler_core::Sample<'_>| {
            sample.frames().any(|frame| frame.function == Some("[lost]"))
        };
        profile.samples().filter(is_lost).map(|sample| sample.values()[1]).sum()
    };
    assert_eq!(lost(snapshot(Kind::Heap).expect("available")), 24 + 48);
    // SAFETY: reallocated above, to this size.
    unsafe { NARROW.dealloc(block, Layout::new::<[u64; 6]>()) };
    assert_eq!(in_use(), [0, 0]);
    let now = memory_sums();
    assert_eq!([now[0] - memory[0], now[1] - memory[1]], [2, 24 + 48]);
    assert_eq!(now[2..], memory[2..]);
    // SAFETY: the size is not zero.
    let refused = unsafe { NARROW.alloc(Layout::new::<u128>()) };
    assert!(refused.is_null());
    assert_eq!(memory_sums(), now);
}
