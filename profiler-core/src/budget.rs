//! How many bytes the profiler may keep, and how many it keeps.
//!
//! The budget is the process's. Rows take three quarters at the most, in the tables of threads and in the
//! archive. At a quarter in the tables these are emptied; down to a quarter the archive is made coarser; the
//! rest is for rows that come meanwhile. Span paths and label sets take an eighth each.

use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

static BUDGET: AtomicUsize = AtomicUsize::new(DEFAULT);
/// Bytes of the tables of threads and of their rows.
static TABLES: AtomicIsize = AtomicIsize::new(0);
/// Bytes of rows in the archive.
static ARCHIVED: AtomicUsize = AtomicUsize::new(0);
static PATHS: AtomicIsize = AtomicIsize::new(0);
/// Whether span paths wait for those of threads that are gone to end.
static PATHS_WAIT: AtomicBool = AtomicBool::new(false);
/// Whether label sets wait for others to end.
static LABELS_WAIT: AtomicBool = AtomicBool::new(false);

/// Bytes of [`Config::memory`](crate::Config::memory), unless it is set.
pub(crate) const DEFAULT: usize = 32 << 20;
/// Each thread may have so many bytes of span paths, whatever others have.
const OWN_PATHS: usize = 16 << 10;

/// What holds bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// The tables of threads and their rows.
    Tables,
    /// Span paths.
    Paths,
}

impl Part {
    const fn held(self) -> &'static AtomicIsize {
        match self {
            Self::Tables => &TABLES,
            Self::Paths => &PATHS,
        }
    }

    /// Counts bytes that are held from now on.
    pub(crate) fn add(self, bytes: usize) {
        // Relaxed, here and below: figures.
        self.held().fetch_add(bytes.cast_signed(), Ordering::Relaxed);
    }

    /// Counts bytes that are held no more.
    pub(crate) fn remove(self, bytes: usize) {
        self.held().fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
    }

    fn get(self) -> usize {
        // In the child of a fork it may be less than nothing: another thread was about to add.
        self.held().load(Ordering::Relaxed).max(0).cast_unsigned()
    }
}

/// Sets the budget, in bytes.
pub(crate) fn set(bytes: usize) {
    BUDGET.store(bytes, Ordering::Relaxed);
}

/// Returns the budget, in bytes.
pub(crate) fn get() -> usize {
    BUDGET.load(Ordering::Relaxed)
}

/// Whether there is room for another row.
pub(crate) fn has_room_for_rows() -> bool {
    Part::Tables.get() + ARCHIVED.load(Ordering::Relaxed) < get() / 4 * 3
}

/// Whether a thread whose paths take so many bytes may have another one.
pub(crate) fn has_room_for_path(own: usize) -> bool {
    own < OWN_PATHS || Part::Paths.get() < get() / 8
}

/// Counts bytes of paths that are held from now on; asks for those of threads that are gone to end
/// when they take a sixteenth of the budget.
pub(crate) fn add_paths(bytes: usize) {
    if bytes != 0 {
        Part::Paths.add(bytes);
        if Part::Paths.get() > get() / 16 {
            PATHS_WAIT.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether paths were asked for since the last time.
pub(crate) fn took_paths_wait() -> bool {
    PATHS_WAIT.swap(false, Ordering::Relaxed)
}

/// Returns how many bytes of label sets there may be.
pub(crate) fn for_labels() -> usize {
    get() / 8
}

/// Asks for label sets that are used no more to end.
pub(crate) fn ask_for_labels() {
    LABELS_WAIT.store(true, Ordering::Relaxed);
}

/// Whether label sets were asked for since the last time.
pub(crate) fn took_labels_wait() -> bool {
    LABELS_WAIT.swap(false, Ordering::Relaxed)
}

/// Whether something waits for room.
pub(crate) fn is_pressing() -> bool {
    are_rows_pressing() || PATHS_WAIT.load(Ordering::Relaxed) || do_labels_wait()
}

/// Whether rows do.
pub(crate) fn are_rows_pressing() -> bool {
    Part::Tables.get() > get() / 4 || !has_room_for_rows()
}

/// Whether label sets do.
pub(crate) fn do_labels_wait() -> bool {
    LABELS_WAIT.load(Ordering::Relaxed)
}

/// Tells how many bytes the rows of the archive take.
pub(crate) fn set_archived(bytes: usize) {
    ARCHIVED.store(bytes, Ordering::Relaxed);
}

/// Returns how many bytes the rows of the archive may take.
pub(crate) fn for_archive() -> usize {
    get() / 4
}
