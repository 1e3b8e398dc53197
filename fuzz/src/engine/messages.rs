//! Messages with chosen fields: mostly ones that mean something to the node, now and then ones that mean nothing.

use arbitrary::{Arbitrary, Result, Unstructured};
use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::identity::{Epoch, Lineage, MigrationId, NodeId};
use mesh_daemon_core::wire::Subprotocol;
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::{Between, DirectoryMessage, Few, Hosted, Rival};
use mesh_daemon_core::wire::events::{
    Answers, Event, EventsMessage, Failure, FailureKind, Item, Missing, Reply, StreamId,
};
use mesh_daemon_core::wire::migration::{
    CopyState, FailureReason, MigrationMessage, MoveId, Stage, StagedItem, StreamMark,
};

use super::{LINEAGE, THEIR_LINEAGE, daemon, node, peer, stream_to};

/// A number that is small, at the end of the range, or any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(u64);

impl<'a> Arbitrary<'a> for Number {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match input.arbitrary::<u8>()? {
            small @ 0..=160 => u64::from(small % 4),
            small @ 161..=200 => u64::from(small % 16),
            near @ 201..=240 => u64::from(near),
            end @ 241..=250 => u64::MAX - u64::from(end - 241),
            251..=252 => 1 << 62,
            _ => input.arbitrary()?,
        }))
    }
}

/// Something that is seldom so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seldom(bool);

impl<'a> Arbitrary<'a> for Seldom {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(input.arbitrary::<u8>()? >= 240))
    }
}

/// Which stream, in words of the fuzzer.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Words {
    theirs: bool,
    sender: u8,
    opening: bool,
    other_life: Seldom,
}

impl Words {
    fn id(self) -> StreamId {
        let keypair = daemon(self.theirs);
        let lineage = match (self.other_life.0, self.theirs) {
            (true, _) => Lineage::new(5),
            (false, true) => THEIR_LINEAGE,
            (false, false) => LINEAGE,
        };
        stream_to(keypair.entity_id(), lineage, some_node(self.sender), u64::from(self.opening))
    }
}

fn some_node(which: u8) -> NodeId {
    match which % 4 {
        0 => peer(false).node_id(),
        1 => peer(true).node_id(),
        2 => node().node_id(),
        _ => NodeId::new(99),
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Attempt {
    theirs: bool,
    migration: u8,
    number: u8,
    epoch: Number,
}

impl Attempt {
    fn id(self) -> MoveId {
        // 7 is the migration with which the peers bring theirs; small ones are drawn by the node itself.
        let migration = MigrationId::new(u128::from(self.migration % 8));
        let entity = daemon(self.theirs).entity_id();
        MoveId { entity, migration, attempt: u32::from(self.number % 4), epoch: Epoch::new(self.epoch.0) }
    }
}

/// A message.
#[derive(Arbitrary, Debug)]
pub(super) enum Chosen<'a> {
    Events(OfStreams<'a>),
    Directory(OfDirectory<'a>),
    Migration(OfMigration<'a>),
}

#[derive(Arbitrary, Debug)]
pub(super) enum OfStreams<'a> {
    Batch { stream: Words, epoch: Number, hops: u8, first: Number, count: u8, calls: u8, through: Number },
    Accepted { stream: Words, through: Number },
    Replies { stream: Words, through: Number, numbers: [Number; 2], fails: bool, payload: &'a [u8] },
    Await { stream: Words, epoch: Number, hops: u8, through: Number, repeat: bool },
    Withdraw { stream: Words, number: Number },
    Moved { stream: Words, node: u8, epoch: Number },
    Unknown { stream: Words },
    Again { stream: Words },
    Full { stream: Words },
    Close { stream: Words },
    Astray { stream: Words },
}

#[derive(Arbitrary, Debug)]
pub(super) enum OfDirectory<'a> {
    Lookup { query: Number, theirs: bool },
    Answer { query: Number, claim: Option<&'a [u8]>, former: Option<&'a [u8]> },
    HomeLookup { query: Number, theirs: bool, view: Number, hosting: bool },
    HomeAnswer { query: Number, hosts: [bool; 2], settled: bool },
    Place { anew: bool, hosted: [bool; 2], gone: [bool; 2], settled: Option<Number> },
    Rivals { theirs: bool, second: bool },
    Tally { hosted: Number, yours: bool },
    Hosting { theirs: bool, epoch: Number },
}

#[derive(Arbitrary, Debug)]
pub(super) enum OfMigration<'a> {
    Prepare {
        id: Attempt,
        source: u8,
    },
    Prepared {
        id: Attempt,
    },
    TakeSnapshot {
        id: Attempt,
        target: u8,
        transport: bool,
    },
    Reserve {
        id: Attempt,
        total: Number,
        claim: &'a [u8],
        orchestrator: u8,
    },
    Reserved {
        id: Attempt,
    },
    Chunk {
        id: Attempt,
        index: u8,
        total: u8,
        bytes: &'a [u8],
    },
    RestoreComplete {
        id: Attempt,
    },
    Buffered {
        id: Attempt,
        first: Number,
        stream: Words,
        at: u32,
        number: Number,
        total: Option<Number>,
        mark: Option<Number>,
    },
    ReplayComplete {
        id: Attempt,
        staged: Number,
        complete: bool,
    },
    CutoverNotify {
        id: Attempt,
    },
    ActivateTarget {
        id: Attempt,
        claim: &'a [u8],
    },
    ActivateAck {
        id: Attempt,
    },
    CleanupComplete {
        id: Attempt,
    },
    Failed {
        id: Attempt,
        not_ready: bool,
    },
    Status {
        id: Attempt,
        bytes: Number,
    },
    StatusQuery {
        id: Attempt,
    },
    StatusAnswer {
        id: Attempt,
        copy: u8,
    },
    Cancel {
        id: Attempt,
    },
    TooLate {
        id: Attempt,
    },
    InDoubt {
        id: Attempt,
    },
    NowReady {
        theirs: bool,
        migration: u8,
    },
    Inquire {
        theirs: bool,
        migration: u8,
        attempt: u8,
        target: u8,
    },
    Described {
        id: Attempt,
    },
    Declined {
        theirs: bool,
        migration: u8,
        attempt: u8,
        not_ready: bool,
        moved: Option<u8>,
    },
    CanHost {
        query: Number,
        many: bool,
    },
    Hosts {
        query: Number,
        first: u32,
        open: bool,
    },
}

/// A payload that names its place, so that what runs can be checked.
fn payload(stream: Words, number: u64) -> [u8; 12] {
    let mut payload = [0; 12];
    payload[0] = u8::from(stream.theirs);
    payload[1] = stream.sender % 4;
    payload[2] = u8::from(stream.opening);
    payload[3] = u8::from(stream.other_life.0);
    payload[4..].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Reads such a payload.
pub(super) fn numbered(payload: &[u8]) -> Option<(Words, u64)> {
    let (&[theirs, sender, opening, other_life], number) = payload.split_first_chunk()?;
    let number = u64::from_le_bytes(number.try_into().ok()?);
    Some((Words { theirs: theirs == 1, sender, opening: opening == 1, other_life: Seldom(other_life == 1) }, number))
}

impl Chosen<'_> {
    /// The message on the wire.
    pub(super) fn encode(self) -> (Subprotocol, Vec<u8>) {
        match self {
            Self::Events(message) => (Subprotocol::Events, message.encode()),
            Self::Directory(message) => (Subprotocol::Directory, message.encode()),
            Self::Migration(message) => (Subprotocol::Migration, message.encode()),
        }
    }
}

impl OfDirectory<'_> {
    fn encode(self) -> Vec<u8> {
        let origin = |theirs| daemon(theirs).origin_hash();
        codec::encode(&match self {
            Self::Lookup { query, theirs } => {
                DirectoryMessage::Lookup { query: query.0, origin: origin(theirs), view: None, hosting: None }
            }
            Self::Answer { query, claim, former } => {
                DirectoryMessage::Answer { query: query.0, claim, hosts: None, settled: None, former, doubt: None }
            }
            Self::HomeLookup { query, theirs, view, hosting } => DirectoryMessage::Lookup {
                query: query.0,
                origin: origin(theirs),
                view: Some(view.0),
                hosting: Some(hosting),
            },
            Self::HomeAnswer { query, hosts, settled } => {
                let hosts = Some(Few(hosts.map(|second| peer(second).node_id()).to_vec()));
                DirectoryMessage::Answer {
                    query: query.0,
                    claim: None,
                    hosts,
                    settled: Some(settled),
                    former: None,
                    doubt: None,
                }
            }
            Self::Place { anew, hosted, gone, settled } => DirectoryMessage::Place {
                anew,
                hosted: hosted.map(origin).to_vec(),
                gone: gone.map(origin).to_vec(),
                settled: settled.map(|view| view.0),
                between: Between::default(),
            },
            Self::Rivals { theirs, second } => {
                let rival = Rival { origin: origin(theirs), host: peer(second).node_id() };
                DirectoryMessage::Rivals { rivals: vec![rival] }
            }
            Self::Tally { hosted, yours } => {
                DirectoryMessage::Tally { hosted: hosted.0, yours, anew: hosted.0 % 2 == 1 }
            }
            Self::Hosting { theirs, epoch } => {
                let hosted = Hosted { origin: origin(theirs), epoch: Epoch::new(epoch.0) };
                DirectoryMessage::Hosting { hosted: vec![hosted] }
            }
        })
    }
}

impl OfStreams<'_> {
    fn encode(self) -> Vec<u8> {
        let link = CausalLink::genesis(daemon(true).origin_hash());
        match self {
            Self::Batch { stream, epoch, hops, first, count, calls, through } => {
                let payloads: Vec<_> =
                    (0..u64::from(count % 8)).map(|at| payload(stream, first.0.wrapping_add(at))).collect();
                let item = |(at, payload)| match calls >> (at % 8) & 1 {
                    0 => Item::Send(Event { link, payload }),
                    _ if at == 7 => Item::Skip,
                    _ => Item::Call(Event { link, payload }),
                };
                let items = payloads.iter().map(<[u8; 12]>::as_slice).enumerate().map(item).collect();
                let (stream, epoch, first) = (stream.id(), Epoch::new(epoch.0), first.0);
                codec::encode(&EventsMessage::Batch { stream, epoch, hops, first, items, replies_through: through.0 })
            }
            Self::Accepted { stream, through } => {
                codec::encode(&EventsMessage::Accepted { stream: stream.id(), through: through.0, hops: 0 })
            }
            Self::Replies { stream, through, numbers, fails, payload } => {
                let result = if fails {
                    Err(Failure { kind: FailureKind::NotFound, message: String::new(), cause: None })
                } else {
                    Ok(vec![Event { link, payload }].into())
                };
                let replies = numbers.iter().map(|number| Reply { number: number.0, result: result.clone() }).collect();
                codec::encode(&EventsMessage::Replies { stream: stream.id(), through: through.0, replies, hops: 0 })
            }
            Self::Await { stream, epoch, hops, through, repeat } => codec::encode(&EventsMessage::Await {
                stream: stream.id(),
                epoch: Epoch::new(epoch.0),
                hops,
                replies_through: through.0,
                repeat,
            }),
            Self::Again { stream } => codec::encode(&EventsMessage::Again { stream: stream.id(), hops: 0 }),
            Self::Full { stream } => codec::encode(&EventsMessage::Full { stream: stream.id(), hops: 0 }),
            Self::Close { stream } => codec::encode(&EventsMessage::Close { stream: stream.id() }),
            Self::Astray { stream } => codec::encode(&EventsMessage::Astray { stream: stream.id(), hops: 0 }),
            Self::Withdraw { stream, number } => codec::encode(&EventsMessage::Withdraw {
                stream: stream.id(),
                epoch: Epoch::FIRST,
                hops: 0,
                number: number.0,
            }),
            Self::Moved { stream, node, epoch } => codec::encode(&EventsMessage::Moved {
                hops: 0,
                stream: stream.id(),
                node: some_node(node),
                epoch: Epoch::new(epoch.0),
            }),
            Self::Unknown { stream } => codec::encode(&EventsMessage::Unknown {
                stream: stream.id(),
                missing: Missing::Daemon,
                hops: 0,
                accepted: None,
                answers: Answers::Nothing,
            }),
        }
    }
}

impl OfMigration<'_> {
    fn encode(self) -> Vec<u8> {
        let link = CausalLink::genesis(daemon(true).origin_hash());
        let message = match self {
            Self::Prepare { id, source } => MigrationMessage::Prepare {
                id: id.id(),
                kind: super::KIND,
                source: some_node(source),
                transport_identity: false,
                state_bytes: 0,
            },
            Self::Prepared { id } => MigrationMessage::Prepared { id: id.id() },
            Self::TakeSnapshot { id, target, transport } => {
                MigrationMessage::TakeSnapshot { id: id.id(), target: some_node(target), transport_identity: transport }
            }
            Self::Reserve { id, total, claim, orchestrator } => {
                MigrationMessage::Reserve { id: id.id(), total: total.0, claim, orchestrator: some_node(orchestrator) }
            }
            Self::Reserved { id } => MigrationMessage::Reserved { id: id.id() },
            Self::Chunk { id, index, total, bytes } => {
                MigrationMessage::Chunk { id: id.id(), index: u32::from(index), total: u32::from(total), bytes }
            }
            Self::RestoreComplete { id } => MigrationMessage::RestoreComplete { id: id.id() },
            Self::Buffered { id, first, stream, at, number, total, mark } => {
                let payload = payload(stream, number.0);
                let item = Item::Call(Event { link, payload: &payload });
                let items = vec![StagedItem { stream: at % 3, number: number.0, item, received_at: 0, channel: None }];
                let marks = mark.into_iter().map(|next| StreamMark { stream: stream.id(), next: next.0 }).collect();
                let (streams, total) = (vec![stream.id(); 2], total.map(|total| total.0));
                let first = first.0;
                return codec::encode(&MigrationMessage::BufferedEvents {
                    id: id.id(),
                    first,
                    streams,
                    items,
                    total,
                    marks,
                    ledger: total.map(|_| &[][..]),
                });
            }
            Self::ReplayComplete { id, staged, complete } => {
                MigrationMessage::ReplayComplete { id: id.id(), staged: staged.0, head: 0, complete }
            }
            Self::CutoverNotify { id } => MigrationMessage::CutoverNotify { id: id.id() },
            Self::ActivateTarget { id, claim } => MigrationMessage::ActivateTarget { id: id.id(), claim },
            Self::ActivateAck { id } => MigrationMessage::ActivateAck { id: id.id() },
            Self::CleanupComplete { id } => MigrationMessage::CleanupComplete { id: id.id() },
            Self::Failed { id, not_ready } => {
                let reason = if not_ready { FailureReason::NotReady } else { FailureReason::Cancelled };
                MigrationMessage::MigrationFailed { id: id.id(), reason }
            }
            Self::Status { id, bytes } => MigrationMessage::Status {
                id: id.id(),
                stage: Stage::Transfer,
                bytes_sent: bytes.0,
                bytes_total: bytes.0,
                events: bytes.0,
            },
            Self::StatusQuery { id } => MigrationMessage::StatusQuery { id: id.id() },
            Self::StatusAnswer { id, copy } => {
                let copies = [CopyState::Undecided, CopyState::Active, CopyState::Discarded, CopyState::Gone];
                let copy = copies[usize::from(copy % 4)];
                MigrationMessage::StatusAnswer { id: id.id(), copy }
            }
            Self::Cancel { id } => MigrationMessage::Cancel { id: id.id(), reason: FailureReason::Cancelled },
            Self::TooLate { id } => MigrationMessage::TooLate { id: id.id() },
            Self::InDoubt { id } => MigrationMessage::InDoubt { id: id.id() },
            Self::NowReady { theirs, migration } => MigrationMessage::NowReady {
                origin: daemon(theirs).origin_hash(),
                migration: MigrationId::new(u128::from(migration % 8)),
            },
            Self::Inquire { theirs, migration, attempt, target } => MigrationMessage::Inquire {
                origin: daemon(theirs).origin_hash(),
                migration: MigrationId::new(u128::from(migration % 8)),
                attempt: u32::from(attempt % 4),
                target: some_node(target),
                transport_identity: false,
            },
            Self::Described { id } => MigrationMessage::Described { id: id.id(), kind: super::KIND, state_bytes: 0 },
            Self::Declined { theirs, migration, attempt, not_ready, moved } => MigrationMessage::Declined {
                origin: daemon(theirs).origin_hash(),
                migration: MigrationId::new(u128::from(migration % 8)),
                attempt: u32::from(attempt % 4),
                reason: if not_ready { FailureReason::NotReady } else { FailureReason::DaemonNotFound },
                moved: moved.map(some_node),
            },
            Self::CanHost { query, many } => {
                MigrationMessage::CanHost { query: query.0, kinds: vec![super::KIND; if many { 100 } else { 1 }] }
            }
            Self::Hosts { query, first, open } => {
                MigrationMessage::Hosts { query: query.0, kinds: vec![first, 0], open, daemons: query.0 }
            }
        };
        codec::encode(&message)
    }
}
