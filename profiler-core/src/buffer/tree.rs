//! The span stack: one pointer to the current node of the thread's calling-context tree.
//!
//! A node is a path: a call site below a parent. Nodes live as long as their tree, which ends after its
//! thread, so a path is one word that any thread or signal handler can read and follow to the root while
//! the owner goes on. Calls and
//! times are counted in the node. Only the owner adds nodes; it finds a child through a small cache
//! in the node, else through the list of children.

#![allow(unsafe_code, reason = "nodes that live as long as their tree, linked by pointers")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::{fmt, iter};

use super::rest::Rest;
use crate::callsite::CallSite;

/// Entries of a node's cache of children; a power of two.
const CACHE: usize = 4;
/// Nodes fetched at a time: 24 take about 2.5 KiB.
const CHUNK: usize = 24;
/// A path is at most so long; deeper recursion stays on its last node.
pub(crate) const MAX_DEPTH: u32 = 256;

/// A path: a call site below a parent. Lives as long as its tree.
pub(crate) struct Node {
    /// Nothing for the root.
    site: Option<&'static CallSite>,
    parent: Option<&'static Node>,
    depth: u32,
    calls: AtomicU64,
    busy: AtomicU64,
    idle: AtomicU64,
    /// Children seen last, by a few bits of their call site's address; the owner's.
    cache: [Cell<Option<&'static Node>>; CACHE],
    first_child: AtomicPtr<Node>,
    /// The child added before this one, or null; written before the node is seen.
    sibling: *const Node,
}

// SAFETY: the cells are touched by the owning thread alone; all else is immutable or atomic.
unsafe impl Sync for Node {}

impl Node {
    const fn new(site: Option<&'static CallSite>, parent: Option<&'static Self>) -> Self {
        Self {
            site,
            parent,
            depth: match parent {
                Some(parent) => parent.depth + 1,
                None => 0,
            },
            calls: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            cache: [const { Cell::new(None) }; CACHE],
            first_child: AtomicPtr::new(ptr::null_mut()),
            sibling: ptr::null(),
        }
    }

    #[inline]
    pub(crate) const fn site(&self) -> Option<&'static CallSite> {
        self.site
    }

    #[inline]
    pub(crate) const fn parent(&self) -> Option<&'static Self> {
        self.parent
    }

    /// Returns the number of nodes above this one.
    pub(crate) const fn depth(&self) -> u32 {
        self.depth
    }

    /// Returns this node and those above it, up to the root.
    pub(crate) fn up(&'static self) -> impl Iterator<Item = &'static Self> {
        iter::successors(Some(self), |node| node.parent)
    }

    /// Returns the node so many levels above this one; 0 is this one.
    pub(crate) fn ancestor(&'static self, levels: u32) -> Option<&'static Self> {
        self.up().nth(levels as usize)
    }

    /// Returns the call sites from this node to the root, leaf first.
    pub(crate) fn path(&'static self) -> impl Iterator<Item = &'static CallSite> {
        self.up().filter_map(|node| node.site)
    }

    /// Returns whether this node is `other` or lies below it.
    pub(crate) fn is_below(&'static self, other: &Self) -> bool {
        self.up().any(|node| ptr::eq(node, other))
    }

    /// Returns the path of this node without another one, as far as the tree has it; this node if the
    /// other one is not on it. Any thread may call this.
    pub(crate) fn without(&'static self, other: &Self) -> &'static Self {
        let Some(below) = other.parent.filter(|_| self.is_below(other)) else { return self };
        let above = (0..self.depth - other.depth).rev().filter_map(|index| self.ancestor(index));
        above.fold(below, |path, node| {
            let is_same = |child: &&'static Self| match (child.site, node.site) {
                (Some(child), Some(site)) => ptr::eq(child, site),
                _ => false,
            };
            path.children().find(is_same).unwrap_or(path)
        })
    }

    /// Returns calls, nanoseconds busy and nanoseconds idle.
    pub(crate) fn values(&self) -> [i64; 3] {
        // Relaxed: each sum stands for itself.
        [&self.calls, &self.busy, &self.idle].map(|sum| sum.load(Ordering::Relaxed).cast_signed())
    }

    /// Adds calls, nanoseconds busy and nanoseconds idle. Only the owner may call this.
    pub(crate) fn add(&self, [calls, busy, idle]: [i64; 3]) {
        add(&self.calls, calls.cast_unsigned());
        add(&self.busy, busy.cast_unsigned());
        add(&self.idle, idle.cast_unsigned());
    }

    /// Counts a call. Only the owner may call this.
    #[inline]
    pub(crate) fn count(&self) {
        add(&self.calls, 1);
    }

    /// Adds nanoseconds in which this was the current node. Only the owner may call this.
    pub(crate) fn add_busy(&self, nanoseconds: u64) {
        add(&self.busy, nanoseconds);
    }

    /// Adds nanoseconds between two polls. Only the owner may call this.
    pub(crate) fn add_idle(&self, nanoseconds: u64) {
        add(&self.idle, nanoseconds);
    }

    #[inline]
    fn slot(&self, site: &'static CallSite) -> &Cell<Option<&'static Self>> {
        // Call sites are statics of 48 bytes: the bits above the lowest five differ.
        &self.cache[(ptr::from_ref(site).addr() >> 5) % CACHE]
    }

    /// Returns the child of that call site if the cache knows it. Only the owner may call this.
    #[inline]
    pub(crate) fn cached_child(&self, site: &'static CallSite) -> Option<&'static Self> {
        self.slot(site).get().filter(|child| child.site.is_some_and(|known| ptr::eq(known, site)))
    }

    /// Returns the children, newest first; any thread may call this.
    pub(crate) fn children(&self) -> impl Iterator<Item = &'static Self> {
        // Acquire: pairs with the Release in `Tree::child`; the node is initialised.
        let mut next = self.first_child.load(Ordering::Acquire).cast_const();
        iter::from_fn(move || {
            // SAFETY: null, or a node that was initialised before it was linked; it ends with this one.
            let child: &'static Self = unsafe { next.as_ref() }?;
            next = child.sibling;
            Some(child)
        })
    }
}

/// By its path: nodes know each other both ways, and the cells are the owner's.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sites = iter::successors(Some(self), |node| node.parent);
        f.debug_list().entries(sites.filter_map(|node| node.site).map(CallSite::name)).finish()
    }
}

#[inline]
fn add(sum: &AtomicU64, value: u64) {
    // Relaxed: one writer, and readers want each sum by itself.
    sum.store(sum.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

/// Some nodes, and the chunk before.
struct Chunk {
    older: *mut Chunk,
    nodes: [MaybeUninit<Node>; CHUNK],
}

/// The nodes of one thread.
#[derive(Debug)]
pub(crate) struct Tree {
    root: &'static Node,
    /// Nodes made; the owner's, but read by others.
    nodes: AtomicU64,
    memory: NodeMemory,
}

/// Where the nodes of a tree are; the owner's.
#[derive(Debug)]
struct NodeMemory {
    /// The newest chunk, or null.
    chunk: Cell<*mut Chunk>,
    /// Its unused end, and how many nodes that takes.
    free: Rest<Node>,
}

// SAFETY: the memory is touched by the owner alone.
unsafe impl Sync for Tree {}
// SAFETY: nodes are not bound to a thread.
unsafe impl Send for Tree {}

impl Tree {
    /// Makes a tree of a root; nothing if the system has no memory.
    pub(crate) fn new() -> Option<Self> {
        let memory = NodeMemory { chunk: Cell::new(ptr::null_mut()), free: Rest::new() };
        let root = memory.allocate(Node::new(None, None))?;
        Some(Self { root, nodes: AtomicU64::new(1), memory })
    }

    pub(crate) const fn root(&self) -> &'static Node {
        self.root
    }

    /// Returns the bytes that the nodes take.
    pub(crate) fn bytes(&self) -> usize {
        // Relaxed: a figure for people, and the owner's own limit.
        let nodes = self.nodes.load(Ordering::Relaxed) as usize;
        nodes.div_ceil(CHUNK) * size_of::<Chunk>()
    }

    /// Returns the child of `parent` at that call site, making it if there is none and `room` for it;
    /// nothing when there is none, the path is at its longest, or the system has no memory.
    ///
    /// # Safety
    ///
    /// `parent` is of this tree, and only the owner calls this, not from within itself.
    pub(crate) unsafe fn child(
        &self,
        parent: &'static Node,
        site: &'static CallSite,
        room: bool,
    ) -> Option<&'static Node> {
        let known = parent.children().find(|child| child.site.is_some_and(|s| ptr::eq(s, site)));
        let child = match known {
            Some(child) => child,
            None if parent.depth >= MAX_DEPTH || !room => return None,
            None => {
                let mut node = Node::new(Some(site), Some(parent));
                // Relaxed: the owner's own store.
                node.sibling = parent.first_child.load(Ordering::Relaxed);
                let node = self.memory.allocate(node)?;
                // Release: pairs with the Acquire in `children`.
                parent.first_child.store(ptr::from_ref(node).cast_mut(), Ordering::Release);
                // Relaxed: as in `bytes`.
                self.nodes.store(self.nodes.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                node
            }
        };
        parent.slot(site).set(Some(child));
        Some(child)
    }

    /// Calls `visit` with every node but the root. Any thread may while the tree does not end.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&'static Node)) {
        let mut open: Vec<_> = self.root.children().collect();
        while let Some(node) = open.pop() {
            visit(node);
            open.extend(node.children());
        }
    }

    /// Ends the tree and all its nodes.
    ///
    /// # Safety
    ///
    /// Nobody has a node of it.
    pub(crate) unsafe fn end(self) {
        let mut chunk = self.memory.chunk.get();
        while let Some(place) = NonNull::new(chunk) {
            // SAFETY: a chunk that `allocate` has made.
            chunk = unsafe { place.as_ref() }.older;
            // SAFETY: from the system's allocator, with this layout. Nodes have nothing to drop.
            unsafe { System.dealloc(place.as_ptr().cast(), Layout::new::<Chunk>()) };
        }
    }
}

impl NodeMemory {
    fn allocate(&self, node: Node) -> Option<&'static Node> {
        let (mut next, mut left) = self.free.get();
        if left == 0 {
            // SAFETY: the layout is not of size zero.
            let memory = unsafe { System.alloc(Layout::new::<Chunk>()) };
            let mut place = NonNull::new(memory.cast::<MaybeUninit<Chunk>>())?;
            // SAFETY: fresh memory of this layout, which need not be initialised.
            let chunk = unsafe { place.as_mut() }.as_mut_ptr();
            // SAFETY: as above; a field of it.
            let older = unsafe { &raw mut (*chunk).older };
            // SAFETY: as above.
            unsafe { older.write(self.chunk.get()) };
            self.chunk.set(chunk);
            // SAFETY: as above.
            next = unsafe { &raw mut (*chunk).nodes }.cast();
            left = CHUNK;
        }
        let mut place = NonNull::new(next)?;
        self.free.set(next.wrapping_add(1), left - 1);
        // SAFETY: within a chunk, unused so far.
        unsafe { place.write(node) };
        // SAFETY: just written; it ends with the tree, and is never borrowed mutably.
        Some(unsafe { place.as_mut() })
    }
}
