//! The list of profiles: names, units, periods and how each is read.
//!
//! Plain data that imports nothing. Routes, the index page, deltas, text forms, documentation and
//! tests all iterate over [`Kind::ALL`]; a new profile is one more variant and one more row here.

/// A profile that can be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// What was allocated since the start, and where: `heap` with another column first.
    Allocs,
    /// Who waited for locks, and for how long: the waiter's stack.
    Block,
    /// What every known thread is doing now.
    Goroutine,
    /// What is alive and what was allocated, by where it was allocated.
    Heap,
    /// Who held locks while others waited, and the waiting it caused: the holder's stack.
    Mutex,
    /// Where CPU time goes, on every thread, during a [`Capture`](crate::Capture).
    Profile,
    /// Calls and time by path of `#[profiled]` functions and tracing spans.
    Spans,
    /// Where threads were created.
    Threadcreate,
    /// Where threads are, whether they run or wait.
    Wall,
    /// A [`CustomProfile`](crate::CustomProfile) of the application, by its name.
    Custom(&'static str),
}

/// What one column of values counts, and in which unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValueType {
    /// What is measured, for example `delay`.
    pub name: &'static str,
    /// The unit, for example `nanoseconds`.
    pub unit: &'static str,
}

/// How a profile comes about, and so what a difference of two means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Read {
    /// The sum of everything since the profiler started. Only what is in use of the heap goes down.
    Cumulative,
    /// What is there at the moment of reading.
    Live,
    /// What happens during a [`Capture`](crate::Capture), which has to be started first.
    Interval,
}

/// The form of the text that `debug=1` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextForm {
    /// `NAME profile: total N`, one count a stack.
    Count,
    /// `heap profile:`, objects and bytes that are alive and that were allocated.
    Heap,
    /// `--- contention:` or `--- mutex:`, delay and count a stack.
    Contention,
    /// A table of functions in lines that begin with `#`, and folded stacks with the value that tools show first.
    Report,
}

/// One row of the list: all that is said about a kind, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The name in the URL and in the profile, for example `mutex`.
    pub name: &'static str,
    /// The name for people, for example `Lock holders`.
    pub title: &'static str,
    /// One sentence for the index page.
    pub summary: &'static str,
    /// The columns of each sample, in order; the last is the one that tools show first.
    pub values: &'static [ValueType],
    /// The column that tools shall show first instead of the last.
    pub default_value: Option<&'static str>,
    /// What the period counts.
    pub period_type: ValueType,
    /// The form of `debug=1`.
    pub text: TextForm,
    /// How the profile is read.
    pub read: Read,
    /// Whether `seconds=N` gives a difference.
    pub delta: bool,
}

const fn values(name: &'static str, unit: &'static str) -> ValueType {
    ValueType { name, unit }
}

const CONTENTIONS: ValueType = values("contentions", "count");
const DELAY: ValueType = values("delay", "nanoseconds");
const GOROUTINE: ValueType = values("goroutine", "count");
const THREADCREATE: ValueType = values("threadcreate", "count");
const ALLOC_OBJECTS: ValueType = values("alloc_objects", "count");
const ALLOC_SPACE: ValueType = values("alloc_space", "bytes");
const INUSE_OBJECTS: ValueType = values("inuse_objects", "count");
const INUSE_SPACE: ValueType = values("inuse_space", "bytes");
const SAMPLES: ValueType = values("samples", "count");
const CPU: ValueType = values("cpu", "nanoseconds");
const WALL: ValueType = values("wall", "nanoseconds");
const CALLS: ValueType = values("calls", "count");
const BUSY: ValueType = values("busy", "nanoseconds");
const IDLE: ValueType = values("idle", "nanoseconds");

static ALLOCS: Description = Description {
    name: "allocs",
    title: "Allocations",
    summary: "What was allocated and where, freed or not, since the profiler started: estimates from samples.",
    values: HEAP.values,
    default_value: Some(ALLOC_SPACE.name),
    ..HEAP
};

static HEAP: Description = Description {
    name: "heap",
    title: "Heap",
    summary: "What is alive of what was allocated since the profiler started, by where it was allocated: estimates from samples. Use gc=1 to have the allocator give unused memory back first.",
    values: &[ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE],
    default_value: None,
    period_type: values("space", "bytes"),
    text: TextForm::Heap,
    read: Read::Cumulative,
    delta: true,
};

static BLOCK: Description = Description {
    name: "block",
    title: "Waiting",
    summary: "Where threads waited for locks and other things, and for how long, since the profiler started.",
    values: &[CONTENTIONS, DELAY],
    default_value: None,
    period_type: CONTENTIONS,
    text: TextForm::Contention,
    read: Read::Cumulative,
    delta: true,
};

static MUTEX: Description = Description {
    name: "mutex",
    title: "Lock holders",
    summary: "Who held a lock while others waited for it, and the waiting that this caused, since the profiler started.",
    values: &[CONTENTIONS, DELAY],
    default_value: None,
    period_type: CONTENTIONS,
    text: TextForm::Contention,
    read: Read::Cumulative,
    delta: true,
};

static GOROUTINE_ROW: Description = Description {
    name: "goroutine",
    title: "Tasks and threads",
    summary: "What every thread is doing now, by what it has published; nobody is disturbed. Use threads=all for the stack of each, debug=2 for each by itself, with what it waits for and who holds that: both interrupt every thread.",
    values: &[GOROUTINE],
    default_value: None,
    period_type: GOROUTINE,
    text: TextForm::Count,
    read: Read::Live,
    delta: true,
};

static PROFILE: Description = Description {
    name: "profile",
    title: "CPU",
    summary: "Where CPU time goes, on every thread, for as many seconds as the seconds parameter says (30).",
    values: &[SAMPLES, CPU],
    default_value: None,
    period_type: CPU,
    text: TextForm::Report,
    read: Read::Interval,
    delta: false,
};

static WALL_ROW: Description = Description {
    name: "wall",
    title: "Wall clock",
    summary: "Where threads are, whether they run or wait, for as many seconds as the seconds parameter says (30). Threads of pools that wait for work are left out; use idle=1 to see them.",
    values: &[SAMPLES, WALL],
    default_value: None,
    period_type: WALL,
    text: TextForm::Report,
    read: Read::Interval,
    delta: false,
};

static SPANS: Description = Description {
    name: "spans",
    title: "Spans",
    summary: "Calls and time by path of profiled functions and tracing spans, since the profiler started.",
    values: &[CALLS, BUSY, IDLE],
    default_value: Some(BUSY.name),
    period_type: CALLS,
    text: TextForm::Count,
    read: Read::Cumulative,
    delta: true,
};

static THREADCREATE_ROW: Description = Description {
    name: "threadcreate",
    title: "Thread creation",
    summary: "Where threads were created, if it is known: those of profiler_core::thread. All others stand under [unknown].",
    values: &[THREADCREATE],
    default_value: None,
    period_type: THREADCREATE,
    text: TextForm::Count,
    read: Read::Cumulative,
    delta: true,
};

/// What all custom profiles share; name and title are the profile's own.
static CUSTOM: Description = Description {
    name: "custom",
    title: "Custom",
    summary: "",
    values: &[],
    default_value: None,
    period_type: values("custom", "count"),
    text: TextForm::Count,
    read: Read::Live,
    delta: false,
};

impl Kind {
    /// Every built-in kind, sorted by name.
    pub const ALL: &'static [Self] = &[
        Self::Allocs,
        Self::Block,
        Self::Goroutine,
        Self::Heap,
        Self::Mutex,
        Self::Profile,
        Self::Spans,
        Self::Threadcreate,
        Self::Wall,
    ];

    /// Returns the built-in kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Returns all that is said about this kind.
    ///
    /// A custom profile has one column, named after the profile.
    #[must_use]
    pub const fn description(self) -> Description {
        match self {
            Self::Allocs => ALLOCS,
            Self::Block => BLOCK,
            Self::Goroutine => GOROUTINE_ROW,
            Self::Heap => HEAP,
            Self::Mutex => MUTEX,
            Self::Profile => PROFILE,
            Self::Spans => SPANS,
            Self::Threadcreate => THREADCREATE_ROW,
            Self::Wall => WALL_ROW,
            Self::Custom(name) => Description { name, title: name, ..CUSTOM },
        }
    }

    /// Returns the name in the URL and in the profile.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// Returns the columns of each sample, in order.
    #[must_use]
    pub fn values(self) -> Vec<ValueType> {
        match self {
            Self::Custom(name) => vec![values(name, "count")],
            built_in => built_in.description().values.to_vec(),
        }
    }

    /// Returns the position of the column that tools show first.
    #[must_use]
    pub fn default_column(self) -> usize {
        let values = self.values();
        let default = self.description().default_value;
        let named = values.iter().position(|value| Some(value.name) == default);
        named.unwrap_or(values.len() - 1)
    }

    /// Returns what the period counts; the period itself is 1, for `profile` and `wall` the time between two
    /// samples, for `heap` and `allocs` [`Rates::heap_bytes`](crate::Rates::heap_bytes) when they were
    /// read.
    #[must_use]
    pub const fn period_type(self) -> ValueType {
        match self {
            Self::Custom(name) => values(name, "count"),
            built_in => built_in.description().period_type,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_names_are_unique() {
        assert!(Kind::ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()));
    }

    #[test]
    fn scrapers_take_at_most_four_values() {
        for kind in Kind::ALL {
            assert!((1..=4).contains(&kind.values().len()), "{kind}");
        }
    }

    #[test]
    fn a_default_value_is_one_of_the_values() {
        for kind in Kind::ALL {
            if let Some(default) = kind.description().default_value {
                assert_eq!(kind.values()[kind.default_column()].name, default, "{kind}");
            }
        }
    }

    #[test]
    fn a_custom_profile_counts_under_its_own_name() {
        let kind = Kind::Custom("connections");
        assert_eq!(kind.name(), "connections");
        assert_eq!(kind.values(), [values("connections", "count")]);
    }

    #[test]
    fn heap_shows_what_is_in_use_and_allocs_what_was_allocated() {
        assert_eq!(Kind::Heap.values(), Kind::Allocs.values());
        let first = |kind: Kind| kind.values()[kind.default_column()].name;
        assert_eq!((first(Kind::Heap), first(Kind::Allocs)), ("inuse_space", "alloc_space"));
        // Readers take the last column where none is named.
        assert_eq!(Kind::Heap.default_column(), 3);
    }
}
