//! Streams: how an event is accepted exactly once.
