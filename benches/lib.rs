//! Measures in pairs.
