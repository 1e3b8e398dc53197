//! Why a migration fails, in the words of the peers.

use minicbor::decode::{Decoder, Error};
use minicbor::{Decode, Encode};

use super::events::MAX_FAILURE_TEXT;
use crate::identity::NodeId;

/// Why a migration failed, as the peers tell one another.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum FailureReason {
    /// The target's runtime is not ready; the only reason worth another attempt.
    #[n(0)]
    #[error("the target is not ready: it was not started, is being drained, or has no room now")]
    NotReady,
    /// The target neither expects this daemon nor accepts it by policy, or has no factory of its kind.
    #[n(1)]
    #[error("{}", why.in_words(kind))]
    FactoryNotFound {
        /// The daemon's kind.
        #[cbor(n(0), decode_with = "read_text")]
        kind: String,
        /// Which of these it is.
        #[n(1)]
        why: Unwelcome,
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
        #[cbor(n(0), decode_with = "read_text")]
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
        #[cbor(n(0), decode_with = "read_text")]
        detail: String,
    },
    /// The orchestrator may not move this daemon.
    #[n(6)]
    #[error("not authorized to move this daemon")]
    NotAuthorized,
    /// The message came from a node that has no such role in this migration.
    #[n(7)]
    #[error("another node has this part in the move")]
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
        #[cbor(n(0), decode_with = "read_text")]
        detail: String,
    },
    /// A node of the migration was lost.
    #[n(12)]
    #[error("a peer was lost: {detail}")]
    PeerLost {
        /// Which one, and what it was in the migration.
        #[cbor(n(0), decode_with = "read_text")]
        detail: String,
        /// The same, where it is one node.
        #[n(1)]
        node: Option<NodeId>,
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
        #[cbor(n(0), decode_with = "read_text")]
        expected: String,
        /// What came.
        #[cbor(n(1), decode_with = "read_text")]
        got: String,
    },
}

/// Why a node has no use for a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Unwelcome {
    /// The kind has no factory there.
    #[n(0)]
    NoFactory,
    /// It was not announced there, and only such daemons are let in.
    #[n(1)]
    NotExpected,
    /// It was announced as another one: of another kind, or with another key.
    #[n(2)]
    ExpectedOtherwise,
    /// The policy said no.
    #[n(3)]
    ByPolicy,
    /// The daemon has no kind: nobody but its host could make it.
    #[n(4)]
    NoKind,
}

impl Unwelcome {
    fn in_words(self, kind: &str) -> String {
        match self {
            Self::NoFactory => format!("no factory registered for kind '{kind}' on the target"),
            Self::NotExpected => {
                format!(
                    "the target does not expect this daemon of kind '{kind}', and lets in only those that it expects"
                )
            }
            Self::ExpectedOtherwise => {
                format!("the target expects this daemon, but not of kind '{kind}' or not with this key")
            }
            Self::ByPolicy => format!("the target's policy does not let in this daemon of kind '{kind}'"),
            Self::NoKind => "the daemon has no kind, so that no other node could make it: \
                             give it a name, or spawn it with a kind"
                .into(),
        }
    }
}

impl FailureReason {
    /// The loss of a node that was `role` in the migration.
    pub(crate) fn lost(role: &str, node: NodeId) -> Self {
        Self::PeerLost { detail: format!("{role} {node}"), node: Some(node) }
    }

    /// Cuts texts to what the wire allows, at a character boundary.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Self::StateFailed { detail }
        | Self::IdentityTransportFailed { detail }
        | Self::Timeout { detail }
        | Self::PeerLost { detail, node: _ }
        | Self::FactoryNotFound { kind: detail, why: _ } = &mut self
        {
            truncate(detail);
        }
        self
    }
}

fn read_text<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<String, Error> {
    let text = d.str()?;
    if text.len() > MAX_FAILURE_TEXT {
        return Err(Error::message("an over-long failure text"));
    }
    Ok(text.to_owned())
}

/// Cuts `text` to [`MAX_FAILURE_TEXT`] bytes at a character boundary.
pub fn truncate(text: &mut String) {
    if text.len() > MAX_FAILURE_TEXT {
        let end = (0..=MAX_FAILURE_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}
