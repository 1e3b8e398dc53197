//! What the driver of a migration is told, what it asks, and what it wants done.

use std::sync::Arc;

use super::failure::MigrationFailure;
use super::settings::MigrationOptions;
use crate::identity::{EntityId, Epoch, MigrationId, NodeId, OriginHash};
use crate::wire::migration::{FailureReason, MoveId, Stage};

/// How far a migration has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the snapshot sent.
    pub bytes_sent: u64,
    /// Bytes of the snapshot in all; 0 while unknown.
    pub bytes_total: u64,
    /// Waiting events handed over so far.
    pub events_buffered: u64,
    /// Waiting events that the target has staged.
    pub events_replayed: u64,
}

/// The move that a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Names it.
    pub migration: MigrationId,
    /// The daemon's address.
    pub origin: OriginHash,
    /// Where it lives, as far as is known.
    pub source: NodeId,
    /// Where it is to go.
    pub target: NodeId,
    /// Whether the daemon is followed when it does not live there any more.
    pub follow: bool,
    /// What the caller asked for.
    pub options: MigrationOptions,
}

/// What the source says of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The daemon.
    pub entity: EntityId,
    /// Its epoch there.
    pub epoch: Epoch,
    /// Its kind.
    pub kind: Arc<str>,
    /// Length of its newest snapshot; 0 when none was taken.
    pub state_bytes: u64,
}

/// What is to be asked of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The source, what it is to give away, or what became of it.
    Inquire,
    /// The target, whether it may come.
    Prepare,
    /// The target, to forget that it may.
    CallOff(MoveId),
    /// The source, to freeze and send.
    TakeSnapshot,
    /// The source, to hand over.
    CutoverNotify,
    /// The source, to give up.
    Cancel(FailureReason),
    /// The target, whether it runs the daemon: nobody else is left to ask.
    QueryTarget,
    /// Everybody, whether it lives elsewhere: its source has died.
    Search,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrchestratorAction {
    /// Send this.
    Ask(Ask),
    /// A phase began.
    Phase(Stage),
    /// Numbers changed.
    Progress(Progress),
    /// It is over.
    Finished(Result<(), MigrationFailure>),
}
