//! What the profiler keeps of a thread: its span stack, its labels, what it waits for, its tally.
//!
//! The thread-local is one pointer without a destructor, so it can be read at any time of a
//! thread's life. Blocks are never freed; see `registry.rs` for when the next thread takes one over.

#![allow(unsafe_code, reason = "a block that one thread writes and others read")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use super::opened::Opened;
use super::registry::{Block, Owner, Registry};
use super::side::{MAPPED, STACK_COPY, Side};
use super::slot::Slot;
use super::table::Memory;
use super::tree::{Node, Tree};
use crate::budget::Part;
use crate::labels::{Cache, Set};
use crate::sys::{self, Process, Registers, StackBounds};

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
    /// Label sets that it has used.
    pub(crate) label_cache: Cache,
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
    tree: UnsafeCell<Tree>,
    /// Written by the thread's ordinary code.
    pub(super) ordinary: Side,
    /// Written by the thread's signal handlers, which may strike while the other one is written.
    pub(super) signal: Side,
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
/// Another one: the owner of a block of which something is being ended.
const ARCHIVE: u32 = NOBODY - 1;

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
    let here = Process::current();
    // A number that could not be had is 0, and would be anybody's.
    let claimed = (owner != 0).then(|| THREADS.claim(owner, is_left(here, owner)));
    let make = || Some(THREADS.push(Thread::allocate(owner, here.number(), depth)?));
    let thread = claimed.flatten().or_else(make)?;
    thread.owner.settle(owner, here.number());
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
    let here = Process::current();
    let is_left = is_left(here, owner);
    let is_free = |thread, process| thread == NOBODY || is_left(thread, process);
    let thread = THREADS.claim_now(owner, is_free)?;
    thread.owner.settle(owner, here.number());
    thread.reset(Stack::Unasked);
    CURRENT.set(Some(thread));
    Some(thread)
}

/// Returns what tells whether a block is for the next thread that asks, which is `asks`: its owner is gone for certain, and it is
/// not set aside for signals.
fn is_left(here: Process, asks: u32) -> impl Fn(u32, u32) -> bool {
    move |thread, process| {
        !matches!(thread, NOBODY | ARCHIVE)
            && here.knows(process)
            && (thread == asks || !sys::is_thread_alive(thread))
    }
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
    let here = Process::current();
    let mut is_any_left = true;
    for _ in spare..without {
        let claim = || THREADS.claim_now(ARCHIVE, is_left(here, ARCHIVE));
        if let Some(left) = is_any_left.then(claim).flatten() {
            left.end_claims();
            left.owner.give_back(NOBODY);
            continue;
        }
        is_any_left = false;
        let Some(thread) = Thread::allocate(NOBODY, here.number(), depth) else { return };
        THREADS.push(thread);
    }
}

/// Returns the blocks of all threads, also of those that are gone.
pub(crate) fn all() -> impl Iterator<Item = &'static Thread> {
    THREADS.iter()
}

/// Returns how many threads ever joined.
pub(super) fn joined() -> u64 {
    // Relaxed: a figure.
    JOINED.load(Ordering::Relaxed)
}

/// Gives the block of the forking thread to its copy in the child.
///
/// # Signal safety
///
/// Stores and system calls.
pub(crate) fn forked() {
    if let Some(thread) = current() {
        thread.settle();
    }
}

fn new_tree() -> Option<Tree> {
    let tree = Tree::new()?;
    Part::Paths.add(tree.bytes());
    Some(tree)
}

impl Thread {
    fn allocate(owner: u32, process: u32, depth: usize) -> Option<NonNull<Self>> {
        // What was made before something is refused goes again.
        let ordinary = Side::new(Memory::SYSTEM, depth, STACK_COPY)?;
        let signal = Side::new(MAPPED, depth, 0)?;
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { System.alloc(Layout::new::<Self>()) };
        let thread = NonNull::new(memory.cast::<Self>())?;
        let Some(tree) = new_tree() else {
            // SAFETY: made above, with this layout.
            unsafe { System.dealloc(memory, Layout::new::<Self>()) };
            return None;
        };
        let content = Self {
            node: AtomicPtr::new(ptr::from_ref(tree.root()).cast_mut()),
            labels: AtomicPtr::new(ptr::null_mut()),
            wait: Slot::new(std::array::from_fn(|_| AtomicU64::new(0)), AtomicU64::new(0)),
            seen_tick: Cell::new(0),
            random: Cell::new(0),
            label_cache: Cache::new(),
            stack: Cell::new(Stack::Unasked),
            found: Cell::new(None),
            opened: Opened::new(),
            owner: Owner::new(owner, process),
            number: AtomicU64::new(0),
            name: AtomicPtr::new(ptr::null_mut()),
            next: AtomicPtr::new(ptr::null_mut()),
            tree: UnsafeCell::new(tree),
            ordinary,
            signal,
        };
        // SAFETY: fresh memory of this layout.
        unsafe { thread.write(content) };
        Some(thread)
    }

    /// Says whose this is, in the child of a fork: until then nobody there takes it over.
    #[cold]
    fn settle(&self) {
        self.owner.settle(sys::thread_id(), sys::process_number());
    }

    /// Forgets what the last owner was doing; what it counted stays.
    fn reset(&'static self, stack: Stack) {
        self.set_node_anew(self.tree());
        self.set_labels(None);
        self.label_cache.reset();
        self.wait.store(None);
        self.seen_tick.set(0);
        for side in [&self.ordinary, &self.signal] {
            // SAFETY: this thread owns the block now, and has no writer yet.
            unsafe { side.tally.recover() };
        }
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

    /// Returns the current node without spans that are over, though the thread was not told and has
    /// not gone on since; nothing at the root. Any thread may call this, and signal handlers.
    pub(crate) fn shown_node(&self) -> Option<&'static Node> {
        let node = self.opened.over().fold(self.node(), |node, over| node.without(over));
        Some(node).filter(|node| node.site().is_some())
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

    /// Returns the tree of span paths; for the owner, and for whoever has the archive.
    pub(crate) const fn tree(&self) -> &Tree {
        // SAFETY: it is replaced by whoever has the archive, and only while nobody owns the block.
        unsafe { &*self.tree.get() }
    }

    /// Begins at the root, with no span entered.
    fn set_node_anew(&self, tree: &Tree) {
        self.set_node(tree.root());
        self.opened.clear();
    }

    /// Returns the kernel's number of the thread that owns or last owned this block.
    pub(crate) fn owner_id(&self) -> u32 {
        self.owner.thread()
    }

    /// Returns whether the block is or was a thread's, and not set aside.
    pub(super) fn is_owned(&self) -> bool {
        !matches!(self.owner_id(), 0 | NOBODY | ARCHIVE)
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

    /// Sees to what is not known yet of a thread that begins to write. Only the owner may call this.
    #[inline]
    pub(super) fn prepare(&self) {
        if self.owner.process() != sys::process_number() {
            // In a child that was forked without a handler.
            self.settle();
        }
        if let Stack::Unasked = self.stack.get() {
            let stack = Stack::Asked(sys::stack_bounds());
            // A handler reads it, and must not see one bound without the other.
            sys::while_no_timer_strikes(|| self.stack.set(stack));
        }
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

mod archived;
#[cfg(test)]
mod tests;
