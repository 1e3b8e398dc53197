//! What the runtime tells its callers when something fails.

use std::time::Duration;

use crate::channel::ChannelError;
use crate::identity::{NodeId, OriginHash};
use crate::migration::MigrationFailure;
use crate::wire::events::Thrown;

/// Whether an event whose answer is lost may have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// It did not.
    No,
    /// It may have.
    Unknown,
}

impl Executed {
    /// What is known of an event that `maybe` ran.
    pub(super) const fn of(maybe: bool) -> Self {
        if maybe { Self::Unknown } else { Self::No }
    }
}

impl std::fmt::Display for Executed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::No => "the event did not run",
            Self::Unknown => "the event may have run",
        })
    }
}

/// A failed operation of the runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// `start` was not called yet.
    #[error("the runtime is not ready: runtime.start() was not called")]
    NotReady,
    /// The runtime is shut down.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// The runtime was shut down while an event was on its way.
    #[error("the runtime is shutting down; {executed}")]
    ShutDownMeanwhile {
        /// Whether the event may have run.
        executed: Executed,
    },
    /// The daemon was stopped before it did what was asked of it.
    #[error("daemon {0} was stopped")]
    Stopped(OriginHash),
    /// The daemon was stopped, here or on its host, while an event was on its way.
    #[error("daemon {origin} was stopped; {executed}")]
    StoppedMeanwhile {
        /// Which daemon.
        origin: OriginHash,
        /// Whether the event may have run.
        executed: Executed,
    },
    /// The daemons of this node are being moved away.
    #[error("the runtime is being drained")]
    Draining,
    /// The kind has a factory.
    #[error("a factory for kind '{0}' is already registered")]
    FactoryAlreadyRegistered(String),
    /// The kind has none.
    #[error("no factory registered for kind '{0}'")]
    FactoryNotFound(String),
    /// The identity is in use, here or on another node.
    #[error("daemon {0} is already registered")]
    AlreadyRegistered(OriginHash),
    /// The identity may be in use on another node, which did not say so in time: it is silent and not proven dead, or is still
    /// spawning the daemon itself.
    #[error(
        "daemon {origin} may be already registered on node {host}: that node is named as its host or spawns it as well, has not \
         said what became of it, and is not known to have ended; spawn it again when that node has answered, has ended or is \
         given up"
    )]
    HostSilent {
        /// Which daemon.
        origin: OriginHash,
        /// The node that is named as its host.
        host: NodeId,
    },
    /// Nobody knows the daemon.
    #[error("daemon {0} was not found")]
    NotFound(OriginHash),
    /// The snapshot is of another daemon.
    #[error("the snapshot belongs to another identity: expected {expected}, got {got}")]
    SnapshotIdentityMismatch {
        /// Address of the identity that was given.
        expected: OriginHash,
        /// Address of the snapshot's identity; it may be the same for two entities.
        got: OriginHash,
    },
    /// The snapshot cannot be read.
    #[error("invalid snapshot: {0}")]
    SnapshotInvalid(String),
    /// The daemon's own code failed an event.
    #[error("the daemon failed to process the event: {}", .0.message)]
    ProcessFailed(Thrown),
    /// The daemon returned something that is no output.
    #[error("invalid output: {0}")]
    InvalidOutput(String),
    /// `restore` failed.
    #[error("the daemon could not be restored: {}", .0.message)]
    RestoreFailed(Thrown),
    /// The factory failed.
    #[error("the daemon could not be made: {}", .0.message)]
    ConstructFailed(Thrown),
    /// `snapshot` failed.
    #[error("the daemon could not be snapshotted: {}", .0.message)]
    SnapshotFailed(Thrown),
    /// The daemon's code did not settle.
    #[error("daemon did not respond within {} ms", .0.as_millis())]
    CallbackTimeout(Duration),
    /// The same on another node, in that node's words.
    #[error("{0}")]
    RemoteTimeout(String),
    /// The daemon's host could not take the event's outputs.
    #[error("{0}")]
    HostFailed(String),
    /// The caller's own deadline passed.
    #[error("the call did not complete within {} ms", .0.as_millis())]
    CallTimeout(Duration),
    /// The mailbox has no room.
    #[error("the mailbox of daemon {0} is full")]
    MailboxFull(OriginHash),
    /// Too much waits for that daemon on this node already.
    #[error("too many events wait to be sent to daemon {0}")]
    Backpressure(OriginHash),
    /// The daemon moved on faster than the event could follow.
    #[error("daemon {origin} moved on faster than the event could follow")]
    MovedTooOften {
        /// Which daemon.
        origin: OriginHash,
        /// Whether the event may have run.
        executed: Executed,
        /// How long its caller waited.
        waited: Duration,
    },
    /// The host of the daemon was lost.
    #[error("the host of daemon {origin} was lost; {executed}")]
    PeerLost {
        /// Which daemon.
        origin: OriginHash,
        /// Whether the event may have run.
        executed: Executed,
    },
    /// A payload or output is beyond the limit.
    #[error("a payload of {size} bytes is larger than the limit of {max}")]
    PayloadTooLarge {
        /// Its bytes.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// An output, or a payload on its way to a node that takes no such, is beyond the limit, in the words of another node.
    #[error("{0}")]
    OutputTooLarge(String),
    /// The mesh has a live runtime.
    #[error("this mesh already has a live daemon runtime")]
    RuntimeExists,
    /// An argument that cannot be used; the message begins with its path.
    #[error("{0}")]
    InvalidArgument(String),
    /// Something with a channel did not work.
    #[error("{0}")]
    Channel(ChannelError),
    /// A migration failed.
    #[error("migration failed: {0}")]
    Migration(MigrationFailure),
    /// A node of the migration is not connected.
    #[error("node {0} is not connected")]
    TargetUnavailable(NodeId),
}
