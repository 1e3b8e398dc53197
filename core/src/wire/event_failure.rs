//! How an event failed at its host, as the host tells its sender.

use minicbor::{Decode, Encode};

/// Longest texts of a failure on the wire, in bytes.
pub const MAX_FAILURE_TEXT: usize = 8 * 1024;

/// Why an event brought no outputs.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Failure {
    /// Which error it is.
    #[n(0)]
    pub kind: FailureKind,
    /// Its message.
    #[n(1)]
    pub message: String,
    /// What the daemon's own code threw.
    #[n(2)]
    pub cause: Option<Thrown>,
}

/// What a daemon's own code threw, as text.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Thrown {
    /// The error's name, such as `TypeError`.
    #[n(0)]
    pub name: String,
    /// Its message.
    #[n(1)]
    pub message: String,
    /// Its stack, where it had one.
    #[n(2)]
    pub stack: Option<String>,
}

/// Why an event failed at its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum FailureKind {
    /// The daemon's code threw or rejected.
    #[n(0)]
    ProcessFailed,
    /// The daemon returned something that is no output.
    #[n(1)]
    InvalidOutput,
    /// The daemon did not settle in time.
    #[n(2)]
    CallbackTimeout,
    /// The daemon is not here and nobody knows where it is.
    #[n(3)]
    NotFound,
    /// The daemon was stopped, or its node shut down, with the event still waiting.
    #[n(4)]
    ShuttingDown,
    /// The sender withdrew the event before it began.
    #[n(5)]
    Withdrawn,
    /// An output is larger than the sender's node accepts.
    #[n(6)]
    PayloadTooLarge,
    /// The daemon's chain has no further sequence, or another fault of its host.
    #[n(7)]
    HostFailed,
    /// The daemon was stopped, or its node shut down, while the event ran.
    #[n(8)]
    Interrupted,
}
