//! Messages of a migration (subprotocol 0x0500).
//!
//! Each one names the daemon, the migration, its attempt and the epoch it starts from, so that every handler can be
//! idempotent and refuse what belongs to another attempt.

use minicbor::decode::{Decoder, Error};
use minicbor::{Decode, Encode};

pub use super::failure_reason::{FailureReason, Unwelcome, truncate};

use super::codec::{bounded_array, bytes32, bytes64};
use super::events::{StreamId, decode_number};
use crate::identity::{EntityId, Epoch, MigrationId, NodeId, OriginHash};

/// Most waiting events in one message, and most streams that they are of.
pub const MOST_STAGED_TOGETHER: usize = 512;
/// Most streams that lead to a daemon when it is handed over.
pub const MOST_HANDED_STREAMS: usize = 65_536;
/// Most kinds that a draining node asks about.
pub const MOST_KINDS: usize = 1024;

/// What every message of one attempt carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct MoveId {
    /// The daemon that moves.
    #[n(0)]
    pub entity: EntityId,
    /// The migration.
    #[n(1)]
    pub migration: MigrationId,
    /// Counts from 1; a retry of a target that was not ready has the next one.
    #[n(2)]
    pub attempt: u32,
    /// The daemon's epoch while it lives on the source.
    #[n(3)]
    pub epoch: Epoch,
}

/// How far a role has come, for progress and for the silence deadlines of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Stage {
    /// The source freezes the daemon and takes its snapshot.
    #[n(0)]
    Snapshot,
    /// The state is on its way.
    #[n(1)]
    Transfer,
    /// The target builds the daemon and restores it.
    #[n(2)]
    Restore,
    /// Waiting events are staged on the target.
    #[n(3)]
    Replay,
    /// The mailbox is closed; the hand-over is being decided.
    #[n(4)]
    Cutover,
    /// Done.
    #[n(5)]
    Complete,
}

impl Stage {
    /// As it is told to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Transfer => "transfer",
            Self::Restore => "restore",
            Self::Replay => "replay",
            Self::Cutover => "cutover",
            Self::Complete => "complete",
        }
    }
}

/// One waiting event, or the fact that a number was given up, handed over with its place in its stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct StagedItem<'b> {
    /// Index into the message's table of streams.
    #[n(0)]
    pub stream: u32,
    /// Number in that stream.
    #[cbor(n(1), decode_with = "decode_number")]
    pub number: u64,
    /// What stands there.
    #[b(2)]
    pub item: super::events::Item<'b>,
    /// When it was received, unix nanoseconds.
    #[n(3)]
    pub received_at: u64,
    /// The channel that it came through.
    #[b(4)]
    pub channel: Option<&'b str>,
}

/// How far a stream was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct StreamMark {
    /// Which stream.
    #[n(0)]
    pub stream: StreamId,
    /// The number that is due next.
    #[cbor(n(1), decode_with = "decode_number")]
    pub next: u64,
}

/// A message of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MigrationMessage<'b> {
    /// Orchestrator → target: may it come, are you ready, have you a factory?
    #[n(0)]
    Prepare {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// The daemon's kind.
        #[b(1)]
        kind: &'b str,
        /// Where it lives.
        #[n(2)]
        source: NodeId,
        /// Whether its key will travel with it.
        #[n(3)]
        transport_identity: bool,
        /// Length of its newest snapshot in bytes; 0 when none was taken yet.
        #[n(4)]
        state_bytes: u64,
    },
    /// Target → orchestrator: it may.
    #[n(1)]
    Prepared {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Orchestrator → source: freeze it and take its snapshot.
    #[n(2)]
    TakeSnapshot {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// Where it goes.
        #[n(1)]
        target: NodeId,
        /// Whether its key travels with it.
        #[n(2)]
        transport_identity: bool,
    },
    /// Source → target: reserve room for the whole state.
    #[n(3)]
    Reserve {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// Encoded length of the snapshot in bytes.
        #[n(1)]
        total: u64,
        /// The source's claim, encoded.
        #[b(2)]
        #[cbor(with = "minicbor::bytes")]
        claim: &'b [u8],
        /// Who drives it: others may have asked the target in its name.
        #[n(3)]
        orchestrator: NodeId,
    },
    /// Target → source: granted.
    #[n(4)]
    Reserved {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Source → target, bulk lane: a piece of the snapshot.
    #[n(5)]
    Chunk {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// Which piece, from 0.
        #[n(1)]
        index: u32,
        /// How many there are.
        #[n(2)]
        total: u32,
        /// Its bytes.
        #[b(3)]
        #[cbor(with = "minicbor::bytes")]
        bytes: &'b [u8],
    },
    /// Source → target, bulk lane, behind the last chunk: what the state is vouched for with.
    #[n(6)]
    SnapshotReady {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// BLAKE3 of the snapshot without envelope.
        #[n(1)]
        #[cbor(with = "bytes32")]
        digest: [u8; 32],
        /// Signature over it, by the daemon's key or the source's node key.
        #[n(2)]
        #[cbor(with = "bytes64")]
        signature: [u8; 64],
        /// The sealed identity envelope.
        #[b(3)]
        #[cbor(with = "minicbor::bytes")]
        envelope: Option<&'b [u8]>,
    },
    /// Target → source and orchestrator: the daemon is built and restored, not live.
    #[n(7)]
    RestoreComplete {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Source → target: waiting events, in order, to be staged.
    #[n(8)]
    BufferedEvents {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// Position of the first of these items among all that are handed over.
        #[cbor(n(1), decode_with = "decode_number")]
        first: u64,
        /// The streams that the items refer to.
        #[cbor(n(2), decode_with = "read_streams")]
        streams: Vec<StreamId>,
        /// The items.
        #[cbor(b(3), decode_with = "read_items")]
        items: Vec<StagedItem<'b>>,
        /// How many there are in all; only with the final message, after the mailbox was closed.
        #[n(4)]
        total: Option<u64>,
        /// Where every stream stands; only with the final message. Numbers that were given up leave no item.
        #[cbor(n(5), decode_with = "read_marks")]
        marks: Vec<StreamMark>,
        /// What the daemon has to do with channels; only with the final message.
        #[b(6)]
        #[cbor(with = "minicbor::bytes")]
        ledger: Option<&'b [u8]>,
    },
    /// Target → source and orchestrator: this many are staged.
    #[n(9)]
    ReplayComplete {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// How many are staged.
        #[n(1)]
        staged: u64,
        /// Sequence of the restored chain's head.
        #[n(2)]
        head: u64,
        /// The last of them, with the marks of all streams, is among them.
        #[n(3)]
        complete: bool,
    },
    /// Orchestrator → source: close the mailbox and hand over.
    #[n(10)]
    CutoverNotify {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Source → target, only after `Released`: go live.
    #[n(11)]
    ActivateTarget {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// The claim of the next epoch, encoded.
        #[b(1)]
        #[cbor(with = "minicbor::bytes")]
        claim: &'b [u8],
    },
    /// Target → source: live.
    #[n(12)]
    ActivateAck {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Source → target and orchestrator: the old copy is gone.
    #[n(13)]
    CleanupComplete {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Anyone → anyone: the attempt is over.
    #[n(14)]
    MigrationFailed {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// Why.
        #[n(1)]
        reason: FailureReason,
    },
    /// Source or target → the others: still at work, and how far.
    #[n(15)]
    Status {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// Where it stands.
        #[n(1)]
        stage: Stage,
        /// Bytes of the snapshot sent so far.
        #[n(2)]
        bytes_sent: u64,
        /// Bytes of the snapshot in all; 0 while unknown.
        #[n(3)]
        bytes_total: u64,
        /// Events handed over so far.
        #[n(4)]
        events: u64,
    },
    /// Source → target, after a reconnection in doubt: do you hold it?
    #[n(16)]
    StatusQuery {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Target → source: the answer.
    #[n(17)]
    StatusAnswer {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// What became of the copy here.
        #[n(1)]
        copy: CopyState,
    },
    /// Orchestrator → source: give the move up.
    #[n(18)]
    Cancel {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
        /// Why: `Cancelled` or `Timeout`.
        #[n(1)]
        reason: FailureReason,
    },
    /// Source → orchestrator, in answer to `Cancel`: the decision has fallen.
    #[n(21)]
    TooLate {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Source → orchestrator: released, and the target is out of reach.
    #[n(20)]
    InDoubt {
        /// Which attempt.
        #[n(0)]
        id: MoveId,
    },
    /// Target → orchestrator that was told `NotReady`: ask again.
    #[n(19)]
    NowReady {
        /// The daemon that was refused.
        #[n(0)]
        origin: OriginHash,
        /// Its migration.
        #[n(1)]
        migration: MigrationId,
    },
    /// Orchestrator → source: does it live with you, what is it, and may this node move it there? Repeated after a
    /// reconnection, to learn what became of the move.
    #[n(22)]
    Inquire {
        /// The daemon's address.
        #[n(0)]
        origin: OriginHash,
        /// The migration.
        #[n(1)]
        migration: MigrationId,
        /// The attempt that the answer is for.
        #[n(2)]
        attempt: u32,
        /// Where it is to go.
        #[n(3)]
        target: NodeId,
        /// Whether its key is to travel with it.
        #[n(4)]
        transport_identity: bool,
    },
    /// Source → orchestrator: it lives here, and may be moved.
    #[n(23)]
    Described {
        /// Which attempt, with the daemon's entity and epoch.
        #[n(0)]
        id: MoveId,
        /// The daemon's kind.
        #[b(1)]
        kind: &'b str,
        /// Length of its newest snapshot in bytes; 0 when none was taken yet.
        #[n(2)]
        state_bytes: u64,
    },
    /// Source → orchestrator: it may not, or lives elsewhere.
    #[n(24)]
    Declined {
        /// The daemon's address.
        #[n(0)]
        origin: OriginHash,
        /// The migration.
        #[n(1)]
        migration: MigrationId,
        /// The attempt.
        #[n(2)]
        attempt: u32,
        /// Why.
        #[n(3)]
        reason: FailureReason,
        /// Where it went, when it lived here.
        #[n(4)]
        moved: Option<NodeId>,
    },
    /// Draining node → peer: which daemons would you take?
    #[n(25)]
    CanHost {
        /// The asker's number for the question.
        #[n(0)]
        query: u64,
        /// The kinds that have to go somewhere.
        #[cbor(b(1), decode_with = "read_kinds")]
        kinds: Vec<&'b str>,
    },
    /// Peer → draining node: the answer.
    #[n(26)]
    Hosts {
        /// The asker's number.
        #[n(0)]
        query: u64,
        /// Places in the question of the kinds that it can build; none while it is not ready or leaves itself.
        #[cbor(n(1), decode_with = "read_places")]
        kinds: Vec<u32>,
        /// Whether its policy may admit daemons that were not announced to it.
        #[n(2)]
        open: bool,
        /// How many daemons live there.
        #[n(3)]
        daemons: u64,
    },
}

/// What became of a target's copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CopyState {
    /// Received or staged, undecided.
    #[n(0)]
    Undecided,
    /// Live.
    #[n(1)]
    Active,
    /// Dropped, or never arrived: nothing ran there.
    #[n(2)]
    Discarded,
    /// Nothing is left of it, and nobody knows any more whether it ran: the runtime that had it has ended.
    #[n(3)]
    Gone,
}

impl MigrationMessage<'_> {
    /// Which attempt the message belongs to, for those that name one in full.
    pub fn id(&self) -> Option<&MoveId> {
        match self {
            Self::Prepare { id, .. }
            | Self::Prepared { id }
            | Self::TakeSnapshot { id, .. }
            | Self::Reserve { id, .. }
            | Self::Reserved { id }
            | Self::Chunk { id, .. }
            | Self::SnapshotReady { id, .. }
            | Self::RestoreComplete { id }
            | Self::BufferedEvents { id, .. }
            | Self::ReplayComplete { id, .. }
            | Self::CutoverNotify { id }
            | Self::ActivateTarget { id, .. }
            | Self::ActivateAck { id }
            | Self::CleanupComplete { id }
            | Self::MigrationFailed { id, .. }
            | Self::Status { id, .. }
            | Self::StatusQuery { id }
            | Self::StatusAnswer { id, .. }
            | Self::Cancel { id, .. }
            | Self::InDoubt { id }
            | Self::TooLate { id }
            | Self::Described { id, .. } => Some(id),
            Self::NowReady { .. }
            | Self::Inquire { .. }
            | Self::Declined { .. }
            | Self::CanHost { .. }
            | Self::Hosts { .. } => None,
        }
    }

    /// The name of the message, for logs, gates and `wrong-phase`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "Prepare",
            Self::Prepared { .. } => "Prepared",
            Self::TakeSnapshot { .. } => "TakeSnapshot",
            Self::Reserve { .. } => "Reserve",
            Self::Reserved { .. } => "Reserved",
            Self::Chunk { .. } => "Chunk",
            Self::SnapshotReady { .. } => "SnapshotReady",
            Self::RestoreComplete { .. } => "RestoreComplete",
            Self::BufferedEvents { .. } => "BufferedEvents",
            Self::ReplayComplete { .. } => "ReplayComplete",
            Self::CutoverNotify { .. } => "CutoverNotify",
            Self::ActivateTarget { .. } => "ActivateTarget",
            Self::ActivateAck { .. } => "ActivateAck",
            Self::CleanupComplete { .. } => "CleanupComplete",
            Self::MigrationFailed { .. } => "MigrationFailed",
            Self::Status { .. } => "Status",
            Self::StatusQuery { .. } => "StatusQuery",
            Self::StatusAnswer { .. } => "StatusAnswer",
            Self::Cancel { .. } => "Cancel",
            Self::InDoubt { .. } => "InDoubt",
            Self::TooLate { .. } => "TooLate",
            Self::NowReady { .. } => "NowReady",
            Self::Inquire { .. } => "Inquire",
            Self::Described { .. } => "Described",
            Self::Declined { .. } => "Declined",
            Self::CanHost { .. } => "CanHost",
            Self::Hosts { .. } => "Hosts",
        }
    }
}

fn read_streams<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<StreamId>, Error> {
    bounded_array(d, MOST_STAGED_TOGETHER as u64, "streams")
}

fn read_items<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<Vec<StagedItem<'b>>, Error> {
    bounded_array(d, MOST_STAGED_TOGETHER as u64, "waiting events")
}

fn read_marks<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<StreamMark>, Error> {
    bounded_array(d, MOST_HANDED_STREAMS as u64, "marks")
}

fn read_kinds<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<Vec<&'b str>, Error> {
    bounded_array(d, MOST_KINDS as u64, "kinds")
}

fn read_places<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<u32>, Error> {
    bounded_array(d, MOST_KINDS as u64, "kinds")
}
