//! What is shown of a profile, and how.

/// Where names of functions come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Symbols {
    /// Debug information where there is any (names, files, lines, inlined frames), else the symbol
    /// table.
    #[default]
    Dwarf,
    /// The symbol table: names only, and quickly.
    SymbolTable,
    /// Addresses only: the server has the debug information.
    None,
}

impl Symbols {
    /// The accepted words, as in `?symbols=table`.
    pub const NAMES: &'static [&'static str] = &["dwarf", "table", "none"];

    /// Returns the one of that name (one of [`Symbols::NAMES`]).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "dwarf" => Some(Self::Dwarf),
            "table" => Some(Self::SymbolTable),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// What stands as the stack of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StackView {
    /// The machine's stack.
    #[default]
    Native,
    /// The path of `#[profiled]` functions and tracing spans.
    Logical,
}

/// Whose stacks `goroutine` shows of the threads that wait for nothing which the profiler knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ThreadView {
    /// Nobody's: what the kernel says that they do stands in place of their stack, with their span path
    /// above. Disturbs nobody, so that it can be read every few seconds.
    #[default]
    Published,
    /// Every thread's, as it is now. Each is interrupted by a signal, whereupon some blocking calls return
    /// `EINTR`: the crate's documentation lists them.
    All,
}

/// The labels shown besides `lock`, `kind` and the application's own.
///
/// String labels become series in some servers, so these are shown on request only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LabelView {
    /// The span path, as `span`.
    pub span: bool,
    /// The name of the thread, as `thread`.
    pub thread: bool,
    /// Where the lock was acquired, as `acquired_at`.
    pub acquired_at: bool,
    /// Of `wall`: whether the thread was `running` or `waiting`, as `state`.
    pub state: bool,
    /// How long single waits were, as the numeric label `wait` of `block`: the power of four in
    /// nanoseconds that a wait reaches, so 50 ms stand under 4^12 = 16,777,216.
    pub wait: bool,
}

impl LabelView {
    /// Only `lock`, `kind` and the application's own labels.
    pub const NONE: Self =
        Self { span: false, thread: false, acquired_at: false, state: false, wait: false };
    /// Every label there is.
    pub const ALL: Self =
        Self { span: true, thread: true, acquired_at: true, state: true, wait: true };
    /// The accepted words, as in `?labels=span,thread`.
    pub const NAMES: &'static [&'static str] =
        &["span", "thread", "acquired_at", "state", "wait", "all"];

    /// Returns the labels of a list such as `span,thread`; spaces around names are passed over.
    ///
    /// # Errors
    ///
    /// The first name that is none of the accepted words.
    pub fn from_names(names: &str) -> Result<Self, &str> {
        names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .try_fold(Self::NONE, Self::with)
    }

    /// Adds the label of that name (one of [`LabelView::NAMES`]).
    ///
    /// # Errors
    ///
    /// The name, if it is none of the accepted words.
    pub fn with(mut self, name: &str) -> Result<Self, &str> {
        match name {
            "span" => self.span = true,
            "thread" => self.thread = true,
            "acquired_at" => self.acquired_at = true,
            "state" => self.state = true,
            "wait" => self.wait = true,
            "all" => self = Self::ALL,
            _ => return Err(name),
        }
        Ok(self)
    }
}

/// How a profile is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct View {
    /// What stands as the stack.
    pub stack: StackView,
    /// The labels shown on request.
    pub labels: LabelView,
    /// Where names come from.
    pub symbols: Symbols,
    /// Whose stacks `goroutine` shows.
    pub threads: ThreadView,
    /// Whether `wall` shows threads of executors and pools while they wait for work. They are told by the
    /// names of functions, so without names none is left out.
    pub idle: bool,
}

impl View {
    /// Sets [`View::stack`].
    #[must_use]
    pub const fn stack(mut self, stack: StackView) -> Self {
        self.stack = stack;
        self
    }

    /// Sets [`View::labels`].
    #[must_use]
    pub const fn labels(mut self, labels: LabelView) -> Self {
        self.labels = labels;
        self
    }

    /// Sets [`View::symbols`].
    #[must_use]
    pub const fn symbols(mut self, symbols: Symbols) -> Self {
        self.symbols = symbols;
        self
    }

    /// Sets [`View::idle`].
    #[must_use]
    pub const fn idle(mut self, idle: bool) -> Self {
        self.idle = idle;
        self
    }

    /// Sets [`View::threads`].
    #[must_use]
    pub const fn threads(mut self, threads: ThreadView) -> Self {
        self.threads = threads;
        self
    }
}
