//! The engine: all state of one runtime, driven by calls that carry the present instant.
//!
//! It does no I/O and calls nobody. What it wants done waits in two places: [`Work`] for the embedder, and messages for
//! peers, which are encoded when the mesh asks for them ([`transmit`](super::transmit)). The methods of the engine are
//! spread over the files of this module by subject.

use std::collections::{BTreeSet, HashMap, VecDeque};

use foldhash::fast::RandomState;
use slab::Slab;
use tokio::time::Instant;

use super::admission::Inquiry;
use super::arrivals::Arrival;
use super::by_daemon::ByDaemon;
use super::comparing::Comparing;
use super::departures::Departure;
use super::drains::Draining;
use super::error::{Executed, RuntimeError};
use super::forwards::Forwards;
use super::intake::Waiting;
use super::orchestrations::{Orchestration, Sought};
use super::peers::Peers;
use super::places::Places;
use super::placing::Placing;
use super::policy::RuntimeOptions;
use super::questions::Asked;
use super::reaching::Reaching;
use super::receiving::ChunkPlacement;
use super::routes::Route;
use super::spans::Spans;
use super::state_reader::StateReader;
use super::subscriptions::ChannelSide;
use super::timers::{TimerKey, Timers};
use super::work::{DaemonEvent, Notice, Settlement, StopReason, Work, WorkQueue};
use crate::daemon::{DaemonHost, DaemonKey, FactoryRegistry, Ticket};
use crate::directory::{Claim, Graves, Homes, Lookups, Pointers};
use crate::events::{Accounts, InStream, Inbound};
use crate::identity::{EntityKeypair, Incarnation, NodeId, NodeStaticSecret, OriginHash, RuntimeLife};
use crate::migration::{CalledOff, EndedMoves};
use crate::snapshot::SnapshotReassembler;
use crate::wire::Subprotocol;

/// The present: the clock for deadlines, and the wall clock for stamps.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// Unix time in nanoseconds.
    pub unix_ns: u64,
}

/// The node that an engine runs on.
pub struct NodeSelf {
    /// Its key pair.
    pub keypair: EntityKeypair,
    /// Its life.
    pub incarnation: Incarnation,
    /// Which of its runtimes this is.
    pub runtime: RuntimeLife,
    /// The secret that identities are sealed to.
    pub static_secret: NodeStaticSecret,
}

/// A source of 128 random bits; seeded in simulations.
pub type Entropy = Box<dyn FnMut() -> u128 + Send>;

/// Where the runtime stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifecycle {
    Registering,
    Ready,
    ShuttingDown,
}

/// A daemon of this node, with what the layers keep for it.
pub(super) struct Slot {
    pub(super) host: DaemonHost,
    pub(super) inbound: Inbound,
    /// A snapshot under way. What most daemons never have at a moment is boxed: there may be very many of them.
    pub(super) reader: Option<Box<StateReader>>,
    /// Whoever waits for the spawn.
    pub(super) spawning: Option<Box<super::spawn::Spawning>>,
    /// The claim, once somebody asked for it.
    pub(super) claim: Option<Claim>,
    /// The nodes that were told that it lives here.
    pub(super) homes: Homes,
    /// Those that have events for which the mailbox had no room.
    pub(super) waiting: Waiting,
    /// Room came free in its mailbox, and it is entered among those that have work for that.
    pub(super) comes_round: bool,
}

/// Everything that one runtime knows.
pub struct Engine {
    pub(super) node: NodeSelf,
    pub(super) options: RuntimeOptions,
    pub(super) lifecycle: Lifecycle,
    pub(super) factories: FactoryRegistry,
    pub(super) daemons: Slab<Slot>,
    generations: Vec<u32>,
    pub(super) by_origin: HashMap<OriginHash, DaemonKey, RandomState>,
    pub(super) peers: Peers,
    pub(super) routes: HashMap<OriginHash, Route, RandomState>,
    pub(super) lookups: Lookups,
    pub(super) locating: HashMap<OriginHash, Vec<Ticket>>,
    pub(super) pointers: Pointers,
    pub(super) graves: Graves,
    pub(super) departures: ByDaemon<Departure>,
    pub(super) arrivals: ByDaemon<Arrival>,
    /// What this node is told as a home of daemons, and tells the homes of its own.
    pub(super) placing: Placing,
    /// What is compared with peers that share no homes with this node.
    pub(super) comparing: Comparing,
    /// Places for daemons that others than the newest who asked were promised.
    pub(super) places: Places,
    /// Moves that ended here as source, and as target.
    pub(super) departed: EndedMoves,
    pub(super) arrived: EndedMoves,
    pub(super) called_off: CalledOff,
    pub(super) orchestrations: HashMap<OriginHash, Orchestration>,
    pub(super) reaching: Reaching,
    pub(super) channels: ChannelSide,
    /// Moves whose sources are being looked for.
    pub(super) sought: HashMap<OriginHash, Vec<Sought>>,
    /// Orchestrators of daemons that have not wholly arrived here.
    pub(super) early_inquiries: Vec<Inquiry>,
    /// Every daemon of this node is being moved away.
    pub(super) drain: Option<Draining>,
    pub(super) spans: Spans,
    pub(super) reassembler: SnapshotReassembler,
    /// Chunks of large states that have yet to be put in their places.
    pub(super) placements: Vec<ChunkPlacement>,
    pub(super) work: WorkQueue,
    pub(super) timers: Timers,
    pub(super) entropy: Entropy,
    pub(super) sequence: u64,
    pub(super) openings: u64,
    /// What is held for the streams of each peer.
    pub(super) accounts: Accounts,
    pub(super) forwards: Forwards,
    pub(super) questions: u64,
    /// Questions to the embedder's policy.
    pub(super) asked: Asked,
    /// Nodes that were told `NotReady` and are to be asked again.
    pub(super) turned_away: Vec<(NodeId, OriginHash, crate::identity::MigrationId)>,
    /// Peers for whom something was entered since the mesh was last told.
    pub(super) wakes: BTreeSet<NodeId>,
    /// Messages that this node sends itself.
    pub(super) own: VecDeque<(Subprotocol, Vec<u8>)>,
    /// Streams of this node to its own daemons that have something to say.
    pub(super) own_streams: Vec<OriginHash>,
    pub(super) own_answers: Vec<(DaemonKey, u32)>,
    /// Streams whose other end was not told of progress yet.
    pub(super) untold_routes: BTreeSet<OriginHash>,
    pub(super) untold_streams: BTreeSet<(DaemonKey, u32)>,
    /// Messages that could not be read or were refused.
    pub(super) refused: u64,
    peak_state_bytes: u64,
    #[cfg(feature = "test-hooks")]
    pub(super) gates: super::gates::Gates,
}

impl Engine {
    /// An engine that registers kinds and accepts nothing yet.
    pub fn new(node: NodeSelf, options: RuntimeOptions, entropy: Entropy) -> Self {
        let (budget, silence) = (options.migration.arrival_budget, 8 * options.migration.silence);
        let first = node.runtime == RuntimeLife::FIRST;
        let ended = || if first { EndedMoves::default() } else { EndedMoves::after_others() };
        // Above those of its forerunners, which others may still remember.
        let openings = u64::from(node.runtime.get()) << 32;
        Self {
            node,
            options,
            lifecycle: Lifecycle::Registering,
            factories: FactoryRegistry::default(),
            daemons: Slab::new(),
            generations: Vec::new(),
            by_origin: HashMap::default(),
            peers: Peers::default(),
            routes: HashMap::default(),
            lookups: Lookups::default(),
            locating: HashMap::new(),
            pointers: Pointers::default(),
            graves: Graves::default(),
            departures: ByDaemon::default(),
            arrivals: ByDaemon::default(),
            placing: Placing::default(),
            comparing: Comparing::default(),
            places: Places::default(),
            departed: ended(),
            arrived: ended(),
            called_off: CalledOff::default(),
            orchestrations: HashMap::new(),
            reaching: Reaching::default(),
            channels: ChannelSide::default(),
            sought: HashMap::new(),
            early_inquiries: Vec::new(),
            drain: None,
            spans: Spans::default(),
            reassembler: SnapshotReassembler::new(budget, silence),
            placements: Vec::new(),
            work: WorkQueue::default(),
            timers: Timers::default(),
            entropy,
            sequence: 0,
            openings,
            accounts: Accounts::default(),
            forwards: Forwards::default(),
            questions: 0,
            asked: Asked::default(),
            turned_away: Vec::new(),
            wakes: BTreeSet::new(),
            own: VecDeque::new(),
            own_streams: Vec::new(),
            own_answers: Vec::new(),
            untold_routes: BTreeSet::new(),
            untold_streams: BTreeSet::new(),
            refused: 0,
            peak_state_bytes: 0,
            #[cfg(feature = "test-hooks")]
            gates: super::gates::Gates::default(),
        }
    }

    /// This node.
    pub(super) fn me(&self) -> NodeId {
        self.node.keypair.node_id()
    }

    /// Makes the runtime ready. Idempotent.
    pub fn start(&mut self, now: Now) -> Result<(), RuntimeError> {
        match self.lifecycle {
            Lifecycle::Registering => {
                self.lifecycle = Lifecycle::Ready;
                self.call_back_turned_away();
                self.settle_own(now);
                Ok(())
            }
            Lifecycle::Ready => Ok(()),
            Lifecycle::ShuttingDown => Err(RuntimeError::ShuttingDown),
        }
    }

    /// Whether daemons may be spawned.
    pub fn is_ready(&self) -> bool {
        self.lifecycle == Lifecycle::Ready
    }

    pub(super) fn check_ready(&self) -> Result<(), RuntimeError> {
        match self.lifecycle {
            Lifecycle::Registering => Err(RuntimeError::NotReady),
            Lifecycle::Ready => Ok(()),
            Lifecycle::ShuttingDown => Err(RuntimeError::ShuttingDown),
        }
    }

    /// Ends everything: whoever waits is told, daemons are retired, migrations are given up.
    pub fn shutdown(&mut self, now: Now) {
        if self.lifecycle == Lifecycle::ShuttingDown {
            return;
        }
        self.lifecycle = Lifecycle::ShuttingDown;
        self.stop_reaching(now);
        self.end_migrations(now);
        let origins: Vec<OriginHash> = self.routes.keys().copied().collect();
        for origin in origins {
            self.end_route(origin, shut_down);
        }
        for (_, tickets) in std::mem::take(&mut self.locating) {
            for ticket in tickets {
                self.settle(ticket, Err(RuntimeError::ShuttingDown));
            }
        }
        let keys: Vec<DaemonKey> = self.by_origin.values().copied().collect();
        for key in keys {
            self.remove_daemon(key, StopReason::Shutdown, DaemonEvent::Stopped, now);
        }
        self.end_requests();
        self.factories.clear();
        self.timers.clear();
    }

    /// Registers a kind.
    pub fn register_factory(&mut self, kind: &str) -> Result<(), RuntimeError> {
        if self.lifecycle == Lifecycle::ShuttingDown {
            return Err(RuntimeError::ShuttingDown);
        }
        if self.factories.register(kind) {
            Ok(())
        } else {
            Err(RuntimeError::FactoryAlreadyRegistered(kind.to_owned()))
        }
    }

    /// How many daemons live here.
    pub fn daemon_count(&self) -> usize {
        self.daemons.iter().filter(|(_, slot)| slot.spawning.is_none()).count() - self.arrivals_not_live()
    }

    /// Names the slot that the next daemon gets.
    pub(super) fn next_key(&mut self) -> DaemonKey {
        let slot = self.daemons.vacant_key();
        if self.generations.len() <= slot {
            self.generations.resize(slot + 1, 0);
        }
        // More daemons than u32 counts do not fit a process.
        DaemonKey { slot: u32::try_from(slot).unwrap_or(u32::MAX), generation: self.generations[slot] }
    }

    pub(super) fn slot(&self, key: DaemonKey) -> Option<&Slot> {
        self.daemons.get(key.slot as usize).filter(|slot| slot.host.key == key)
    }

    pub(super) fn slot_mut(&mut self, key: DaemonKey) -> Option<&mut Slot> {
        self.daemons.get_mut(key.slot as usize).filter(|slot| slot.host.key == key)
    }

    /// Takes a daemon out of every table.
    pub(super) fn take_slot(&mut self, key: DaemonKey, now: Now) -> Option<Slot> {
        self.slot(key)?;
        let slot = self.daemons.remove(key.slot as usize);
        self.generations[key.slot as usize] = key.generation.wrapping_add(1);
        if self.by_origin.get(&slot.host.origin) == Some(&key) {
            self.by_origin.remove(&slot.host.origin);
        }
        self.timers.disarm(TimerKey::Daemon(key));
        self.placing.gone(slot.host.origin, slot.homes);
        self.called_off.forget_daemon(&slot.host.entity());
        self.close_output_channel(&slot.host);
        self.timers.sweep_later(now);
        if self.daemons.is_empty() {
            // A flood of daemons that has gone leaves no tables behind.
            self.daemons.shrink_to_fit();
            self.by_origin.shrink_to_fit();
        }
        Some(slot)
    }

    pub(super) fn settle(&mut self, ticket: Ticket, result: Result<Settlement, RuntimeError>) {
        self.work.push(Work::Settle { ticket, result });
    }

    pub(super) fn notice_daemon(
        &mut self,
        event: DaemonEvent,
        host: (OriginHash, Option<std::sync::Arc<str>>, DaemonKey),
    ) {
        let (origin, kind, daemon) = host;
        self.work.push(Work::Notice(Notice::Daemon { event, origin, kind, daemon }));
    }

    /// Enters a small message for a node, which may be this one. It is dropped when there is no session with it, or no room.
    pub(super) fn send(&mut self, to: NodeId, subprotocol: Subprotocol, body: Vec<u8>) {
        let _entered = self.try_send(to, subprotocol, body);
    }

    /// The same; false when it was dropped.
    pub(super) fn try_send(&mut self, to: NodeId, subprotocol: Subprotocol, body: Vec<u8>) -> bool {
        if to == self.me() {
            self.own.push_back((subprotocol, body));
            return true;
        }
        let Some(peer) = self.peers.up(to) else { return false };
        match peer.push_control(subprotocol, body) {
            Ok(()) => {
                self.wakes.insert(to);
                true
            }
            Err(body) => {
                tracing::warn!(peer = %to, ?subprotocol, bytes = body.len(), "dropped a message: too much waits for this peer");
                self.placing.lost_something(to, subprotocol);
                if subprotocol == Subprotocol::Events {
                    self.say_later(to, &body);
                }
                false
            }
        }
    }

    /// The next instant at which [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Deadlines passed.
    pub fn tick(&mut self, now: Now) {
        while let Some(key) = self.timers.due(now.instant) {
            match key {
                TimerKey::Daemon(key) => self.check_callback_timeout(key, now),
                TimerKey::Route(origin) => self.check_route(origin, now),
                TimerKey::Lookups => self.check_lookups(now),
                TimerKey::Placing => self.tick_placing(now),
                TimerKey::Questions => self.tick_questions(now),
                TimerKey::Comparing => self.tick_comparing(now),
                TimerKey::Acknowledge => self.acknowledge_all(),
                TimerKey::Departure(entity) => self.tick_departure(entity, now),
                TimerKey::Arrival(entity) => self.tick_arrival(entity, now),
                TimerKey::Orchestration(origin) => self.tick_orchestration(origin, now),
                TimerKey::Drain => self.tick_drain(now),
                TimerKey::Outputs => self.publish_all_outputs(now),
                TimerKey::Sweep => self.sweep(now),
            }
        }
        self.settle_own(now);
    }

    /// Whether messages wait for connected peers.
    pub fn has_unsent_messages(&self) -> bool {
        self.peers.any_waiting()
    }

    /// Whether work waits for the embedder.
    pub fn has_work(&self) -> bool {
        // Whoever waited for that goes on with the next work.
        !self.work.is_empty() || self.accounts.has_freed()
    }

    /// Takes settlements that are next, for as long as `take` wants them: many in one call.
    pub fn take_settlements(&mut self, take: impl FnMut(Ticket, &Result<Settlement, RuntimeError>) -> bool) {
        self.work.settlements(take);
    }

    /// Takes the peers for whom something was entered.
    pub fn take_wakes(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.wakes)
    }

    /// The streams that lead to daemons of this node.
    pub(super) fn streams(&self) -> impl Iterator<Item = (DaemonKey, u32, &InStream)> {
        let of = |slot: &Slot| slot.host.key;
        self.daemons.iter().flat_map(move |(_, slot)| slot.inbound.iter().map(move |(key, held)| (of(slot), key, held)))
    }

    /// Counts of what is alive, for leak tests.
    pub fn census(&self) -> Census {
        Census {
            daemons: self.daemons.len(),
            streams_in: self.daemons.iter().map(|(_, slot)| slot.inbound.len()).sum(),
            streams_out: self.routes.len(),
            streams_through: self.forwards.len(),
            signed_claims: self.daemons.iter().filter(|(_, slot)| slot.claim.is_some()).count(),
            pointers: self.pointers.len(),
            waiting_bytes: self.routes.values().map(Route::waiting_bytes).sum(),
            held_bytes: self.streams().map(|(_, _, stream)| stream.held_bytes()).sum(),
            kept_bytes: self.streams().map(|(_, _, stream)| stream.kept_bytes()).sum(),
            passing_bytes: self.peers.passing_bytes(),
            migrations: self.departures.len() + self.arrivals.len() + self.places.count() + self.orchestrations.len(),
            called_off: self.called_off.len(),
            outboxes: self.outboxes(),
            arriving_bytes: self.reassembler.live_bytes(),
            state_bytes: self.state_bytes(),
            peak_state_bytes: self.peak_state_bytes,
            refused_messages: self.refused,
            coming_round: self.work.coming_round(),
        }
    }

    fn state_bytes(&self) -> u64 {
        let leaving = self.departures.values().map(|departure| departure.source.held_bytes()).sum::<u64>();
        let pieces = self.peers.assembling_bytes();
        self.reassembler.live_bytes() + leaving + pieces
    }

    /// Notes how much memory states take at a moment at which it grew.
    pub(super) fn note_state_bytes(&mut self) {
        self.peak_state_bytes = self.peak_state_bytes.max(self.state_bytes());
    }
}

/// What the caller of an event hears that `maybe` ran.
pub(super) const fn shut_down(maybe: bool) -> RuntimeError {
    RuntimeError::ShutDownMeanwhile { executed: Executed::of(maybe) }
}

/// Counts of what is alive in a runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Daemons in any standing.
    pub daemons: usize,
    /// Streams that lead to them.
    pub streams_in: usize,
    /// Streams and questions that leave this node.
    pub streams_out: usize,
    /// Streams of others that are sent on.
    pub streams_through: usize,
    /// Claims of them that are at hand to be shown.
    pub signed_claims: usize,
    /// Daemons of which it is remembered where they went.
    pub pointers: usize,
    /// Bytes of events of this node that no other has accepted.
    pub waiting_bytes: usize,
    /// Bytes of events that wait for one before them, or for room.
    pub held_bytes: usize,
    /// Bytes of replies that their callers have not acknowledged.
    pub kept_bytes: usize,
    /// Bytes of large messages of others that are sent on.
    pub passing_bytes: usize,
    /// Parts in migrations.
    pub migrations: usize,
    /// Moves that were called off before they were asked for.
    pub called_off: usize,
    /// Daemons, also former ones, whose outputs are on their way into channels.
    pub outboxes: usize,
    /// Bytes of arriving states.
    pub arriving_bytes: u64,
    /// Bytes of states held now: arriving ones, and what is read ahead of leaving ones.
    pub state_bytes: u64,
    /// The most that ever was.
    pub peak_state_bytes: u64,
    /// Messages that could not be read or were refused.
    pub refused_messages: u64,
    /// Entries of daemons that have events to run, or whose mailboxes have room again, as the embedder will hear.
    pub coming_round: usize,
}
