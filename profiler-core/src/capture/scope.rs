//! `#[profiled]` functions and `span!`: onto the span stack, and off it.
//!
//! Entering finds the child of the current node at that call site, counts the call and makes it the
//! current node; leaving goes back to the parent. Calls are exact.
//!
//! Times are sampled by a clock that ticks about every ten milliseconds, at irregular moments, in
//! the profiler's own thread. Whenever the current node changes and the clock has ticked since the
//! last change, the time between the ticks goes to the node that is left. An interval from a to b is
//! so charged last(b) − last(a), where last(x) is the time of the last tick before x; over the phase
//! of the ticks, last(x) falls short of x by the same mean for every x, so what is charged is b − a
//! in the mean, whatever its length. All charges of a thread add up to the time that passed. It
//! costs a load and a comparison; reading a clock for one change in many was tried, and one
//! preemption that hit a timed interval spoilt the figures of a minute.
//!
//! The same comparison finds out that tracing spans are over which this thread was not told of (see
//! `buffer::strays`): who ends one lets the clock look as if it had ticked.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::budget;
use crate::buffer::opened::{Mark, Open};
use crate::buffer::thread::Thread;
use crate::buffer::tree::Node;
use crate::callsite::{CallSite, Name};
use crate::capture;
use crate::clock;

/// When the clock last ticked, in the profiler's time.
static TICK: AtomicU64 = AtomicU64::new(0);

/// Lets the clock tick.
pub(crate) fn tick() {
    // Relaxed: the number stands for itself. 0 would mean that it never ticked.
    TICK.store(clock::now().max(1), Ordering::Relaxed);
}

/// Has every thread look, at its next step, whether spans that it has entered are over.
#[cfg(feature = "tracing")]
pub(crate) fn look_for_strays() {
    // Release: pairs with the fence in `settle_now`. A nanosecond more is nothing among milliseconds; if a
    // tick that comes at the same time takes its place, that is seen as well.
    TICK.fetch_add(1, Ordering::Release);
}

/// Where calls are counted that have no room in the tree.
static OVERFLOW: CallSite = CallSite::new(Name::Literal("[overflow]"), "", 0);

/// Puts the rest of a block on the span stack, under a name of its own, until the guard is dropped.
///
/// Calls, times and waits within count below this name, as in a function with `#[profiled]`. The
/// name is a constant. The guard belongs to its thread: around an `.await`, write a function with
/// `#[profiled]` or a tracing span.
///
/// ```
/// use profiler_core::Kind;
///
/// profiler_core::start(profiler_core::Config::default())?;
/// for order in ["tea", "milk"] {
///     let _span = profiler_core::span!("reserve");
///     assert!(!order.is_empty());
/// }
/// let profile = profiler_core::snapshot(Kind::Spans).expect("spans are known everywhere");
/// let reserve = profile.samples().find(|sample| {
///     sample.frames().any(|frame| frame.function == Some("reserve"))
/// });
/// assert_eq!(reserve.expect("it ran").values()[0], 2);
/// # Ok::<(), profiler_core::StartError>(())
/// ```
#[macro_export]
macro_rules! span {
    ($name:expr $(,)?) => {
        $crate::__private::enter({
            static SITE: $crate::__private::CallSite = $crate::__private::CallSite::new(
                $crate::__private::Name::Literal($name),
                ::core::file!(),
                ::core::line!(),
            );
            &SITE
        })
    };
}

/// A function that is running; leaves the span stack when dropped.
#[derive(Debug)]
#[must_use = "the span ends when this is dropped"]
pub struct Entered {
    /// Where the thread was and where it went; nothing while the profiler is off or where there was
    /// no room.
    step: Option<(&'static Node, &'static Node)>,
    on_this_thread: PhantomData<*const ()>,
}

/// Enters a call site on this thread, until the guard is dropped.
#[inline]
pub fn enter(site: &'static CallSite) -> Entered {
    // One load and one branch before the start; the guard's drop has the other branch.
    let step = if capture::is_on() { step(site) } else { None };
    Entered { step, on_this_thread: PhantomData }
}

#[inline]
fn step(site: &'static CallSite) -> Option<(&'static Node, &'static Node)> {
    let thread = capture::thread()?;
    settle(thread);
    let parent = thread.node();
    push_below(thread, parent, site, true).map(|node| (parent, node))
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if let Some((parent, node)) = self.step
            && let Some(thread) = capture::thread()
        {
            settle(thread);
            // PERF: the parent comes from a register. Loaded from the node it would depend on the
            // load of the node, and that on the last store to the same place: some 3 ns a call.
            if std::ptr::eq(thread.node(), node) {
                thread.set_node(parent)
            } else {
                remove(thread, node)
            }
        }
    }
}

/// Moves to the child of the current node at that call site, and counts a call.
#[inline]
pub(crate) fn push(site: &'static CallSite, counts: bool) -> Option<&'static Node> {
    push_on(capture::thread()?, site, counts)
}

/// Does what [`push`] does; the thread is the calling one.
#[inline]
pub(crate) fn push_on(
    thread: &'static Thread,
    site: &'static CallSite,
    counts: bool,
) -> Option<&'static Node> {
    settle(thread);
    push_below(thread, thread.node(), site, counts)
}

/// Does what [`push`] does for a thread that is settled, and its current node.
#[inline]
fn push_below(
    thread: &'static Thread,
    parent: &'static Node,
    site: &'static CallSite,
    counts: bool,
) -> Option<&'static Node> {
    let node = match parent.cached_child(site) {
        Some(node) => node,
        None => find(thread, parent, site, counts)?,
    };
    if counts {
        node.count();
    }
    thread.set_node(node);
    Some(node)
}

/// Leaves a node that `push_on` went to; the thread is the calling one.
#[inline]
pub(crate) fn leave_on(thread: &'static Thread, node: &'static Node) {
    settle(thread);
    match node.parent() {
        Some(parent) if std::ptr::eq(thread.node(), node) => thread.set_node(parent),
        _ => remove(thread, node),
    }
}

/// Counts a call at that call site below a node, which it does not make the current one.
#[cfg(feature = "tracing")]
#[inline]
pub(crate) fn count(thread: &'static Thread, parent: &'static Node, site: &'static CallSite) {
    if let Some(node) = parent.cached_child(site).or_else(|| find(thread, parent, site, true)) {
        node.count();
    }
}

/// Charges the current node with the time until now, and leaves spans that are over. Before any change of
/// the current node, and before it is read to stay.
#[inline]
pub(crate) fn settle(thread: &'static Thread) {
    // Relaxed: as in `tick`.
    let tick = TICK.load(Ordering::Relaxed);
    if tick != thread.seen_tick.get() {
        settle_now(thread, tick);
    }
}

#[cold]
#[inline(never)]
fn settle_now(thread: &'static Thread, tick: u64) {
    if thread.opened.is_empty() {
        return charge(thread, tick);
    }
    // The tree is written like a tally: not from within itself. Then the next step does it.
    let Some(writer) = thread.write() else { return };
    drop(writer);
    charge(thread, tick);
    // Acquire: pairs with the Release in `look_for_strays`.
    fence(Ordering::Acquire);
    // What is not known to be over is asked for when the layer has its next turn.
    thread.opened.make_due();
    while let Some(open) = thread.opened.remove_first(Open::is_over) {
        if let Some(node) = open.node {
            leave_on(thread, node);
        }
    }
}

#[cold]
#[inline(never)]
fn find(
    thread: &'static Thread,
    parent: &'static Node,
    site: &'static CallSite,
    counts: bool,
) -> Option<&'static Node> {
    // The tree is written like a tally: not from within itself.
    let writer = thread.write()?;
    let room = budget::has_room_for_path(thread.tree().bytes());
    let child = writer.child(parent, site, room);
    if child.is_none() && counts {
        writer.child(thread.tree().root(), &OVERFLOW, true)?.count();
    }
    child
}

/// Takes a node off the path that others were entered on meanwhile and are not left yet, as a
/// tracing span's guard may do.
///
/// A node that is not on the path was moved when one above it was removed, and is now that of the
/// same call site nearer to the root; or it was left with one below it.
#[cold]
#[inline(never)]
fn remove(thread: &'static Thread, node: &'static Node) {
    let current = thread.node();
    let moved = |n: &&Node| n.site() == node.site() && n.depth() < node.depth();
    let node = if current.is_below(node) { Some(node) } else { current.up().find(moved) };
    let Some((node, below)) = node.and_then(|node| Some((node, node.parent()?))) else { return };
    let above = |n: &Node| n.depth() - node.depth();
    let mut path = below;
    for index in (0..above(current)).rev() {
        let site = current.ancestor(index).and_then(Node::site);
        path = site.and_then(|site| find(thread, path, site, false)).unwrap_or(path);
    }
    thread.set_node(path);
}

/// Goes back to a node, whatever has been entered since the mark and not left.
pub(crate) fn restore(thread: &'static Thread, node: &'static Node, mark: Mark) {
    settle(thread);
    thread.set_node(node);
    // What has been left since is on the path of this node still.
    thread.opened.rewind(mark, |open| {
        if let Some(node) = open.node {
            leave_on(thread, node);
        }
    });
}

/// Gives the time between two ticks to the node that was current when the later one came.
#[cold]
#[inline(never)]
fn charge(thread: &'static Thread, tick: u64) {
    let seen = thread.seen_tick.replace(tick);
    // The first change of a thread's life only starts the clock.
    if seen != 0 && thread.node().site().is_some() {
        thread.node().add_busy(tick.saturating_sub(seen));
    }
}
