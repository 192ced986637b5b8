//! What the layer says of which callsites are of interest.
//!
//! Layers with a filter of their own each add their interest to a sum, which the registry takes, and
//! claim to be interested in everything towards the layers around them, which know them by
//! a mark that they ask for. Both are private to tracing-subscriber's [`Filtered`], so one stands here, around
//! nothing. Its other half, which tells the registry for each span and event who wants it, is
//! left out: the layer knows its spans by their metadata.
//!
//! Whoever has not been asked for the mark is hidden: by a `reload::Layer`, or by a filter around the
//! layer. Then, and over a registry that takes no sums, there is no vote. All that can be said there is
//! yes, since a no would be a no for everybody.

use std::any::TypeId;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_core::subscriber::Interest;
use tracing_core::{LevelFilter, Metadata, Subscriber};
use tracing_subscriber::filter::Filtered;
use tracing_subscriber::layer::{Context, Filter, Identity};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry};

use super::LayerOptions;

/// The filter of a layer's own.
struct Wanted(LayerOptions);

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.0.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.wants(metadata) { Interest::always() } else { Interest::never() }
    }
}

/// Where a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In no subscriber so far, or brought there by `reload::Layer`, which does not say so.
    Unknown,
    /// Over tracing-subscriber's registry.
    Registry,
    /// Over another subscriber, which knows of no filters.
    Other,
}

pub(super) struct Vote<S> {
    filtered: Filtered<Identity, Wanted, S>,
    place: Place,
    /// Whether the layers around have asked for the mark.
    is_seen: AtomicBool,
}

impl<S> Vote<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    pub(super) fn new(options: LayerOptions) -> Self {
        let filtered = Filtered::new(Identity::new(), Wanted(options));
        Self { filtered, place: Place::Unknown, is_seen: AtomicBool::new(false) }
    }

    pub(super) fn on_layer(&mut self, subscriber: &mut S) {
        let any: &dyn Subscriber = subscriber;
        if any.is::<Registry>() {
            self.filtered.on_layer(subscriber);
            self.place = Place::Registry;
        } else {
            self.place = Place::Other;
        }
    }

    /// Returns whether the thread that creates a span is known to be the only one that may give its
    /// number again, as long as it lives. That is so in tracing-subscriber's registry.
    pub(super) fn is_registry(&self) -> bool {
        self.place == Place::Registry
    }

    fn counts(&self) -> bool {
        // Relaxed: asked while the subscriber is built, by one thread.
        self.place == Place::Registry && self.is_seen.load(Ordering::Relaxed)
    }

    /// Adds to the sum of interests, if that is taken, and returns what the layers around shall know.
    pub(super) fn cast(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.counts() { self.filtered.register_callsite(metadata) } else { Interest::always() }
    }

    /// Returns up to which level there is anything of interest; nothing if the layers around would take
    /// that for a limit to others.
    pub(super) fn level(&self) -> Option<LevelFilter> {
        self.counts().then_some(self.filtered.filter().0.level)
    }

    /// Returns the mark, if that is what is asked for.
    pub(super) fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        let parts = [
            TypeId::of::<Filtered<Identity, Wanted, S>>(),
            TypeId::of::<Identity>(),
            TypeId::of::<Wanted>(),
        ];
        if self.place == Place::Other || parts.contains(&id) {
            return None;
        }
        // SAFETY: nothing is done with the pointer but to hand it on to who asks for that type.
        let mark = unsafe { self.filtered.downcast_raw(id) };
        if mark.is_some() {
            // Relaxed: as in `counts`.
            self.is_seen.store(true, Ordering::Relaxed);
        }
        mark
    }
}
