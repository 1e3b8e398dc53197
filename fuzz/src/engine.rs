//! The engine of a runtime, with two peers that send whatever they like, in any order, with any numbers.
//!
//! The peers hold valid keys, so that more than the first check of each message is reached: one of them can bring a
//! daemon of its own whole, with a right claim, signature and state.

use std::collections::HashMap;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use mesh_daemon_core::causal::{ChainBuilder, Horizon};
use mesh_daemon_core::daemon::{DaemonKey, EventOutcome, HostConfig, Ticket};
use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{
    EntityId, EntityKeypair, Epoch, Incarnation, Lineage, MigrationId, NodeId, NodeStaticSecret, RuntimeLife,
};
use mesh_daemon_core::membership::Standing;
use mesh_daemon_core::mesh::{Loss, PeerEvent, PeerIdentity, Record, RecordSink};
use mesh_daemon_core::migration::{MigrationOptions, SliceHash};
use mesh_daemon_core::runtime::{
    ArrivalPolicy, Engine, NodeSelf, Now, OrchestratorPolicy, Rest, Role, RuntimeOptions, SpawnRequest, Work,
};
use mesh_daemon_core::snapshot::{SnapshotDigest, SnapshotHead, SnapshotStats, StateSnapshot};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::events::{Opening, StreamId};
use mesh_daemon_core::wire::migration::{MigrationMessage, MoveId};
use mesh_daemon_core::wire::{Lane, Subprotocol};
use tokio::time::Instant;

use super::identity::keypair;
use messages::{Chosen, Words};

mod messages;

/// The life of every node here.
const LIFE: Incarnation = Incarnation { started_at_ms: 1_000, salt: 1 };
/// The first random number that the engine draws: the lineage of its own daemon.
const LINEAGE: Lineage = Lineage::new(1);
/// The lineage of the daemon that the peers bring.
const THEIR_LINEAGE: Lineage = Lineage::new(77);
const KIND: &str = "kind";

fn node() -> EntityKeypair {
    keypair(20)
}

fn peer(second: bool) -> EntityKeypair {
    keypair(21 + u8::from(second))
}

/// The daemon that lives here, or the one that lives with the peers.
fn daemon(theirs: bool) -> EntityKeypair {
    keypair(24 + u8::from(theirs))
}

/// What the fuzzer does next.
#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// A peer sends bytes.
    Raw {
        second: bool,
        subprotocol: u8,
        bulk: bool,
        bytes: &'a [u8],
    },
    /// A peer sends a message whose fields have been chosen.
    Send {
        second: bool,
        chosen: Chosen<'a>,
    },
    /// A peer does the next thing that brings its daemon here.
    Bring {
        second: bool,
        attempt: u8,
        part: u8,
    },
    /// The embedder does so many pieces of work, or refuses them.
    Work {
        pieces: u8,
        willing: bool,
    },
    /// What waits for the peers is sent.
    Transmit,
    Wait {
        millis: u32,
    },
    /// Something happens to a session.
    Session {
        second: bool,
        what: u8,
    },
    /// A user of this node calls a daemon.
    Call {
        theirs: bool,
        timeout_ms: u16,
    },
    /// A user of this node moves a daemon to a peer.
    Move {
        theirs: bool,
        second: bool,
    },
    /// The node is drained.
    Drain,
}

struct World {
    engine: Engine,
    now: Now,
    tickets: u64,
    /// The last number that ran, of each stream to a daemon while it lived here.
    last_run: HashMap<(DaemonKey, Words), u64>,
    ran: bool,
}

/// Any messages at any time: no panic, no number of a stream runs twice or out of order, and nothing that arrives stays
/// behind when its peers have gone.
pub fn engine(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let mut world = World::new();
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        world.step(step);
    }
    world.end();
    world.ran
}

impl World {
    fn new() -> Self {
        let keypair = node();
        let static_secret = NodeStaticSecret::derive(&keypair).expect("a full key pair");
        let options = RuntimeOptions {
            arrivals: ArrivalPolicy::AnyKind,
            orchestrators: OrchestratorPolicy::Ask,
            ..RuntimeOptions::default()
        };
        let mut drawn = 0;
        let entropy = Box::new(move || {
            drawn += 1;
            drawn
        });
        let engine = Engine::new(
            NodeSelf { keypair, incarnation: LIFE, runtime: RuntimeLife::FIRST, static_secret },
            options,
            entropy,
        );
        let now = Now { instant: Instant::now(), unix_ns: 1_700_000_000_000_000_000 };
        let mut world = Self { engine, now, tickets: 0, last_run: HashMap::new(), ran: false };
        world.engine.register_factory(KIND).expect("a new kind");
        world.engine.start(now).expect("it was not shut down");
        let request = SpawnRequest {
            kind: Some(KIND.to_owned()),
            keypair: daemon(false),
            config: HostConfig::default(),
            snapshot: None,
            instance: false,
        };
        let ticket = world.ticket();
        world.engine.spawn(ticket, request, now).expect("it is ready");
        world.work(u8::MAX, true);
        for second in [false, true] {
            world.session(second, 0);
        }
        world
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Raw { second, subprotocol, bulk, bytes } => {
                let known = [Subprotocol::Events, Subprotocol::Migration, Subprotocol::Directory, Subprotocol::Groups];
                let lane = if bulk { Lane::Bulk } else { Lane::Fast };
                self.record(second, known[usize::from(subprotocol % 4)], lane, bytes.to_vec());
            }
            Step::Send { second, chosen } => {
                let (subprotocol, body) = chosen.encode();
                self.record(second, subprotocol, Lane::Fast, body);
            }
            Step::Bring { second, attempt, part } => self.bring(second, attempt, part),
            Step::Work { pieces, willing } => self.work(pieces, willing),
            Step::Transmit => self.transmit(),
            Step::Wait { millis } => self.wait(Duration::from_millis(u64::from(millis % 1_200_000))),
            Step::Session { second, what } => self.session(second, what),
            Step::Call { theirs, timeout_ms } => {
                let (ticket, origin) = (self.ticket(), daemon(theirs).origin_hash());
                let timeout = Duration::from_millis(u64::from(timeout_ms));
                let _ = self.engine.call(ticket, origin, Bytes::from_static(b"call"), timeout, self.now);
            }
            Step::Drain => {
                let ticket = self.ticket();
                let _ = self.engine.drain(ticket, Some(Duration::from_secs(10)), self.now);
            }
            Step::Move { theirs, second } => {
                let (ticket, origin, target) = (self.ticket(), daemon(theirs).origin_hash(), peer(second).node_id());
                let options = MigrationOptions::default();
                let _ = self.engine.start_migration(ticket, origin, None, target, options, self.now);
            }
        }
    }

    fn record(&mut self, second: bool, subprotocol: Subprotocol, lane: Lane, body: Vec<u8>) {
        // A frame holds no more.
        if body.len() > mesh_daemon_core::wire::MAX_RECORD_BODY {
            return;
        }
        let mut records = vec![Record { subprotocol, body: body.into() }];
        self.engine.records(peer(second).node_id(), lane, &mut records, self.now);
    }

    /// A part of a move that is right in itself.
    fn bring(&mut self, second: bool, attempt: u8, part: u8) {
        let (source, daemon) = (peer(second), daemon(true));
        let epoch = Epoch::new(3);
        let attempt = u32::from(attempt % 4);
        let id = MoveId { entity: daemon.entity_id(), migration: MigrationId::new(7), attempt, epoch };
        let (snapshot, digest) = their_snapshot(epoch);
        let claim_for = |host: &EntityKeypair, epoch| {
            let body = ClaimBody {
                entity: daemon.entity_id(),
                lineage: THEIR_LINEAGE,
                epoch,
                min_epoch: Epoch::FIRST,
                host: host.entity_id(),
                incarnation: None,
            };
            Claim::sign(body, &daemon).expect("the key is at hand").encode()
        };
        let claim;
        let message = match part % 7 {
            0 => MigrationMessage::Prepare {
                id,
                kind: KIND,
                source: source.node_id(),
                transport_identity: false,
                state_bytes: 0,
            },
            1 => {
                claim = claim_for(&source, epoch);
                let (total, orchestrator) = (snapshot.len() as u64, source.node_id());
                MigrationMessage::Reserve { id, total, claim: &claim, orchestrator }
            }
            2 => MigrationMessage::Chunk { id, index: 0, total: 1, bytes: &snapshot },
            3 => {
                let nodes = (source.node_id(), node().node_id());
                let signature = *daemon.sign(&vouched(&id, nodes, &digest)).expect("can sign").as_bytes();
                MigrationMessage::SnapshotReady { id, digest: *digest.as_bytes(), signature, envelope: None }
            }
            4 => MigrationMessage::BufferedEvents {
                id,
                first: 0,
                streams: Vec::new(),
                items: Vec::new(),
                total: Some(0),
                marks: Vec::new(),
                ledger: Some(&[]),
            },
            5 => {
                claim = claim_for(&node(), Epoch::new(4));
                MigrationMessage::ActivateTarget { id, claim: &claim }
            }
            _ => MigrationMessage::CleanupComplete { id },
        };
        let body = codec::encode(&message);
        self.record(second, Subprotocol::Migration, Lane::Fast, body);
    }

    fn session(&mut self, second: bool, what: u8) {
        let keypair = peer(second);
        let node = keypair.node_id();
        let members = [self::node().node_id(), peer(false).node_id(), peer(true).node_id()];
        let event = match what % 10 {
            which @ (0 | 1) => PeerEvent::Connected {
                peer: PeerIdentity {
                    node,
                    entity: keypair.entity_id(),
                    incarnation: LIFE,
                    static_key: *NodeStaticSecret::derive(&keypair).expect("a full key pair").public(),
                    max_payload: 1 << 20,
                },
                resumed: which == 1,
            },
            2 => PeerEvent::Suspected { node },
            8 => PeerEvent::Heard { node },
            9 => PeerEvent::Cut { node },
            5 => return self.engine.members(&members, Standing::Settled, self.now),
            6 => return self.engine.members(&members[..2], Standing::Seeking, self.now),
            7 => return self.engine.members(&[], Standing::Apart, self.now),
            3 => PeerEvent::Lost { node, incarnation: LIFE, how: Loss::Silence },
            _ => PeerEvent::Lost { node, incarnation: LIFE, how: Loss::Goodbye },
        };
        self.engine.peer(&event, self.now);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now.instant + time;
        let mut ticks = 0;
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= end) {
            ticks += 1;
            assert!(ticks < 100_000, "timers come to rest");
            self.advance_to(due);
            self.engine.tick(self.now);
            assert!(self.engine.next_deadline().is_none_or(|next| next > due), "a deadline that passed is set again");
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, instant: Instant) {
        let passed = instant.saturating_duration_since(self.now.instant);
        self.now.unix_ns += u64::try_from(passed.as_nanos()).expect("a short run");
        self.now.instant += passed;
    }

    fn work(&mut self, pieces: u8, willing: bool) {
        for _ in 0..pieces {
            let Some(work) = self.engine.next_work(self.now) else { break };
            self.one(&work, willing);
        }
    }

    fn one(&mut self, work: &Work, willing: bool) {
        let now = self.now;
        let refusal = || mesh_daemon_core::wire::events::Thrown {
            name: "Error".to_owned(),
            message: "told to fail".to_owned(),
            stack: None,
        };
        let done = || if willing { Ok(()) } else { Err(refusal()) };
        match *work {
            Work::Construct { daemon, .. } => self.engine.constructed(daemon, done(), now),
            Work::Restore { daemon, .. } => self.engine.restored(daemon, done(), now),
            Work::Hush { daemon } => {
                if willing {
                    self.engine.hushed(daemon, now);
                }
            }
            Work::Snapshot { daemon } => self.engine.snapshot_taken(daemon, done().map(|()| Some(3)), now),
            Work::ReadState { daemon, offset, len } => {
                let slice = done().map(|()| Bytes::from(vec![5; len as usize]));
                self.engine.state_slice(daemon, offset, slice, now);
            }
            Work::CheckState { daemon, offset, len } => {
                let hash = done().map(|()| SliceHash::of(&vec![5; len as usize]));
                self.engine.state_checked(daemon, offset, hash, now);
            }
            Work::Admit { question, .. } | Work::AdmitOrchestrator { question, .. } => {
                self.engine.admitted(question, willing, now);
            }
            Work::Run { daemon, batch } => {
                let events = self.engine.batch(daemon, batch).cloned().expect("handed out");
                for event in &events {
                    if let Some((stream, number)) = messages::numbered(&event.payload) {
                        self.ran = true;
                        if let Some(last) = self.last_run.insert((daemon, stream), number) {
                            assert!(last < number, "{number} of a stream ran after {last}");
                        }
                    }
                }
                let outcomes: Vec<_> =
                    events.iter().map(|event| EventOutcome::Outputs(vec![event.payload.clone()].into())).collect();
                self.engine.ran(daemon, batch, outcomes, Rest::Continues, now, &mut |_, _| {});
            }
            Work::Yield { .. }
            | Work::Abort { .. }
            | Work::ReleaseState { .. }
            | Work::Retire { .. }
            | Work::Settle { .. }
            | Work::Notice(_) => {}
        }
    }

    fn transmit(&mut self) {
        for second in [false, true] {
            for lane in [Lane::Fast, Lane::Bulk] {
                for _ in 0..64 {
                    let mut sink = Sink { left: mesh_daemon_core::wire::frame::MAX_PLAINTEXT - 1, records: 0 };
                    let more = self.engine.fill(peer(second).node_id(), lane, &mut sink, self.now);
                    if sink.records == 0 {
                        assert!(!more, "there is more, but nothing fits an empty frame");
                        break;
                    }
                }
            }
        }
        let _ = self.engine.take_wakes();
    }

    /// The peers go, everything settles, and time passes.
    fn end(&mut self) {
        for second in [false, true] {
            self.session(second, 4);
        }
        for _ in 0..50 {
            self.work(u8::MAX, true);
        }
        self.wait(Duration::from_secs(3600));
        for _ in 0..50 {
            self.work(u8::MAX, true);
        }
        let census = self.engine.census();
        assert_eq!(census.arriving_bytes, 0, "no arriving state outlives its source");
        let arriving = self.engine.migrations().into_iter().filter(|migration| matches!(migration.0, Role::Target));
        assert_eq!(arriving.count(), 0, "no arrival outlives its source");
        self.engine.shutdown(self.now);
        assert_eq!(self.engine.census().daemons, 0);
    }
}

/// Room for one frame.
struct Sink {
    left: usize,
    records: usize,
}

impl RecordSink for Sink {
    fn room(&self) -> usize {
        self.left.saturating_sub(4)
    }

    fn record(&mut self, _: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        if body.len() > self.room() {
            return None;
        }
        self.left -= body.len() + 4;
        self.records += 1;
        Some(body.len())
    }
}

/// The daemon of the peers as it leaves them.
fn their_snapshot(epoch: Epoch) -> (Bytes, SnapshotDigest) {
    let daemon = daemon(true);
    let head = SnapshotHead {
        kind: Some(KIND.into()),
        entity: daemon.entity_id(),
        lineage: THEIR_LINEAGE,
        epoch,
        chain: *ChainBuilder::new(daemon.origin_hash()).head(),
        horizon: Horizon::new(),
        stats: SnapshotStats::default(),
        streams: Bytes::new(),
        ledger: Bytes::new(),
        created_at_ns: 0,
    };
    let snapshot = StateSnapshot { head, state: Some(Bytes::from_static(b"abc")), envelope: None };
    let encoded = snapshot.encode().expect("encodable");
    let digest = SnapshotDigest::of(&encoded).expect("well formed");
    (encoded, digest)
}

/// What a source signs for its snapshot.
fn vouched(id: &MoveId, (source, target): (NodeId, NodeId), digest: &SnapshotDigest) -> Vec<u8> {
    [
        b"mesh-daemon snapshot v1".as_slice(),
        &id.migration.to_bytes(),
        &id.attempt.to_le_bytes(),
        &source.get().to_le_bytes(),
        &target.get().to_le_bytes(),
        &id.epoch.get().to_le_bytes(),
        digest.as_bytes(),
    ]
    .concat()
}

/// A stream to one of the two daemons.
fn stream_to(entity: EntityId, lineage: Lineage, sender: NodeId, opening: u64) -> StreamId {
    // What the node itself draws are small numbers: its streams have no secret here.
    StreamId { sender, incarnation: LIFE, entity, lineage, opening: Opening::new(opening, 0) }
}
