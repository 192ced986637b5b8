//! What the profiler keeps of a thread: its span stack, its labels, what it waits for, its tally.
//!
//! The thread-local is one pointer without a destructor, so it can be read at any time of a
//! thread's life. Blocks are never freed; see `registry.rs` for when the next thread takes one over.

#![allow(unsafe_code, reason = "a block that one thread writes and others read")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::opened::Opened;
use super::registry::{Block, Owner, Registry};
use super::row::Row;
use super::slot::Slot;
use super::tally::Memory;
use super::tree::{Node, Tree};
use super::writer::{MAPPED, STACK_COPY, Side, Writer};
use crate::labels::Set;
use crate::sys::{self, Registers, StackBounds};

/// Frames that may stand above the user's own and are cut off when a profile is read.
pub(crate) const OWN_FRAMES: usize = 32;

thread_local! {
    static CURRENT: Cell<Option<&'static Thread>> = const { Cell::new(None) };
    /// Set while a thread joins: what that calls may come back here.
    static JOINING: Cell<bool> = const { Cell::new(false) };
}

static THREADS: Registry<Thread> = Registry::new(
    AtomicPtr::new(ptr::null_mut()),
    AtomicPtr::new(ptr::null_mut()),
    AtomicU64::new(0),
);
/// Threads that ever joined; also the last number given.
static JOINED: AtomicU64 = AtomicU64::new(0);
/// Those of them whose creation was recorded.
static CREATORS_KNOWN: AtomicU64 = AtomicU64::new(0);

/// What the profiler keeps of one thread.
#[repr(C, align(64))]
pub(crate) struct Thread {
    // Written by the owner, read by anyone.
    node: AtomicPtr<Node>,
    labels: AtomicPtr<Set>,
    /// The wait that is going on.
    pub(super) wait: Slot<3>,

    // The owner's alone.
    /// The last tick that was charged to a node, or 0; see `capture::scope`.
    pub(crate) seen_tick: Cell<u64>,
    random: Cell<u64>,
    stack: Cell<Stack>,
    /// What signal handlers have found of the stack; theirs alone.
    found: Cell<Option<StackBounds>>,
    /// Tracing spans that are entered.
    pub(crate) opened: Opened,

    // Set when a thread takes the block over.
    owner: Owner,
    number: AtomicU64,
    /// Its name; null if nobody has told it yet.
    name: AtomicPtr<&'static str>,
    next: AtomicPtr<Thread>,
    tree: Tree,
    /// Written by the thread's ordinary code.
    ordinary: Side,
    /// Written by the thread's signal handlers, which may strike while the other one is written.
    signal: Side,
}

/// The bounds of a thread's stack.
#[derive(Debug, Clone, Copy)]
enum Stack {
    /// Not asked for yet, since the thread joined in a signal handler.
    Unasked,
    Asked(Option<StackBounds>),
}

/// The number of a thread that is never alive: the owner of blocks that are set aside for signals.
const NOBODY: u32 = i32::MAX as u32;

// SAFETY: the cells are touched by the owning thread alone: `current` gives out the block of the
// calling thread, and what others may call reads atomics.
unsafe impl Sync for Thread {}
// SAFETY: made by one thread and owned by others later, one at a time.
unsafe impl Send for Thread {}

impl Block for Thread {
    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

/// Returns this thread's block, if it has one.
#[inline]
pub(crate) fn current() -> Option<&'static Thread> {
    CURRENT.with(Cell::get)
}

/// Returns this thread's block, taking over or making one.
///
/// Nothing if the system has no memory, or when called from within itself. `depth` is the number of
/// frames that a capture keeps.
#[cold]
pub(crate) fn join(depth: usize) -> Option<&'static Thread> {
    if let Some(thread) = current() {
        return Some(thread);
    }
    // A handler could not record anything before the block is there.
    sys::while_no_timer_strikes(|| {
        if JOINING.replace(true) {
            return None;
        }
        // One may have struck before.
        let thread = current().or_else(|| join_now(depth));
        JOINING.set(false);
        thread
    })
}

fn join_now(depth: usize) -> Option<&'static Thread> {
    let owner = sys::thread_id();
    // A number that could not be had is 0, and would be anybody's.
    let claimed = (owner != 0).then(|| THREADS.claim(owner, is_taken));
    let thread =
        claimed.flatten().or_else(|| Some(THREADS.push(Thread::allocate(owner, depth)?)))?;
    thread.reset(Stack::Asked(sys::stack_bounds()));
    CURRENT.set(Some(thread));
    Some(thread)
}

/// Returns this thread's block, taking over one that is set aside, or whose thread is gone.
///
/// # Signal safety
///
/// Atomics and system calls only.
pub(crate) fn join_in_signal() -> Option<&'static Thread> {
    if let Some(thread) = current() {
        return Some(thread);
    }
    let owner = sys::thread_id();
    if owner == 0 || JOINING.get() {
        return None;
    }
    let thread = THREADS.claim_now(owner, |number| {
        number == NOBODY || number == owner || !sys::is_thread_alive(number)
    })?;
    thread.reset(Stack::Unasked);
    CURRENT.set(Some(thread));
    Some(thread)
}

/// Whether a block is not for others: its owner lives, or it is set aside for signals.
fn is_taken(owner: u32) -> bool {
    owner == NOBODY || sys::is_thread_alive(owner)
}

/// Sees to it that so many blocks are set aside as there are threads without one, for
/// [`join_in_signal`]. `threads` are all that are alive, sorted.
pub(crate) fn prepare_for_signals(threads: &[u32], depth: usize) {
    let mut without = threads.len();
    let mut spare = 0;
    for thread in all() {
        let owner = thread.owner_id();
        if owner == NOBODY {
            spare += 1;
        } else if threads.binary_search(&owner).is_ok() {
            without = without.saturating_sub(1);
        }
    }
    // What threads left behind first: a program of many short threads would need more and more.
    let is_left = |owner| owner != NOBODY && !sys::is_thread_alive(owner);
    let mut is_any_left = true;
    for _ in spare..without {
        is_any_left = is_any_left && THREADS.claim_now(NOBODY, is_left).is_some();
        if is_any_left {
            continue;
        }
        let Some(thread) = Thread::allocate(NOBODY, depth) else { return };
        THREADS.push(thread);
    }
}

/// Returns the blocks of all threads, also of those that are gone.
pub(crate) fn all() -> impl Iterator<Item = &'static Thread> {
    THREADS.iter()
}

/// Returns how many threads there are or were of which it is not known who created them, as far as they
/// were seen: those that joined, and the most that were there at a time and had not. Never falls.
pub(crate) fn from_unknown() -> u64 {
    static MOST: AtomicU64 = AtomicU64::new(0);
    let known: HashSet<u32> = all().map(Thread::owner_id).collect();
    let strangers = sys::threads().iter().filter(|thread| !known.contains(thread)).count() as u64;
    // Relaxed: figures. Creators are known before there is a thread, so this is not too large.
    let joined = JOINED.load(Ordering::Relaxed);
    let known = CREATORS_KNOWN.load(Ordering::Relaxed);
    let unknown = (joined + strangers).saturating_sub(known);
    // Relaxed: a figure.
    MOST.fetch_max(unknown, Ordering::Relaxed).max(unknown)
}

/// Returns how many threads were created by whom it is known.
pub(crate) fn from_known() -> u64 {
    // Relaxed: a figure.
    CREATORS_KNOWN.load(Ordering::Relaxed)
}

/// Notes that a thread is about to be created whose creator is known.
pub(crate) fn creator_is_known() {
    // Relaxed: a figure.
    CREATORS_KNOWN.fetch_add(1, Ordering::Relaxed);
}

/// Takes that back, as there is no thread after all.
pub(crate) fn nobody_was_created() {
    // Relaxed: a figure.
    CREATORS_KNOWN.fetch_sub(1, Ordering::Relaxed);
}

/// Gives the block of the forking thread to its copy in the child.
///
/// # Signal safety
///
/// Stores only.
pub(crate) fn forked() {
    if let Some(thread) = current() {
        thread.owner.rename(sys::thread_id());
    }
}

impl Thread {
    fn allocate(owner: u32, depth: usize) -> Option<NonNull<Self>> {
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { System.alloc(Layout::new::<Self>()) };
        let thread = NonNull::new(memory.cast::<Self>())?;
        let tree = Tree::new()?;
        let content = Self {
            node: AtomicPtr::new(ptr::from_ref(tree.root()).cast_mut()),
            labels: AtomicPtr::new(ptr::null_mut()),
            wait: Slot::new(std::array::from_fn(|_| AtomicU64::new(0)), AtomicU64::new(0)),
            seen_tick: Cell::new(0),
            random: Cell::new(0),
            stack: Cell::new(Stack::Unasked),
            found: Cell::new(None),
            opened: Opened::new(),
            owner: Owner::new(owner),
            number: AtomicU64::new(0),
            name: AtomicPtr::new(ptr::null_mut()),
            next: AtomicPtr::new(ptr::null_mut()),
            tree,
            ordinary: Side::new(Memory::SYSTEM, depth, STACK_COPY)?,
            signal: Side::new(MAPPED, depth, 0)?,
        };
        // SAFETY: fresh memory of this layout.
        unsafe { thread.write(content) };
        Some(thread)
    }

    /// Forgets what the last owner was doing; what it counted stays.
    fn reset(&'static self, stack: Stack) {
        self.set_node(self.tree.root());
        self.set_labels(None);
        self.wait.store(None);
        self.seen_tick.set(0);
        self.ordinary.busy.set(false);
        self.signal.busy.set(false);
        self.opened.clear();
        // Relaxed: a figure for people, unique by the addition.
        let number = JOINED.fetch_add(1, Ordering::Relaxed) + 1;
        self.number.store(number, Ordering::Relaxed);
        self.set_name(None);
        // Any odd multiplier spreads the numbers; the generator never leaves zero.
        self.random.set(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        self.stack.set(stack);
        // No handler runs: those of the last owner are gone, this one's are masked or called this.
        self.found.set(None);
    }

    /// Returns the current node of the span stack; any thread may call this.
    #[inline]
    pub(crate) fn node(&self) -> &'static Node {
        // Acquire: pairs with the Release in `set_node`; the node is initialised.
        let node = self.node.load(Ordering::Acquire);
        // SAFETY: set from a reference that lives for ever.
        unsafe { &*node }
    }

    /// Moves to another node. Only the owner may call this.
    #[inline]
    pub(crate) fn set_node(&self, node: &'static Node) {
        // Release: pairs with the Acquire in `node`.
        self.node.store(ptr::from_ref(node).cast_mut(), Ordering::Release);
    }

    /// Returns the labels in force; any thread may call this.
    pub(crate) fn labels(&self) -> Option<&'static Set> {
        // Acquire: pairs with the Release in `set_labels`.
        let set = self.labels.load(Ordering::Acquire);
        // SAFETY: null, or set from a reference that lives for ever.
        unsafe { set.as_ref() }
    }

    /// Puts labels in force. Only the owner may call this.
    pub(crate) fn set_labels(&self, set: Option<&'static Set>) {
        let set = set.map_or(ptr::null_mut(), |set| ptr::from_ref(set).cast_mut());
        // Release: pairs with the Acquire in `labels`.
        self.labels.store(set, Ordering::Release);
    }

    pub(crate) const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Calls `visit` with every row of both tallies; any thread may, at any time.
    pub(crate) fn for_each_row(&self, mut visit: impl FnMut(Row)) {
        self.ordinary.tally.for_each(&mut visit);
        self.signal.tally.for_each(visit);
    }

    /// Returns the bytes held for this block, its tally and its span paths.
    pub(crate) fn bytes(&self) -> usize {
        let side = |side: &Side| side.scratch.1 * size_of::<u64>() + side.tally.bytes();
        size_of::<Self>() + side(&self.ordinary) + side(&self.signal) + self.tree.bytes()
    }

    /// Returns the kernel's number of the thread that owns or last owned this block.
    pub(crate) fn owner_id(&self) -> u32 {
        self.owner.thread()
    }

    /// Returns the owner's name, if it was told; any thread may call this.
    pub(crate) fn name(&self) -> Option<&'static str> {
        // Acquire: pairs with the Release in `set_name`.
        let name = self.name.load(Ordering::Acquire);
        // SAFETY: null, or set from a reference that lives for ever.
        unsafe { name.as_ref() }.copied()
    }

    /// Tells the owner's name; any thread may call this.
    pub(crate) fn set_name(&self, name: Option<&'static &'static str>) {
        let name = name.map_or(ptr::null_mut(), |name| ptr::from_ref(name).cast_mut());
        // Release: pairs with the Acquire in `name`.
        self.name.store(name, Ordering::Release);
    }

    /// Returns the number that the owner was given when it joined, from 1.
    pub(crate) fn number(&self) -> u64 {
        // Relaxed: the number says all.
        self.number.load(Ordering::Relaxed)
    }

    /// Returns the next of a sequence of random numbers (xorshift64). Only the owner may call this.
    #[inline]
    pub(crate) fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// Takes the right to write the tally; nothing if this thread is writing it already, which
    /// happens when what records is itself recorded. Only the owner may call this.
    #[inline]
    pub(crate) fn write(&'static self) -> Option<Writer> {
        let writer = Writer::take(self, &self.ordinary)?;
        if let Stack::Unasked = self.stack.get() {
            let stack = Stack::Asked(sys::stack_bounds());
            // A handler reads it, and must not see one bound without the other.
            sys::while_no_timer_strikes(|| self.stack.set(stack));
        }
        Some(writer)
    }

    /// The same for the tally of signal handlers, in one of them.
    pub(crate) fn write_in_signal(&'static self) -> Option<Writer> {
        Writer::take(self, &self.signal)
    }

    /// Returns the bounds of the stack, if they are known. Only the owner may call this.
    pub(crate) fn bounds(&self) -> Option<StackBounds> {
        match self.stack.get() {
            Stack::Asked(bounds) => bounds,
            Stack::Unasked => None,
        }
    }

    /// Returns bounds of the stack, where a signal has struck; found then if libc was not asked. Only the
    /// owner's signal handlers may call this.
    pub(crate) fn bounds_in_signal(&self, at: Registers) -> Option<StackBounds> {
        self.bounds().or_else(|| {
            let found = sys::stack_from(at, self.found.get());
            self.found.set(found.or(self.found.get()));
            found
        })
    }
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread")
            .field("number", &self.number())
            .field("owner", &self.owner_id())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
