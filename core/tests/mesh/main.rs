//! Whole nodes over real sockets of 127.0.0.1.

mod bulk;
mod failures;
mod joining;
mod leading;
mod lifecycle;
mod proxy;
mod refusals;
mod relay;
mod sessions;
mod support;
