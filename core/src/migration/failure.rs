//! How a migration ended when it did not complete.

use crate::identity::{NodeId, OriginHash};
use crate::wire::migration::FailureReason;

/// Where the daemon is after a migration that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Still, or again, live on the source.
    Source,
    /// Live on the target.
    Target,
    /// A peer was lost at the instant of the hand-over.
    Unknown,
    /// Its host died.
    Lost,
}

impl Outcome {
    /// Where the reason that ended a move from `source` leaves the daemon before the hand-over: a source that names itself as
    /// lost takes the daemon with it.
    pub fn told_by(source: NodeId, reason: &FailureReason) -> Self {
        match reason {
            FailureReason::PeerLost { node: Some(node), .. } if *node == source => Self::Lost,
            // Another copy outranks the one that was to move.
            FailureReason::PeerLost { node: None, .. }
            // Wherever it is, it is not there.
            | FailureReason::DaemonNotFound => Self::Unknown,
            FailureReason::NotReady
            | FailureReason::FactoryNotFound { .. }
            | FailureReason::ComputeNotSupported
            | FailureReason::StateFailed { .. }
            | FailureReason::AlreadyMigrating
            | FailureReason::IdentityTransportFailed { .. }
            | FailureReason::NotAuthorized
            | FailureReason::WrongPeer
            | FailureReason::SnapshotTooLarge { .. }
            | FailureReason::BufferFull
            | FailureReason::Cancelled
            | FailureReason::Timeout { .. }
            | FailureReason::PeerLost { .. }
            | FailureReason::TargetUnavailable
            | FailureReason::WrongPhase { .. } => Self::Source,
        }
    }
}

/// A failed migration, as its caller learns of it.
///
/// What has no outcome of its own is told only when the source has said that the daemon goes on there, or before anybody was
/// asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MigrationFailure {
    /// A reason that a role gave.
    Refused(FailureReason, Outcome),
    /// The target stayed not ready.
    NotReadyTimeout {
        /// How often it was asked.
        attempts: u32,
    },
    /// There is no session with the target, or it is this node's wrong life.
    TargetUnavailable(NodeId),
    /// The daemon is not on the node that it was to leave, or known to no reachable one, and nothing was begun.
    DaemonNotFound(OriginHash),
    /// The source does not let this node move its daemons.
    NotAuthorized {
        /// The source.
        by: NodeId,
    },
    /// The target lets only another node bring this daemon.
    WrongPeer {
        /// The target.
        by: NodeId,
    },
    /// No connected node can host a daemon of its kind.
    NoTargetAvailable,
}

impl MigrationFailure {
    /// Where the daemon is.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_, outcome) => *outcome,
            Self::DaemonNotFound(_) => Outcome::Unknown,
            Self::NotReadyTimeout { .. }
            | Self::TargetUnavailable(_)
            | Self::NotAuthorized { .. }
            | Self::WrongPeer { .. }
            | Self::NoTargetAvailable => Outcome::Source,
        }
    }

    /// The same in the words of the peers.
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Refused(reason, _) => reason.clone(),
            Self::NotReadyTimeout { .. } => FailureReason::NotReady,
            Self::NotAuthorized { .. } => FailureReason::NotAuthorized,
            Self::WrongPeer { .. } => FailureReason::WrongPeer,
            Self::TargetUnavailable(_) | Self::DaemonNotFound(_) | Self::NoTargetAvailable => FailureReason::Cancelled,
        }
    }
}

impl std::fmt::Display for MigrationFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(reason, _) => reason.fmt(f),
            Self::NotReadyTimeout { attempts } => {
                write!(f, "the target was not started, was being drained, or had no room: asked {attempts} times")
            }
            Self::TargetUnavailable(node) => write!(f, "the target node {node} is not connected"),
            Self::DaemonNotFound(origin) => write!(f, "no daemon {origin} is known"),
            Self::NotAuthorized { by } => {
                write!(f, "node {by} does not let this node move its daemons: this node is not among its orchestrators")
            }
            Self::WrongPeer { by } => write!(f, "node {by} lets only another node bring it this daemon"),
            Self::NoTargetAvailable => f.write_str("no connected node can host a daemon of this kind"),
        }
    }
}
