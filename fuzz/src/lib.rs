//! The decoders of what comes from other nodes, and the state machines behind them, as functions of bytes: not those of
//! groups and of capabilities yet.
//!
//! The fuzz targets call them with what the fuzzer makes up; an ordinary test of `core` includes this file and calls
//! them with the committed corpus, cut and changed in many ways. Each function panics when a promise is broken, and
//! says whether it took the input for valid: so a test can see that the corpus still holds valid examples.

mod codecs;
mod engine;
mod examples;
mod identity;
mod membership;
mod sessions;
mod snapshots;
mod subscribers;

pub use codecs::{channels, directory, events, frame, migration, relay, session};
pub use engine::engine;
pub use examples::examples;
pub use identity::{claim, envelope, identity, token};
pub use membership::membership;
pub use sessions::{handshake, transport};
pub use snapshots::{reassembler, snapshot, streams};
pub use subscribers::subscribers;

/// Takes bytes; says whether they were valid.
pub type Target = fn(&[u8]) -> bool;

/// All of them by name. Each has a file in `fuzz_targets` and a directory in `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("channels", channels),
    ("claim", claim),
    ("directory", directory),
    ("engine", engine),
    ("envelope", envelope),
    ("events", events),
    ("frame", frame),
    ("handshake", handshake),
    ("identity", identity),
    ("membership", membership),
    ("migration", migration),
    ("reassembler", reassembler),
    ("relay", relay),
    ("session", session),
    ("snapshot", snapshot),
    ("streams", streams),
    ("subscribers", subscribers),
    ("token", token),
    ("transport", transport),
];
