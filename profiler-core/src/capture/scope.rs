//! `#[profiled]` functions and `span!`: onto the span stack, and off it.
//!
//! Entering finds the child of the current node at that call site, counts the call and makes it the
//! current node; leaving goes back to the parent. Calls are exact.
//!
//! Times are sampled. A *transition* is a change of the current node; the interval until the next
//! transition is time of the new node itself. Each transition takes the new node's *step* off a
//! countdown drawn from an exponential distribution of mean [`MEAN`]; when it runs out, the interval
//! that begins is timed. So an interval of step s is timed with probability p = 1 − e^(−s/MEAN),
//! whatever its length, and counts 1/p times: unbiased (Horvitz-Thompson). A node whose last
//! intervals were long gets a step that always runs out, since two clock reads cost nothing beside
//! them; that decision rests on the past only, so it biases nothing.

use std::marker::PhantomData;

use crate::buffer::thread::Thread;
use crate::buffer::tree::Node;
use crate::callsite::{CallSite, Name};
use crate::capture;
use crate::clock;

/// One interval in so many is timed where intervals are short.
const MEAN: f64 = 256.0;
/// 1 / (1 − e^(−1/MEAN)): what an interval of step 1 counts for.
const WEIGHT: f64 = 256.500_325_5;
/// Runs any countdown out.
const ALWAYS: u32 = u32::MAX;
/// So many intervals of a new node are all timed: what happens rarely is exact.
const FIRST: u32 = 16;
/// Nanoseconds from which on an interval is long: two clock reads are one part in a hundred of it.
const LONG: u64 = 2_000;

/// Where calls are counted that have no room in the tree.
static OVERFLOW: CallSite = CallSite::new(Name::Literal("[overflow]"), "", 0);

/// A function that is running; leaves the span stack when dropped.
#[derive(Debug)]
#[must_use = "the span ends when this is dropped"]
pub struct Entered {
    /// Nothing while the profiler is off or where there was no room.
    node: Option<&'static Node>,
    on_this_thread: PhantomData<*const ()>,
}

/// Enters a call site on this thread, until the guard is dropped.
#[inline]
pub fn enter(site: &'static CallSite) -> Entered {
    // One load and one branch before the start; the guard's drop has the other branch.
    let node = if capture::is_on() { push(site, true) } else { None };
    Entered { node, on_this_thread: PhantomData }
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        if let Some(node) = self.node {
            leave(node);
        }
    }
}

/// Moves to the child of the current node at that call site, and counts a call.
#[inline]
pub(crate) fn push(site: &'static CallSite, counts: bool) -> Option<&'static Node> {
    let thread = capture::thread()?;
    let parent = thread.node();
    let node = match parent.cached_child(site) {
        Some(node) => node,
        None => find(thread, parent, site, counts)?,
    };
    if counts {
        node.count();
    }
    go(thread, node);
    Some(node)
}

/// Leaves a node that `push` went to.
#[inline]
pub(crate) fn leave(node: &'static Node) {
    if let Some(thread) = capture::thread() {
        match node.parent() {
            Some(parent) if std::ptr::eq(thread.node(), node) => go(thread, parent),
            _ => remove(thread, node),
        }
    }
}

/// Makes a node the current one.
#[inline]
pub(crate) fn go(thread: &'static Thread, node: &'static Node) {
    let steps = thread.countdown.get() - i64::from(node.pace.step.get());
    thread.countdown.set(steps);
    if steps < 0 {
        time(thread, thread.node(), node);
    }
    thread.set_node(node);
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
    let child = writer.child(parent, site, ALWAYS, capture::max_spans());
    if child.is_none() && counts {
        writer.child(thread.tree().root(), &OVERFLOW, ALWAYS, usize::MAX)?.count();
    }
    child
}

/// Takes a node off the path that others were entered on meanwhile and are not left yet, as a
/// tracing span's guard may do. A node that is not on the path has been left with one below it.
#[cold]
#[inline(never)]
pub(crate) fn remove(thread: &'static Thread, node: &'static Node) {
    let current = thread.node();
    let Some(below) = node.parent().filter(|_| current.is_below(node)) else { return };
    let above = |n: &Node| n.depth() - node.depth();
    let mut path = below;
    for index in (0..above(current)).rev() {
        let site = current.ancestor(index).and_then(Node::site);
        path = site.and_then(|site| find(thread, path, site, false)).unwrap_or(path);
    }
    go(thread, path);
}

/// Goes back to a node, whatever has been entered since and not left.
pub(crate) fn restore(thread: &'static Thread, node: &'static Node, opened: usize) {
    thread.opened.truncate(opened);
    if !std::ptr::eq(thread.node(), node) {
        go(thread, node);
    }
}

/// Ends the interval that is being timed, if one is, and decides on the one that begins.
#[cold]
#[inline(never)]
fn time(thread: &'static Thread, left: &'static Node, entered: &'static Node) {
    let now = clock::now();
    if let Some((start, weight)) = thread.interval.take() {
        let length = now.saturating_sub(start);
        left.add_busy((length as f64 * weight).round() as u64);
        learn(left, length);
    }
    let step = entered.pace.step.get();
    // The end of an interval is a transition like any other: the next countdown starts here.
    let uniform = ((thread.random() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    let countdown = -uniform.ln() * MEAN - f64::from(step);
    if countdown >= 0.0 || entered.site().is_none() {
        thread.countdown.set(countdown.max(0.0) as i64);
        return;
    }
    let weight = if step == ALWAYS { 1.0 } else { WEIGHT };
    thread.interval.set(Some((now, weight)));
    // The next transition comes here too.
    thread.countdown.set(-1);
}

/// Takes an interval's length into what decides on the next.
fn learn(node: &Node, length: u64) {
    let pace = &node.pace;
    let seen = pace.seen.get().saturating_add(1);
    pace.seen.set(seen);
    let mean = if seen == 1 { length } else { pace.mean.get() / 8 * 7 + length / 8 };
    pace.mean.set(mean);
    pace.step.set(if seen < FIRST || mean >= LONG { ALWAYS } else { 1 });
}
