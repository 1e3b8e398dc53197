//! The roles of a live move.
