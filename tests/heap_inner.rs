//! Inner allocators of any habit: what is sampled is told by the set of live samples, not by what an
//! allocator usually does.

#![allow(unsafe_code, reason = "`GlobalAlloc` is unsafe to implement and to call")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::{ptr, thread};

use mimalloc::MiMalloc;
use profiler_core::{Config, ProfiledAllocator, Rates, set_rates};
use profiler_tests::habits::{Bump, Paged, Reusing, Tight, Told};
use profiler_tests::inner::{Book, Checked};
use profiler_tests::shadow::heap_sums;
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
    assert_eq!(taken, block, "used again: {what}");
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

static TOLD: Told = Told::new();
static TOLD_BOOK: Book = Book::new();
static TOLD_HEAP: ProfiledAllocator<Checked<&Told>> =
    ProfiledAllocator::new(Checked::new(&TOLD, &TOLD_BOOK));

/// How a block comes to an address, or goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Zeroed,
    /// By a change of the size of another block, or of this one.
    Resized,
}

fn allocated(layout: Layout, way: Way) -> *mut u8 {
    match way {
        // SAFETY: the size is not zero.
        Way::Plain => unsafe { TOLD_HEAP.alloc(layout) },
        // SAFETY: as above.
        Way::Zeroed => unsafe { TOLD_HEAP.alloc_zeroed(layout) },
        Way::Resized => {
            // SAFETY: as above.
            let other = unsafe { ptr::NonNull::new(TOLD_HEAP.alloc(layout)) }.expect("memory");
            TOLD.tell(ADDRESS.load(Ordering::Relaxed));
            // SAFETY: allocated above, and the size is not zero.
            unsafe { TOLD_HEAP.realloc(other.as_ptr(), layout, layout.size()) }
        }
    }
}

/// The address that is handed out twice.
static ADDRESS: AtomicUsize = AtomicUsize::new(0);

/// Others free a block, as C code does, and its address comes again: the inner allocator gets back what it
/// gave, and what is alive in the profile is what is alive as soon as the new block is sampled or freed.
#[track_caller]
fn check_freed_by_others(first: Layout, second: Layout, way: Way, rate: u64, goes: Way) {
    let what = format!("{first:?}, {second:?} {way:?} at {rate}, {goes:?}");
    set_rates(Rates::ALL);
    // SAFETY: the size is not zero.
    let block = unsafe { TOLD_HEAP.alloc(first) };
    assert_eq!(in_use(), [1, first.size() as i64], "{what}");
    TOLD_BOOK.freed_by_others(block.addr());
    ADDRESS.store(block.addr(), Ordering::Relaxed);
    set_rates(Rates::ALL.heap_bytes(rate));
    // The first allocation after a change of the rate looks by itself.
    // SAFETY: the size is not zero.
    let other = unsafe { TOLD_HEAP.alloc(first) };
    // SAFETY: allocated just now.
    unsafe { TOLD_HEAP.dealloc(other, first) };
    if way != Way::Resized {
        TOLD.tell(block.addr());
    }
    let again = allocated(second, way);
    assert_eq!(again.addr(), block.addr(), "{what}");
    let expected = if rate == 1 { second.size() } else { first.size() };
    assert_eq!(in_use(), [1, expected as i64], "{what}");
    set_rates(Rates::ALL.heap_bytes(0));
    if goes == Way::Resized {
        // SAFETY: allocated above, and the size is not zero.
        let moved = unsafe { TOLD_HEAP.realloc(again, second, 2 * second.size()) };
        assert_eq!(in_use(), [0, 0], "{what}");
        let moved_layout = Layout::from_size_align(2 * second.size(), second.align());
        // SAFETY: allocated above, with this layout.
        unsafe { TOLD_HEAP.dealloc(moved, moved_layout.expect("a layout")) };
    } else {
        // SAFETY: allocated above, with this layout.
        unsafe { TOLD_HEAP.dealloc(again, second) };
    }
    assert_eq!(in_use(), [0, 0], "{what}");
    TOLD_BOOK.check();
    assert_eq!(TOLD_BOOK.out(), 0, "{what}");
}

#[test]
fn what_others_free_is_alive_until_its_address_comes_again() {
    let _turn = turn();
    let layouts = [(24, 8), (40, 1024), (64 << 10, 8)]
        .map(|(size, align)| Layout::from_size_align(size, align).expect("a layout"));
    for (first, second) in layouts.iter().flat_map(|first| layouts.map(|second| (*first, second))) {
        for way in [Way::Plain, Way::Zeroed, Way::Resized] {
            for (rate, goes) in
                [(0, Way::Plain), (0, Way::Resized), (1, Way::Plain), (1, Way::Resized)]
            {
                check_freed_by_others(first, second, way, rate, goes);
            }
        }
    }
}
