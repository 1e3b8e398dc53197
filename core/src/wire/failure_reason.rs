//! Why a migration fails, in the words of the peers.

use minicbor::{Decode, Encode};

use super::events::MAX_FAILURE_TEXT;

/// Why a migration failed, as the peers tell one another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum FailureReason {
    /// The target's runtime is not ready; the only reason worth another attempt.
    #[n(0)]
    #[error("the target is not ready")]
    NotReady,
    /// The target neither expects this daemon nor accepts it by policy, or has no factory of its kind.
    #[n(1)]
    #[error("no factory registered for kind '{kind}' that the target would use for this daemon")]
    FactoryNotFound {
        /// The daemon's kind.
        #[n(0)]
        kind: String,
    },
    /// The node has no daemon runtime.
    #[n(2)]
    #[error("the target node runs no daemon runtime")]
    ComputeNotSupported,
    /// `snapshot`, the factory or `restore` failed, or the state was refused.
    #[n(3)]
    #[error("state failed: {detail}")]
    StateFailed {
        /// What went wrong.
        #[n(0)]
        detail: String,
    },
    /// Another migration of this daemon is under way.
    #[n(4)]
    #[error("the daemon is already migrating")]
    AlreadyMigrating,
    /// The daemon's key could not be sealed, opened or found.
    #[n(5)]
    #[error("identity transport failed: {detail}")]
    IdentityTransportFailed {
        /// What went wrong.
        #[n(0)]
        detail: String,
    },
    /// The orchestrator may not move this daemon.
    #[n(6)]
    #[error("not authorized to move this daemon")]
    NotAuthorized,
    /// The message came from a node that has no such role in this migration.
    #[n(7)]
    #[error("wrong peer")]
    WrongPeer,
    /// The snapshot is beyond the target's budget.
    #[n(8)]
    #[error("the snapshot of {size} bytes is larger than the target's limit of {max}")]
    SnapshotTooLarge {
        /// Encoded size in bytes.
        #[n(0)]
        size: u64,
        /// The limit in bytes.
        #[n(1)]
        max: u64,
    },
    /// The queue of waiting events did not fit the target.
    #[n(9)]
    #[error("the target cannot hold the waiting events")]
    BufferFull,
    /// Somebody cancelled.
    #[n(10)]
    #[error("cancelled")]
    Cancelled,
    /// A deadline passed.
    #[n(11)]
    #[error("timed out: {detail}")]
    Timeout {
        /// Which deadline.
        #[n(0)]
        detail: String,
    },
    /// A node of the migration was lost.
    #[n(12)]
    #[error("a peer was lost: {detail}")]
    PeerLost {
        /// Which one.
        #[n(0)]
        detail: String,
    },
    /// The daemon is not here.
    #[n(13)]
    #[error("no such daemon on the source")]
    DaemonNotFound,
    /// There is no session between the source and the target, and none can be formed.
    #[n(15)]
    #[error("the target is out of the source's reach")]
    TargetUnavailable,
    /// The request does not fit the phase.
    #[n(14)]
    #[error("wrong phase: expected {expected}, got {got}")]
    WrongPhase {
        /// What the handler awaited.
        #[n(0)]
        expected: String,
        /// What came.
        #[n(1)]
        got: String,
    },
}

impl FailureReason {
    /// Cuts texts to what the wire allows, at a character boundary.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Self::StateFailed { detail }
        | Self::IdentityTransportFailed { detail }
        | Self::Timeout { detail }
        | Self::PeerLost { detail }
        | Self::FactoryNotFound { kind: detail } = &mut self
        {
            truncate(detail);
        }
        self
    }
}

/// Cuts `text` to [`MAX_FAILURE_TEXT`] bytes at a character boundary.
pub fn truncate(text: &mut String) {
    if text.len() > MAX_FAILURE_TEXT {
        let end = (0..=MAX_FAILURE_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}
