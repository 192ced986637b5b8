//! A list of blocks, each of which one thread at a time owns.
//!
//! Blocks are pushed and never taken out. A block whose thread is gone, by the kernel's word, is
//! free for the next thread that asks; a compare-and-swap of its owner's number decides between
//! two that ask at once. What a block holds stays: the next owner adds to it.

#![allow(unsafe_code, reason = "a list of blocks that are never freed")]

use std::ptr;
use std::ptr::NonNull;

use super::primitive::{AtomicPtr, AtomicU64, Ordering};

/// What the registry needs of a block.
pub(crate) trait Block: Sync + 'static {
    /// The thread that owns it.
    fn owner(&self) -> &Owner;
    /// The next block of the list; written by the registry before the block is seen.
    fn next(&self) -> &AtomicPtr<Self>
    where
        Self: Sized;
}

/// Whose a block is: the kernel's number of a thread, and above it how often the block has changed
/// hands. Numbers come round again; with the count the word never does. Beside it stands in which process: in the child of
/// a fork the forking thread has another number, and until it has said so nobody knows that it lives.
#[derive(Debug)]
pub(crate) struct Owner {
    word: AtomicU64,
    process: AtomicU64,
}

impl Owner {
    pub(crate) fn new(thread: u32, process: u32) -> Self {
        Self { word: AtomicU64::new(u64::from(thread)), process: AtomicU64::new(process.into()) }
    }

    /// Makes the owner of a block that nobody owns, of two zeros.
    pub(crate) const fn nobody([word, process]: [AtomicU64; 2]) -> Self {
        Self { word, process }
    }

    /// Returns the number of the thread that owns the block or owned it last.
    pub(crate) fn thread(&self) -> u32 {
        // Relaxed: the number says all.
        number(self.word.load(Ordering::Relaxed))
    }

    /// Takes the block under another number if its owner, by the numbers of thread and process, is free to be replaced;
    /// returns the number of the thread that owned it. Nothing if it is not, or somebody else has taken it meanwhile.
    pub(crate) fn take(&self, taker: u32, is_free: impl Fn(u32, u32) -> bool) -> Option<u32> {
        // Acquire: pairs with the exchange below: whether this owner lives is asked after.
        let word = self.word.load(Ordering::Acquire);
        let taken = (word & !NUMBER).wrapping_add(NUMBER + 1) | u64::from(taker);
        if !is_free(number(word), self.process()) {
            return None;
        }
        // AcqRel: a thread that has ended has written all it will, and the kernel's word for
        // its end orders that before; two claimants are ordered by this exchange.
        let exchange = self.word.compare_exchange(word, taken, Ordering::AcqRel, Ordering::Relaxed);
        exchange.ok().map(number)
    }

    /// Gives back what `take` took.
    pub(crate) fn give_back(&self, gone: u32) {
        // Relaxed: nobody else takes it.
        let word = self.word.load(Ordering::Relaxed);
        // Release: pairs with the Acquire of whoever takes it over.
        self.word.store(word & !NUMBER | u64::from(gone), Ordering::Release);
    }

    /// Returns the number of its process.
    #[inline]
    pub(crate) fn process(&self) -> u32 {
        // Acquire: pairs with the Release in `settle`.
        number(self.process.load(Ordering::Acquire))
    }

    /// Notes the owner's number and that of its process, which are others in the child of a fork. Only the owner may
    /// call this.
    pub(crate) fn settle(&self, thread: u32, process: u32) {
        // Relaxed, both: nobody takes the block of a thread that lives, as is known as soon as the process stands
        // there.
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(word & !NUMBER | u64::from(thread), Ordering::Relaxed);
        // Release: pairs with the Acquire in `process`: who sees it takes no word from before.
        self.process.store(process.into(), Ordering::Release);
    }
}

/// The part of an owner's word that is the thread's number.
const NUMBER: u64 = u32::MAX as u64;

const fn number(word: u64) -> u32 {
    (word & NUMBER) as u32
}

/// The list.
pub(crate) struct Registry<B> {
    newest: AtomicPtr<B>,
    /// The block that was taken over last, where the next search begins; or null.
    taken: AtomicPtr<B>,
    /// So many searches are left out, since one has found that nobody was gone.
    left_out: AtomicU64,
}

/// After a search in vain every eighth of the number of blocks is made without one: a thread that
/// joins asks for eight others in the mean, and there is at most an eighth too many.
const BLOCKS_A_SEARCH: u64 = 8;

impl<B: Block> Registry<B> {
    /// Makes a list of null pointers and a zero.
    pub(crate) const fn new(
        newest: AtomicPtr<B>,
        taken: AtomicPtr<B>,
        left_out: AtomicU64,
    ) -> Self {
        Self { newest, taken, left_out }
    }

    /// Returns all blocks, newest first; any thread may call this at any time.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'static B> {
        // Acquire: pairs with the Release in `push`; the block is initialised.
        Self::from(self.newest.load(Ordering::Acquire))
    }

    /// Returns a block, or none for null, and those after it.
    fn from(mut next: *mut B) -> impl Iterator<Item = &'static B> {
        std::iter::from_fn(move || {
            // SAFETY: null, or a block that was initialised before it was pushed; never freed.
            let block: &'static B = unsafe { next.as_ref() }?;
            // Relaxed: written before the block was pushed, never after.
            next = block.next().load(Ordering::Relaxed);
            Some(block)
        })
    }

    /// Takes over a block whose owner, by the numbers of thread and process, is free to be replaced.
    ///
    /// A block that names the thread `owner` itself belonged to one that is gone and whose number has
    /// come round again: numbers of living threads are unique.
    pub(crate) fn claim(
        &self,
        owner: u32,
        is_free: impl Fn(u32, u32) -> bool,
    ) -> Option<&'static B> {
        // Relaxed, here and below: a figure.
        let one_less = |left: u64| left.checked_sub(1);
        if self.left_out.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return None;
        }
        self.claim_now(owner, is_free)
    }

    /// Does the same, however short ago another search was in vain.
    pub(crate) fn claim_now(
        &self,
        owner: u32,
        is_free: impl Fn(u32, u32) -> bool,
    ) -> Option<&'static B> {
        // Acquire: pairs with the Release below; the block is initialised.
        let start = self.taken.load(Ordering::Acquire);
        let rest = self.iter().take_while(|block| !ptr::eq(*block, start));
        let mut seen = 0;
        let found = Self::from(start).chain(rest).find(|block| {
            seen += 1;
            block.owner().take(owner, &is_free).is_some()
        });
        match found {
            Some(block) => self.taken.store(ptr::from_ref(block).cast_mut(), Ordering::Release),
            None => self.left_out.store(seen / BLOCKS_A_SEARCH, Ordering::Relaxed),
        }
        found
    }

    /// Adds a block, which its owner has filled in.
    pub(crate) fn push(&self, block: NonNull<B>) -> &'static B {
        // SAFETY: given initialised, and never freed.
        let block: &'static B = unsafe { block.as_ref() };
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // Relaxed: published by the exchange below.
            block.next().store(newest, Ordering::Relaxed);
            // Release: pairs with the Acquire in `iter`. Relaxed on failure: only the pointer is
            // used, to try again.
            match self.newest.compare_exchange_weak(
                newest,
                ptr::from_ref(block).cast_mut(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return block,
                Err(changed) => newest = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    struct Plain(Owner, AtomicPtr<Plain>);

    impl Block for Plain {
        fn owner(&self) -> &Owner {
            &self.0
        }

        fn next(&self) -> &AtomicPtr<Self> {
            &self.1
        }
    }

    fn null() -> AtomicPtr<Plain> {
        AtomicPtr::new(ptr::null_mut())
    }

    /// Takes a block over or makes one, and says which.
    fn join(registry: &Registry<Plain>, owner: u32, is_alive: impl Fn(u32) -> bool) -> bool {
        let claimed = registry.claim(owner, |thread, _| thread == owner || !is_alive(thread));
        if claimed.is_none() {
            registry.push(NonNull::from(Box::leak(Box::new(Plain(Owner::new(owner, 0), null())))));
        }
        claimed.is_some()
    }

    #[test]
    fn many_threads_ask_for_few_others() {
        let registry = Registry::new(null(), null(), AtomicU64::new(0));
        let asked = Cell::new(0);
        for owner in 1..=1000 {
            let is_alive = |_| {
                asked.set(asked.get() + 1);
                true
            };
            assert!(!join(&registry, owner, is_alive));
        }
        assert!(asked.get() < 10 * 1000, "{}", asked.get());
    }

    #[test]
    fn blocks_are_few_more_than_threads_ever_lived_at_once() {
        let registry = Registry::new(null(), null(), AtomicU64::new(0));
        // A hundred live on, and one after another comes and goes.
        for owner in 1..=10_000 {
            join(&registry, owner, |other| other <= 100);
        }
        assert!(registry.iter().count() <= 101 + 101 / 8 + 1, "{}", registry.iter().count());
    }

    #[test]
    fn an_owner_of_another_process_stays_until_it_has_settled_here() {
        let registry = Registry::new(null(), null(), AtomicU64::new(0));
        join(&registry, 1, |_| true);
        // In a child of a fork, where thread 1 is called 7 and the kernel knows no 1.
        let in_child = |thread, process| process == 5 && thread == 1;
        assert!(registry.claim_now(8, in_child).is_none());
        registry.iter().for_each(|block| block.0.settle(7, 5));
        assert!(registry.claim_now(8, in_child).is_none());
        assert!(registry.claim_now(8, |thread, process| process == 5 && thread == 7).is_some());
    }
}
