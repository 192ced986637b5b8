//! What the heap profiler costs: allocations and frees that are not sampled, those that are, and what
//! other ways to tell the free of a sampled block would cost.

#![allow(unsafe_code, reason = "an allocator is called by hand")]

mod buffer;
mod candidates;
mod marks;
mod program;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

use profiler_benches::addresses::Addresses;
use profiler_benches::{Case, compare_by_rounds, down, instructions};
use profiler_core::{Config, ProfiledAllocator, Rates, set_rates};

use candidates::{Candidate, LIVE, NoMark, SharedCounters};
use marks::{Aligned, CountingFilter, Header, Page, PlainFilter, Range, Shift};
use program::{Load, Mixed, Own, Program, Small, two};

#[global_allocator]
static OWN: ProfiledAllocator<System> = ProfiledAllocator::new(System);

static PLAIN: System = System;
static OURS: ProfiledAllocator<System> = ProfiledAllocator::new(System);
static NOTHING: Nothing = Nothing;
static OURS_OF_NOTHING: ProfiledAllocator<Nothing> = ProfiledAllocator::new(Nothing);
/// Whose blocks are alive while the bench runs.
static MEANWHILE: ProfiledAllocator<&Addresses> = ProfiledAllocator::new(&ADDRESSES);
static ADDRESSES: Addresses = Addresses::new();

static NO_MARK: Candidate<NoMark> = Candidate(NoMark);
static SHIFT: Candidate<Shift> = Candidate(Shift);
static PAGED: Candidate<Page<false>> = Candidate(Page::new());
static LOOKING: Candidate<Page<true>> = Candidate(Page::new());
static ALIGNED_512: Candidate<Aligned<512>> = Candidate(Aligned);
static ALIGNED_1024: Candidate<Aligned<1024>> = Candidate(Aligned);
static ALIGNED_4096: Candidate<Aligned<4096>> = Candidate(Aligned);
static HEADER: Candidate<Header> = Candidate(Header);
static COUNTING: Candidate<CountingFilter> = Candidate(CountingFilter::new());
static FRESH: Candidate<PlainFilter> = Candidate(PlainFilter::new());
static AGED: Candidate<PlainFilter> = Candidate(PlainFilter::new());
static RANGE: Candidate<Range> = Candidate(Range::new());
static SHARED: SharedCounters = SharedCounters::new();

programs! {
    Plain: PLAIN;
    Ours: OURS;
    WithNothing: NOTHING;
    OursWithNothing: OURS_OF_NOTHING;
    Meanwhile: MEANWHILE;
    Unmarked: NO_MARK;
    Shifted: SHIFT;
    ByPage: PAGED;
    Looking: LOOKING;
    Aligned512: ALIGNED_512;
    Aligned1024: ALIGNED_1024;
    Aligned4096: ALIGNED_4096;
    Headed: HEADER;
    Counted: COUNTING;
    Filtered: FRESH;
    FilteredLong: AGED;
    Ranged: RANGE;
    Sharing: SHARED;
}

/// Hands out one address for ever, so that what instructions are added are the profiler's.
struct Nothing;

#[repr(align(16))]
struct Block([u8; 64]);
static BLOCK: Block = Block([0; 64]);

// SAFETY: this bench does not touch the blocks that it gets from it.
unsafe impl GlobalAlloc for Nothing {
    #[inline(never)]
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        black_box((&raw const BLOCK.0).cast_mut().cast())
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        black_box(block);
    }
}

/// A program under a load, on one thread or two.
fn case<L: Load, P: Program>(threads: u32, name: &str) -> Case<'static> {
    match threads {
        1 => Case::timed(name, L::run::<P>),
        _ => Case::timed(name, two(L::run::<P>)),
    }
}

fn hot_paths(state: &str) {
    hot_path::<Small>(state);
    hot_path::<Mixed<256>>(state);
    count_instructions(state);
}

fn hot_path<L: Load>(state: &str) {
    for threads in 1..=2 {
        compare_by_rounds(
            &format!("{}, {state}, threads: {threads}", L::NAME),
            &mut [
                case::<L, Plain>(threads, "`System`"),
                case::<L, Ours>(threads, "ours").budget("+1.0 ns"),
                case::<L, Own>(threads, "ours, as `#[global_allocator]`").budget("+1.0 ns"),
                case::<L, Sharing>(threads, "counters that threads share"),
            ],
        );
    }
}

fn count_instructions(state: &str) {
    fn least(mut body: impl FnMut()) -> f64 {
        // The least of some: in one of them a sample may be due.
        let counts = (0..5).filter_map(|_| instructions::count(&mut body).ok());
        counts.fold(f64::INFINITY, f64::min)
    }
    fn of<P: Program>() -> [f64; 2] {
        let block: *mut u8 = (&raw const BLOCK.0).cast_mut().cast();
        [
            least(|| {
                black_box(P::allocate(black_box(64), black_box(8)));
            }),
            // SAFETY: `Nothing` takes back what it handed out in the line above.
            least(|| unsafe { P::free(black_box(block), black_box(64), black_box(8)) }),
        ]
    }
    let ([allocate, free], [ours_allocate, ours_free]) =
        (of::<WithNothing>(), of::<OursWithNothing>());
    println!(
        "\nInstructions, {state}: around an allocator that does nothing, allocate {allocate} → \
         {ours_allocate}, free {free} → {ours_free}; 64 B of `System`, both {} → {}.",
        least(Small::once::<Plain>),
        least(Small::once::<Ours>),
    );
}

/// One sample, all of it: an allocation and its free, where all are sampled and where none is.
fn samples() {
    fn at(rate: u64, levels: u32) -> impl FnMut(u64) -> f64 {
        move |times| {
            let mut nanoseconds = 0.0;
            set_rates(Rates::DEFAULT.heap_bytes(rate));
            down(levels, 0, &mut || nanoseconds = Small::run::<Ours>(times));
            nanoseconds
        }
    }
    compare_by_rounds(
        "One sample, all of it: allocated and freed, 10 GiB live",
        &mut [
            Case::timed("rate 0", at(0, 30)),
            Case::timed("rate 1, 3 frames and main's", at(1, 0)),
            Case::timed("rate 1, 33 frames and main's", at(1, 30)).budget("+400 ns"),
            Case::timed("rate 1, 103 frames and main's", at(1, 100)),
        ],
    );
    set_rates(Rates::DEFAULT);
}

/// Fills the sets and filters with what 10 GiB of live blocks leave in them at the default rate.
fn fill() {
    const BYTES: usize = 10 << 30;
    ADDRESSES.reserve();
    for _ in 0..BYTES >> 10 {
        black_box(Meanwhile::allocate(1 << 10, 8));
    }
    RANGE.0.reserve();
    let address = |number: usize| 0x1000_0000_0000 + (number.wrapping_mul(0x9E37_79B9) << 4);
    for number in 0..BYTES / (512 << 10) {
        LIVE.insert(address(number) as u64, [0; 3]);
        PAGED.0.enter(address(number));
        LOOKING.0.enter(address(number));
        COUNTING.0.enter(address(number));
        FRESH.0.enter(address(number));
    }
    // An hour at 70 MB a second.
    (0..500_000).for_each(|number| AGED.0.enter(address(number)));
}

fn candidates<L: Load>(most_threads: u32) {
    for threads in 1..=most_threads {
        compare_by_rounds(
            &format!("Candidates, {}, 10 GiB live beside, threads: {threads}", L::NAME),
            &mut [
                case::<L, Plain>(threads, "`System`"),
                case::<L, Ours>(threads, "ours").budget("+1.0 ns"),
                case::<L, Unmarked>(threads, "counted and sampled, frees are told nothing"),
                case::<L, ByPage>(threads, "samples of each page, then the set (ours, no stacks)"),
                case::<L, Looking>(threads, "the same, allocations look too"),
                case::<L, Aligned512>(threads, "aligned to 512, then the set"),
                case::<L, Aligned1024>(threads, "aligned to 1024, then the set"),
                case::<L, Aligned4096>(threads, "aligned to 4096, then the set"),
                case::<L, Shifted>(threads, "address ≡ 8 mod 16, then the set"),
                case::<L, Headed>(threads, "address ≡ 8 mod 16, then a header"),
                case::<L, Counted>(threads, "counting filter"),
                case::<L, Filtered>(threads, "filter that forgets nothing, new"),
                case::<L, FilteredLong>(threads, "such a filter after 500,000 samples"),
                case::<L, Ranged>(threads, "range of addresses"),
                case::<L, Sharing>(threads, "counters that threads share, no samples"),
            ],
        );
    }
}

fn main() {
    hot_paths("before the start");
    profiler_core::start(Config::default()).expect("the first start");
    fill();
    set_rates(Rates::DEFAULT.heap_bytes(0));
    hot_paths("rate 0");
    set_rates(Rates::DEFAULT);
    hot_paths("default rate");
    samples();
    candidates::<Small>(2);
    candidates::<Mixed<256>>(2);
    candidates::<Mixed<8_192>>(1);
}
