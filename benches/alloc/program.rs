//! Programs that allocate, and what they do all day.

#![allow(unsafe_code, reason = "an allocator is called by hand")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use profiler_benches::process::thread_cpu;

/// A program with one allocator. It is called as `std::alloc::alloc` calls a global one: by functions
/// that are not inlined and know neither size nor alignment, after one that does nothing.
pub(crate) trait Program: 'static {
    /// Allocates.
    fn allocate(size: usize, align: usize) -> *mut u8;

    /// Frees.
    ///
    /// # Safety
    ///
    /// That of [`GlobalAlloc::dealloc`].
    unsafe fn free(block: *mut u8, size: usize, align: usize);
}

/// Makes programs, each of a name and the static allocator that it uses.
#[macro_export]
macro_rules! programs {
    ($($name:ident: $allocator:ident;)*) => { $(
        struct $name;

        impl $crate::program::Program for $name {
            #[inline]
            fn allocate(size: usize, align: usize) -> *mut u8 {
                #[inline(never)]
                fn allocate(size: usize, align: usize) -> *mut u8 {
                    $crate::program::allocate(&$allocator, size, align)
                }
                $crate::program::nothing();
                allocate(size, align)
            }

            #[inline(never)]
            unsafe fn free(block: *mut u8, size: usize, align: usize) {
                // SAFETY: given by the caller.
                unsafe { $crate::program::free(&$allocator, block, size, align) }
            }
        }
    )* };
}

/// Stands for `__rust_no_alloc_shim_is_unstable`.
#[inline(never)]
pub(crate) fn nothing() {
    black_box(());
}

#[inline(always)]
pub(crate) fn allocate(allocator: &impl GlobalAlloc, size: usize, align: usize) -> *mut u8 {
    // SAFETY: the sizes and alignments of this bench are small, and alignments powers of two.
    let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
    // SAFETY: no size of this bench is zero.
    unsafe { allocator.alloc(layout) }
}

/// # Safety
///
/// That of [`GlobalAlloc::dealloc`].
#[inline(always)]
pub(crate) unsafe fn free(allocator: &impl GlobalAlloc, block: *mut u8, size: usize, align: usize) {
    // SAFETY: as in `allocate`.
    let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
    // SAFETY: given by the caller.
    unsafe { allocator.dealloc(block, layout) };
}

/// The program that this bench itself is.
pub(crate) struct Own;

impl Program for Own {
    #[inline]
    fn allocate(size: usize, align: usize) -> *mut u8 {
        // SAFETY: as in `allocate` below.
        let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
        // SAFETY: no size of this bench is zero.
        unsafe { std::alloc::alloc(layout) }
    }

    #[inline]
    unsafe fn free(block: *mut u8, size: usize, align: usize) {
        // SAFETY: as in `allocate` below.
        let layout = unsafe { Layout::from_size_align_unchecked(size, align) };
        // SAFETY: given by the caller.
        unsafe { std::alloc::dealloc(block, layout) };
    }
}

/// What a program does all day.
pub(crate) trait Load: 'static {
    const NAME: &str;

    /// Does it so often, and returns the nanoseconds of this thread's CPU time that it took.
    fn run<P: Program>(times: u64) -> f64;
}

/// Allocates and frees 64 bytes.
pub(crate) struct Small;

impl Small {
    #[inline(always)]
    pub(crate) fn once<P: Program>() {
        let block = P::allocate(black_box(64), black_box(8));
        // SAFETY: fresh, 64 bytes long.
        unsafe { block.cast::<u64>().write(1) };
        // SAFETY: allocated above.
        unsafe { P::free(black_box(block), black_box(64), black_box(8)) };
    }
}

impl Load for Small {
    const NAME: &str = "64 B";

    fn run<P: Program>(times: u64) -> f64 {
        let start = thread_cpu();
        (0..times).for_each(|_| Self::once::<P>());
        thread_cpu() - start
    }
}

/// Keeps so many blocks of 16 to 1039 bytes, and puts new ones in the place of random ones.
pub(crate) struct Mixed<const LIVE: usize>;

impl<const LIVE: usize> Load for Mixed<LIVE> {
    const NAME: &str =
        if LIVE == 256 { "mixed 16–1039 B, 256 live" } else { "mixed 16–1039 B, 8,192 live" };

    fn run<P: Program>(times: u64) -> f64 {
        const { assert!(LIVE == 256 || LIVE == 8_192, "the names say so") };
        // Made once a round, by the bench's own allocator.
        let mut live: Vec<(*mut u8, usize)> = vec![(ptr::null_mut(), 0); LIVE];
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random as usize % LIVE, 16 + (random >> 40) as usize % 1024)
        };
        for place in &mut live {
            replace::<P>(place, next().1);
        }
        let start = thread_cpu();
        for _ in 0..times {
            let (place, size) = next();
            replace::<P>(&mut live[place], size);
        }
        let nanoseconds = thread_cpu() - start;
        for place in &mut live {
            replace::<P>(place, 0);
        }
        nanoseconds
    }
}

/// Frees the block of a place and puts a new one there, unless its size is 0.
#[inline(always)]
fn replace<P: Program>(place: &mut (*mut u8, usize), size: usize) {
    let (block, old) = *place;
    if !block.is_null() {
        // SAFETY: allocated below, and overwritten or never looked at again.
        unsafe { P::free(block, old, 8) };
    }
    if size != 0 {
        let block = P::allocate(size, 8);
        // SAFETY: fresh, 16 bytes long at least.
        unsafe { block.cast::<u64>().write(1) };
        *place = (block, size);
    }
}

/// Has two threads do all of it at once, and returns the mean of both.
pub(crate) fn two(load: fn(u64) -> f64) -> impl FnMut(u64) -> f64 {
    move |times| {
        let together = AtomicU32::new(0);
        let run = || {
            // Not a `Barrier`: to be woken takes part of a round.
            together.fetch_add(1, Ordering::Relaxed);
            while together.load(Ordering::Relaxed) < 2 {
                std::hint::spin_loop();
            }
            load(times)
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(run);
            (run() + other.join().expect("no panic")) / 2.0
        })
    }
}
