//! Serves the profiles of `profiler-core`.
