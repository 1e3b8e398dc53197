//! Every decoder of bytes from other nodes, and the state machines that these drive, as a function of bytes. What holds
//! sockets and tasks around them is not among them, nor are the two ends of a circuit.
//!
//! The fuzz targets call them with what the fuzzer makes up; an ordinary test of `core` includes this file and calls
//! them with the committed corpus, cut and changed in many ways. Each function panics when a promise is broken, and
//! says whether it took the input for valid: so a test can see that the corpus still holds valid examples.

mod capabilities;
mod circuits;
mod codecs;
mod engine;
mod examples;
mod identity;
mod membership;
mod peers;
mod sessions;
mod snapshots;
mod subscribers;

pub use capabilities::capabilities;
pub use circuits::circuits;
pub use codecs::{channels, directory, events, frame, migration, relay, session};
pub use engine::engine;
pub use examples::examples;
pub use identity::{claim, envelope, identity, revocation, token};
pub use membership::membership;
pub use peers::peers;
pub use sessions::{handshake, transport};
pub use snapshots::{reassembler, snapshot, streams};
pub use subscribers::subscribers;

/// Takes bytes; says whether they were valid.
pub type Target = fn(&[u8]) -> bool;

/// All of them by name. Each has a file in `fuzz_targets` and a directory in `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("capabilities", capabilities),
    ("channels", channels),
    ("circuits", circuits),
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
    ("peers", peers),
    ("reassembler", reassembler),
    ("relay", relay),
    ("revocation", revocation),
    ("session", session),
    ("snapshot", snapshot),
    ("streams", streams),
    ("subscribers", subscribers),
    ("token", token),
    ("transport", transport),
];
