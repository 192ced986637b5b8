//! Tracing spans on the span stack.
//!
//! A span is on the stack of a thread while it is entered there: entering goes from the current node
//! to its child at the span's call site, leaving goes back. Which spans a thread has entered stands
//! in its [`Opened`](crate::buffer::opened::Opened), so leaving looks nothing up, and guards may go
//! in any order. A span's *call* is counted where it is created, since an instrumented future
//! enters its span at every poll.
//!
//! The layer takes no part in tracing-subscriber's filtering but for its [`Vote`] on which
//! callsites are of interest. Which spans it takes follows from their metadata alone, and
//! what a filter of layers needs besides is given to layers that are there when the subscriber is
//! built, not to those that `reload::Layer` brings later. It also looks a span up in the registry
//! each time it is entered or left, some 10 ns. Nothing here allocates, except once for each span in
//! the source; nothing takes a lock or emits events.

#![allow(unsafe_code, reason = "`Layer::downcast_raw` is how tracing-subscriber knows its filters")]

mod site;
mod vote;

use std::any::TypeId;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing_core::span::{Attributes, Id};
use tracing_core::subscriber::Interest;
use tracing_core::{LevelFilter, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use vote::Vote;

use crate::buffer::opened::Open;
use crate::buffer::strays;
use crate::buffer::thread::Thread;
use crate::buffer::tree::Node;
use crate::callsite::CallSite;
use crate::capture::{self, scope};

/// Which spans [`layer_with`] puts on the span stack.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerOptions {
    level: LevelFilter,
}

impl LayerOptions {
    /// Returns the options of [`layer`]: spans of level `INFO` and above.
    #[must_use]
    pub const fn new() -> Self {
        Self { level: LevelFilter::INFO }
    }

    /// Takes spans of this level and above.
    ///
    /// What no layer wants costs nothing, so each level more is paid for by the spans that it adds.
    #[must_use]
    pub fn level(mut self, level: impl Into<LevelFilter>) -> Self {
        self.level = level.into();
        self
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && *metadata.level() <= self.level
    }
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a layer that puts tracing spans of level `INFO` and above on the span stack, beside
/// `#[profiled]` functions.
///
/// It is filtered by itself: it enables spans only, and no event, for itself and for no other
/// layer. A span is shown as `target::name`, which for `#[instrument]` is the path of the function.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let subscriber = tracing_subscriber::registry().with(profiler_core::layer());
/// tracing::subscriber::with_default(subscriber, || {
///     let _span = tracing::info_span!("checkout").entered();
///     assert!(!tracing::enabled!(tracing::Level::ERROR));
/// });
/// ```
///
/// # What is counted
///
/// One call for each span, at the path where it is created, or below the root for one that is
/// created with `parent: None`. Times count at the path where the span is entered, which is another
/// if it is entered elsewhere, in a spawned task for instance.
///
/// A function with both `#[profiled]` and `#[instrument]` is one frame, the former's.
///
/// # Robustness
///
/// Guards may be dropped in any order. A span that is entered twice on a thread is there once. What
/// is left on another thread than it was entered on goes when it closes; what is never left since its guard
/// was forgotten, and is closed on another thread, goes with the next span that is entered some 10 ms later. A
/// thread keeps 32 spans; those entered below are not on the stack, but counted.
///
/// # Places
///
/// The layer works wherever tracing-subscriber puts layers: boxed, in an `Option` or a `Vec`, in a
/// tree of layers, with filters around it or above it, over registries of others, and in a
/// `reload::Layer`. Two in one subscriber show a span once.
///
/// When a layer is reloaded, by another or by `None`, the spans that are entered just then leave all
/// stacks; a layer that comes shows those that are entered from then on.
///
/// A `reload::Layer` hides the filter of what is in it. So that it takes nothing from other layers, a layer
/// in there must let pass whatever nobody else filters out: others see no more for it, but events that
/// nobody wants are made and `enabled!` is true for them, up to the levels that the others leave. To switch
/// the layer on and off, a `reload::Layer` around a filter of its own is cheaper:
///
/// ```
/// use tracing_subscriber::filter::LevelFilter;
/// use tracing_subscriber::layer::{Layer, SubscriberExt};
/// use tracing_subscriber::reload;
///
/// let (switch, handle) = reload::Layer::new(LevelFilter::OFF);
/// let layer = profiler_core::layer().with_filter(switch);
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///     assert!(tracing::info_span!("checkout").is_disabled());
///     handle.reload(LevelFilter::INFO).expect("the subscriber is there");
///     assert!(!tracing::info_span!("checkout").is_disabled());
/// });
/// ```
#[must_use]
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    layer_with(LayerOptions::new())
}

/// Returns a layer as [`layer`] does, with options.
///
/// ```
/// use profiler_core::{LayerOptions, layer_with};
/// use tracing::Level;
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let layer = layer_with(LayerOptions::new().level(Level::DEBUG));
/// tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
///     assert!(!tracing::debug_span!("lookup").is_disabled());
///     assert!(tracing::trace_span!("probe").is_disabled());
/// });
/// ```
#[must_use]
pub fn layer_with<S>(options: LayerOptions) -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    SpanLayer::new(options)
}

/// Numbers given to layers.
static LAYERS: AtomicU32 = AtomicU32::new(0);

struct SpanLayer<S> {
    options: LayerOptions,
    vote: Vote<S>,
    /// Tells its spans from those of other registries.
    number: u32,
}

impl<S> SpanLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn new(options: LayerOptions) -> Self {
        // Relaxed: unique by the addition.
        let number = LAYERS.fetch_add(1, Ordering::Relaxed) + 1;
        strays::born(number);
        Self { vote: Vote::new(options.clone()), options, number }
    }

    /// Returns the call site of a span, or nothing if it is not on the stack or a filter has hidden it.
    fn site(&self, id: &Id, context: &Context<'_, S>) -> Option<&'static CallSite> {
        let metadata = context.metadata(id)?;
        self.options.wants(metadata).then(|| site::of(metadata))
    }

    /// Returns whether this thread has entered the span and not left it.
    fn is_entered(&self, thread: &'static Thread, id: u64, site: &'static CallSite) -> bool {
        let Some(open) = thread.opened.find(self.number, id) else { return false };
        if open.node.is_none_or(|node| node.site() == Some(site)) {
            return true;
        }
        // The registry has given the number anew: another thread has closed the span that had it.
        if let Some(open) = thread.opened.remove(self.number, id) {
            leave(thread, open);
        }
        false
    }

    /// Leaves spans that another thread has closed; false if there is no room nevertheless.
    #[cold]
    #[inline(never)]
    fn purge(&self, thread: &'static Thread, context: &Context<'_, S>) -> bool {
        let is_closed =
            |open: Open| open.layer == self.number && !context.exists(&Id::from_u64(open.id));
        while let Some(open) = thread.opened.remove_first(is_closed) {
            leave(thread, open);
        }
        !thread.opened.is_full()
    }

    /// Leaves a span that was entered elsewhere, or not noted.
    #[cold]
    #[inline(never)]
    fn leave_unknown(&self, thread: &'static Thread, id: &Id, context: &Context<'_, S>) {
        // With no room left it was most likely entered here.
        if !thread.opened.is_full() && self.site(id, context).is_some() {
            strays::left(self.number, id.into_u64());
        }
    }
}

impl<S> Drop for SpanLayer<S> {
    fn drop(&mut self) {
        strays::died(self.number);
        scope::look_for_strays();
    }
}

/// Returns this thread's block, where it stands now.
#[inline]
fn settled() -> Option<&'static Thread> {
    let thread = capture::thread()?;
    scope::settle(thread);
    Some(thread)
}

/// Returns whether a span adds nothing to the frame of that node: both attributes on one function.
fn is_frame_of(node: &Node, span: &'static CallSite) -> bool {
    node.site().is_some_and(|site| site.is_span(Some(span.file()), Some(span.line())))
}

/// Returns whether another layer has just entered that span: they are in one registry.
fn is_just_entered(thread: &'static Thread, layer: u32, id: u64, site: &'static CallSite) -> bool {
    thread.opened.last().is_some_and(|open| {
        let is_there = open.node.is_some_and(|node| ptr::eq(thread.node(), node));
        open.id == id && open.layer != layer && is_there && thread.node().site() == Some(site)
    })
}

fn leave(thread: &'static Thread, open: Open) {
    if let Some(node) = open.node {
        scope::leave_on(thread, node);
    }
}

impl<S> Layer<S> for SpanLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_layer(&mut self, subscriber: &mut S) {
        self.vote.on_layer(subscriber);
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.vote.cast(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.vote.level()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let Some(thread) = settled() else { return };
        let metadata = attributes.metadata();
        if !self.options.wants(metadata) {
            // Its number may be the one noted.
            return thread.opened.forget_created();
        }
        let (site, id) = (site::of(metadata), id.into_u64());
        if thread.opened.is_created_elsewhere(self.number, id, site) {
            return;
        }
        thread.opened.created(self.number, id, site, self.vote.is_registry());
        let current = thread.node();
        let parent = if attributes.is_root() { thread.tree().root() } else { current };
        if !is_frame_of(current, site) {
            scope::count(thread, parent, site);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(thread) = settled() else { return };
        let opened = &thread.opened;
        if opened.wants_purge() && !self.purge(thread, &context) {
            return;
        }
        let (layer, number) = (self.number, id.into_u64());
        // PERF: a span that was just created, as most are, needs no look-up.
        let site = match opened.take_created(layer, number) {
            Some(site) => Some(site),
            None => match self.site(id, &context) {
                Some(site) if self.is_entered(thread, number, site) => None,
                Some(site) if is_just_entered(thread, layer, number, site) => None,
                Some(site) => Some(site),
                None => return,
            },
        };
        let site = site.filter(|site| !is_frame_of(thread.node(), site));
        let node = site.and_then(|site| scope::push_on(thread, site, false));
        opened.push(Open { layer, id: number, node, entered: strays::now() });
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        let Some(thread) = settled() else { return };
        match thread.opened.remove(self.number, id.into_u64()) {
            Some(open) => leave(thread, open),
            None => self.leave_unknown(thread, id, &context),
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let id = id.into_u64();
        if let Some(thread) = settled() {
            thread.opened.forget_created();
            // A guard was forgotten, or dropped on another thread.
            while let Some(open) = thread.opened.remove(self.number, id) {
                leave(thread, open);
            }
        }
        if strays::close(self.number, id) {
            scope::look_for_strays();
        }
    }

    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(ptr::from_ref(self).cast());
        }
        self.vote.downcast_raw(id)
    }
}
