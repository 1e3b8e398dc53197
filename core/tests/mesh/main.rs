//! Whole nodes over real sockets of 127.0.0.1.

mod sessions;
mod support;
