//! Tracing spans on the span stack.
//!
//! A span is on the stack of a thread while it is entered there: entering goes from the current node
//! to its child at the span's call site, leaving goes back. Which spans a thread has entered stands
//! in its [`Opened`](crate::buffer::opened::Opened), so leaving looks nothing up, and guards may go
//! in any order. A span's *call* is counted where it is created, since an instrumented future
//! enters its span at every poll.
//!
//! The layer carries its own per-layer filter. Only the hooks that filtering needs go through
//! tracing-subscriber's `Filtered`: that looks a span up in the registry, some 10 ns, each time it is
//! entered or left. Whether a span passes follows from its metadata alone, so one look-up on
//! entering tells both the call site and that. Nothing here allocates, except once for each span in
//! the source; nothing takes a lock or emits events.

#![allow(unsafe_code, reason = "`Layer::downcast_raw` is how tracing-subscriber knows its filters")]

mod site;

use std::any::TypeId;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing_core::span::{Attributes, Id};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, LevelFilter, Metadata, Subscriber};
use tracing_subscriber::filter::Filtered;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use crate::buffer::opened::Open;
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
/// is left on another thread than it was entered on goes when it closes. A thread keeps 32 spans;
/// those entered below are not on the stack, but counted.
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
    // Relaxed: unique by the addition.
    let layer = LAYERS.fetch_add(1, Ordering::Relaxed) + 1;
    let calls = Calls { layer, is_registry: false };
    SpanLayer { filtered: Filtered::new(calls, Wanted(options)), number: layer }
}

/// What is behind the filter: counts calls.
#[derive(Debug)]
struct Calls {
    layer: u32,
    /// Whether the thread that creates a span is the only one that may give its number again, as
    /// long as it lives. That is so in tracing-subscriber's registry.
    is_registry: bool,
}

impl<S: Subscriber> Layer<S> for Calls {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let Some(thread) = capture::thread() else { return };
        let site = site::of(attributes.metadata());
        if self.is_registry {
            thread.opened.created(self.layer, id.into_u64(), site);
        }
        let current = thread.node();
        let parent = if attributes.is_root() { thread.tree().root() } else { current };
        if !is_frame_of(current, site) {
            scope::count(thread, parent, site);
        }
    }
}

/// Hides what the options do not ask for.
struct Wanted(LayerOptions);

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.0.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.level)
    }
}

/// Numbers given to layers.
static LAYERS: AtomicU32 = AtomicU32::new(0);

struct SpanLayer<S> {
    filtered: Filtered<Calls, Wanted, S>,
    /// Tells its spans from those of other registries.
    number: u32,
}

impl<S> SpanLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    /// Returns the call site of a span, or nothing if the filter has hidden it.
    fn site(&self, id: &Id, context: &Context<'_, S>) -> Option<&'static CallSite> {
        let metadata = context.metadata(id)?;
        self.filtered.filter().0.wants(metadata).then(|| site::of(metadata))
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
}

/// Returns whether a span adds nothing to the frame of that node: both attributes on one function.
fn is_frame_of(node: &Node, span: &'static CallSite) -> bool {
    node.site().is_some_and(|site| site.is_span(Some(span.file()), Some(span.line())))
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
        self.filtered.on_layer(subscriber);
        let subscriber: &dyn Subscriber = subscriber;
        self.filtered.inner_mut().is_registry = subscriber.is::<Registry>();
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.filtered.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.filtered.enabled(metadata, context)
    }

    fn event_enabled(&self, event: &Event<'_>, context: Context<'_, S>) -> bool {
        self.filtered.event_enabled(event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.filtered.max_level_hint()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        // Also by a span that the filter hides: its number may be the one noted.
        if let Some(thread) = capture::thread() {
            thread.opened.forget_created();
        }
        self.filtered.on_new_span(attributes, id, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        self.filtered.on_event(event, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        let Some(thread) = capture::thread() else { return };
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
                Some(site) => Some(site),
                None => return,
            },
        };
        let site = site.filter(|site| !is_frame_of(thread.node(), site));
        let node = site.and_then(|site| scope::push_on(thread, site, false));
        opened.push(Open { layer, id: number, node });
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        let Some(thread) = capture::thread() else { return };
        if let Some(open) = thread.opened.remove(self.number, id.into_u64()) {
            leave(thread, open);
        }
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        let Some(thread) = capture::thread().filter(|thread| !thread.opened.is_empty()) else {
            return;
        };
        // A guard was forgotten, or left on another thread.
        while let Some(open) = thread.opened.remove(self.number, id.into_u64()) {
            leave(thread, open);
        }
    }

    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Self>() {
            return Some(ptr::from_ref(self).cast());
        }
        // SAFETY: asked as we are.
        unsafe { self.filtered.downcast_raw(id) }
    }
}
