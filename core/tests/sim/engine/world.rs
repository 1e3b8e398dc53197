//! Engines on a simulated network with simulated users, driven by one virtual clock and one seeded source of chance.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use crate::seeds;
use mesh_daemon_core::daemon::DaemonKey;
use mesh_daemon_core::identity::{EntityKeypair, Incarnation, NodeId, NodeStaticSecret, OriginHash, RuntimeLife};
use mesh_daemon_core::membership::Standing;
use mesh_daemon_core::mesh::{Loss, PeerEvent, PeerIdentity, Record};
use mesh_daemon_core::migration::MigrationFailure;
use mesh_daemon_core::runtime::{
    ArrivalPolicy, DaemonEvent, Engine, MigrationRequest, NodeSelf, Now, OrchestratorPolicy, Role, RuntimeError,
    RuntimeOptions, Settlement, StopReason,
};
use mesh_daemon_core::wire::Lane;
use mesh_daemon_core::wire::migration::Stage;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::daemon::{Objects, Speech};

mod channels;
mod deaths;
mod embedder;
mod frames;
mod lives;
mod meddling;
mod rest;
mod talk;
mod users;

pub(crate) use channels::SimChannels;
pub(crate) use meddling::{How, Intruder, Meddler, Sent, Spied, Trap};
pub(crate) use talk::{Talk, Way};
pub(crate) use users::numbered_key;

/// Longer than any case runs.
pub(crate) const NEVER: Duration = Duration::from_secs(100_000);

/// What a frame holds.
const FRAME: usize = 65_519 - 1;
/// Frames of one direction on the way at once.
const IN_FLIGHT: usize = 4;
const TRACE_LINES: usize = 4000;

/// Something that happens at an instant.
#[derive(Debug)]
enum Event {
    Frame { from: usize, to: usize, session: u64, lane: Lane, records: Vec<Record>, counted: bool },
    Step { node: usize, life: u64, daemon: DaemonKey, token: u64 },
    Constructed { node: usize, life: u64, daemon: DaemonKey },
    Restored { node: usize, life: u64, daemon: DaemonKey },
    Snapshotted { node: usize, life: u64, daemon: DaemonKey },
    Slice { node: usize, life: u64, daemon: DaemonKey, offset: u64, len: u32 },
    Suspect { node: usize, peer: usize, session: u64 },
    Connect { one: usize, other: usize },
    GiveUp { one: usize, other: usize },
    Unwall { one: usize, other: usize },
    Revive { node: usize },
    HearOfEnd { node: usize, peer: usize },
}

struct Due {
    at: Instant,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A node with its user.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) keypair: EntityKeypair,
    pub(crate) incarnation: Incarnation,
    pub(crate) runtime: RuntimeLife,
    pub(crate) objects: Objects,
    pub(crate) channels: Option<std::sync::Arc<SimChannels>>,
    pub(crate) options: RuntimeOptions,
    /// The node that the policy admits when it is asked; nothing admits all.
    pub(crate) admits_orchestrator: Option<usize>,
    /// The largest state that the policy admits when it is asked, and what it was asked.
    pub(crate) admits_bytes: u64,
    pub(crate) asked: Vec<MigrationRequest>,
    /// Questions are not answered, and which ones were put then.
    pub(crate) policy_is_silent: bool,
    pub(crate) questions: Vec<u64>,
    /// Counts its engines.
    pub(crate) life: u64,
    /// Its runtime has ended, and the node answers for it.
    pub(crate) bare: bool,
    /// What was told of this node's parts in migrations.
    pub(crate) stages: Vec<(Role, Stage)>,
    /// Those that began, and of which no end was told.
    pub(crate) open: BTreeSet<(u128, &'static str)>,
    /// How those ended that failed.
    pub(crate) failed: Vec<(Role, MigrationFailure)>,
    /// Phases of each migration that this node drives, in order.
    pub(crate) phases: BTreeMap<u128, Vec<Stage>>,
    pub(crate) over: BTreeMap<u128, Result<(), MigrationFailure>>,
    pub(crate) progress: BTreeMap<u128, Vec<u64>>,
}

#[derive(Default)]
struct Wire {
    in_flight: usize,
    last_arrival: Option<Instant>,
}

/// What came of a ticket, and what it was for.
pub(crate) struct Wait {
    pub(crate) node: usize,
    pub(crate) request: Option<u64>,
    pub(crate) result: Option<Result<Settlement, RuntimeError>>,
}

/// The whole simulation.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rng: SmallRng,
    pub(crate) now: Instant,
    start: Instant,
    pub(crate) nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
    wires: BTreeMap<(usize, usize), Wire>,
    /// The session of each pair that is up.
    sessions: BTreeMap<(usize, usize), u64>,
    last_session: u64,
    pub(crate) waits: BTreeMap<u64, Wait>,
    last_ticket: u64,
    /// Emitters' chains of tests: one for each node, so that links are distinct.
    pub(crate) last_request: u64,
    /// Moves whose target went live, with daemon and target.
    pub(crate) landed: BTreeMap<u128, (OriginHash, NodeId)>,
    trace: VecDeque<String>,
    /// Whether messages are put into words in the trace: for somebody who reads it.
    talkative: bool,
    hasher: DefaultHasher,
    pub(crate) meddler: Option<Meddler>,
    /// Nothing that the one says to the other about migrations arrives, though they are connected.
    pub(crate) mute: Option<(usize, usize)>,
    pub(crate) intruder: Option<Intruder>,
    /// How often one of them did something.
    pub(crate) meddled: u64,
    /// Messages of migrations, as they were sent.
    pub(crate) sent: Vec<Sent>,
    /// Whether messages of streams are looked at, and what was seen.
    pub(crate) spying: bool,
    pub(crate) streams: Vec<Spied>,
    /// What happened to daemons, and why objects were let go.
    pub(crate) daemon_events: Vec<(usize, DaemonEvent)>,
    pub(crate) retired: Vec<(usize, StopReason)>,
    /// Nodes may refuse messages: some are forged.
    pub(crate) may_refuse: bool,
    /// Unix time at the beginning, in nanoseconds: what the clock shows that users may set.
    pub(crate) wall_clock: u64,
    pub(crate) trap: Option<Trap>,
    pub(crate) sprung: bool,
    pub(crate) messages: Vec<(usize, usize, &'static str)>,
    pub(crate) delay: std::ops::Range<u64>,
    /// What frames of some nodes need more.
    pub(crate) lag: BTreeMap<usize, Duration>,
    /// From whom to whom nothing goes out in which lanes at the moment.
    pub(crate) clogged: Vec<(usize, usize, Lane)>,
    tokens: u64,
    pub(crate) speech: Speech,
    /// What daemons say to each other by chance; nothing unless a test has them talk.
    pub(crate) talk: Option<Talk>,
    /// Takes events back from slow objects that were in progress, by token.
    pub(crate) slow_takes: std::ops::Range<u64>,
    /// Who each node has as members of the mesh; nobody where that is empty.
    members: Vec<Vec<usize>>,
    /// How far each has come with joining.
    standings: Vec<Standing>,
    /// How many messages of the directory were sent.
    pub(crate) directory_messages: usize,
    /// How many of them began or answered a comparison of what two nodes host.
    pub(crate) tallies: usize,
    /// Who is dead, who cannot reach whom for long, and who has given whom up.
    mortality: deaths::Mortality,
    /// Every event that any object processed, in order.
    pub(crate) ran: Vec<u64>,
    /// It was seen to hold nothing.
    came_to_rest: Cell<bool>,
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

fn make_engine(
    seed: u64,
    index: usize,
    (life, incarnation, runtime): (u64, Incarnation, RuntimeLife),
    options: &RuntimeOptions,
) -> (Engine, EntityKeypair) {
    let mut key = [0; 32];
    key[0] = u8::try_from(index).expect("few nodes");
    key[1] = 0xee;
    let keypair = EntityKeypair::from_seed(&key);
    let mut bits = SmallRng::seed_from_u64(seed ^ (index as u64) << 32 ^ life << 48);
    let static_secret = NodeStaticSecret::derive(&keypair).expect("a full key pair");
    let node = NodeSelf { keypair: keypair.clone(), incarnation, runtime, static_secret };
    (Engine::new(node, options.clone(), Box::new(move || bits.random())), keypair)
}

fn begun(life: u64, index: usize) -> Incarnation {
    Incarnation { started_at_ms: 1_000 + life, salt: index as u64 }
}

impl World {
    /// Nodes that are ready and connected, each with the kinds `prompt` and `slow`, admitting any daemon.
    pub(crate) fn new(seed: u64, count: usize) -> Self {
        Self::with_options(seed, count, |_| RuntimeOptions {
            arrivals: ArrivalPolicy::AnyKind,
            ..RuntimeOptions::default()
        })
    }

    /// The same, and whoever is in the mesh may drive.
    pub(crate) fn open(seed: u64, count: usize) -> Self {
        Self::with_options(seed, count, |_| RuntimeOptions {
            arrivals: ArrivalPolicy::AnyKind,
            orchestrators: OrchestratorPolicy::Any,
            ..RuntimeOptions::default()
        })
    }

    /// What is repeated or forged here may be counted as refused.
    pub(crate) fn refusing(mut self) -> Self {
        self.may_refuse = true;
        self
    }

    pub(crate) fn with_options(seed: u64, count: usize, options: impl Fn(usize) -> RuntimeOptions) -> Self {
        let start = Instant::now();
        let mut world = Self {
            seed,
            rng: SmallRng::seed_from_u64(seed),
            now: start,
            start,
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            order: 0,
            wires: BTreeMap::new(),
            sessions: BTreeMap::new(),
            last_session: 0,
            waits: BTreeMap::new(),
            last_ticket: 0,
            last_request: 0,
            landed: BTreeMap::new(),
            trace: VecDeque::new(),
            talkative: seeds::is_single(),
            hasher: DefaultHasher::new(),
            trap: None,
            meddler: None,
            mute: None,
            intruder: None,
            meddled: 0,
            sent: Vec::new(),
            may_refuse: false,
            wall_clock: 1_700_000_000_000_000_000,
            spying: false,
            streams: Vec::new(),
            daemon_events: Vec::new(),
            retired: Vec::new(),
            sprung: false,
            messages: Vec::new(),
            delay: 20..400,
            lag: BTreeMap::new(),
            clogged: Vec::new(),
            tokens: 0,
            speech: Speech::default(),
            talk: None,
            slow_takes: 0..3_000,
            members: vec![Vec::new(); count],
            standings: vec![Standing::Settled; count],
            directory_messages: 0,
            tallies: 0,
            mortality: deaths::Mortality::default(),
            ran: Vec::new(),
            came_to_rest: Cell::new(false),
        };
        for index in 0..count {
            let options = options(index);
            let (incarnation, runtime) = (begun(0, index), RuntimeLife::FIRST);
            let (engine, keypair) = make_engine(seed, index, (0, incarnation, runtime), &options);
            world.nodes.push(Node {
                engine,
                keypair,
                incarnation,
                runtime,
                objects: Objects::default(),
                channels: None,
                options,
                admits_orchestrator: None,
                admits_bytes: u64::MAX,
                asked: Vec::new(),
                policy_is_silent: false,
                questions: Vec::new(),
                life: 0,
                bare: false,
                stages: Vec::new(),
                open: BTreeSet::new(),
                failed: Vec::new(),
                phases: BTreeMap::new(),
                over: BTreeMap::new(),
                progress: BTreeMap::new(),
            });
            world.get_ready(index);
        }
        for one in 0..count {
            for other in one + 1..count {
                world.connect(one, other, false);
            }
        }
        world
    }

    fn get_ready(&mut self, index: usize) {
        let now = self.present();
        let engine = &mut self.nodes[index].engine;
        for kind in ["prompt", "slow"] {
            engine.register_factory(kind).expect("a new kind");
        }
        engine.start(now).expect("it was not shut down");
    }

    pub(crate) fn present(&self) -> Now {
        Now { instant: self.now, unix_ns: self.wall_clock + self.elapsed_micros() * 1000 }
    }

    fn elapsed_micros(&self) -> u64 {
        u64::try_from((self.now - self.start).as_micros()).expect("a short run")
    }

    pub(crate) fn id(&self, node: usize) -> NodeId {
        self.nodes[node].keypair.node_id()
    }

    pub(crate) fn identity(&self, node: usize) -> PeerIdentity {
        let Node { keypair, incarnation, options, .. } = &self.nodes[node];
        PeerIdentity {
            node: keypair.node_id(),
            entity: keypair.entity_id(),
            incarnation: *incarnation,
            static_key: *NodeStaticSecret::derive(keypair).expect("a full key pair").public(),
            max_payload: options.max_payload,
        }
    }

    pub(crate) fn note(&mut self, line: &str) {
        let mut stamped = String::new();
        let _ = write!(stamped, "{:>10} {line}", self.elapsed_micros());
        self.hasher.write(stamped.as_bytes());
        if self.trace.len() == TRACE_LINES && !self.talkative {
            self.trace.pop_front();
        }
        self.trace.push_back(stamped);
    }

    /// What happened so far, as one number.
    pub(crate) fn digest(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn print_trace(&self) {
        eprintln!("seed {}, end of the trace:", self.seed);
        for line in &self.trace {
            eprintln!("{line}");
        }
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Due { at: self.now + delay, order: self.order, event }));
    }

    // The network.

    /// Brings up a session, at both ends at once.
    pub(crate) fn connect(&mut self, one: usize, other: usize, resumed: bool) {
        self.hear_of_end(one, other);
        self.hear_of_end(other, one);
        self.last_session += 1;
        self.sessions.insert(pair(one, other), self.last_session);
        self.mortality.given_up.remove(&pair(one, other));
        for (from, to) in [(one, other), (other, one)] {
            self.wires.insert((from, to), Wire::default());
        }
        let (first, second) = if self.rng.random() { (one, other) } else { (other, one) };
        self.note(&format!("n{one} = n{other} resumed {resumed}"));
        for (node, peer) in [(first, second), (second, first)] {
            let event = PeerEvent::Connected { peer: self.identity(peer), resumed };
            self.peer_event(node, &event);
            self.peer_event(node, &PeerEvent::Ready { node: self.identity(peer).node });
        }
    }

    fn peer_event(&mut self, node: usize, event: &PeerEvent) {
        let now = self.present();
        self.mortality.losses += u64::from(matches!(event, PeerEvent::Lost { .. }));
        self.nodes[node].engine.peer(event, now);
        self.channels_peer(node, event);
        self.settle(node);
    }

    /// Breaks a session: both ends notice, each in its time or never before the next one; it heals later.
    pub(crate) fn cut(&mut self, one: usize, other: usize, heal_after: Duration) {
        let Some(session) = self.sessions.remove(&pair(one, other)) else { return };
        self.note(&format!("n{one} x n{other}"));
        for (node, peer) in [(one, other), (other, one)] {
            let late = Duration::from_micros(self.rng.random_range(0..2_000));
            self.at(late, Event::Suspect { node, peer, session });
        }
        self.at(heal_after, Event::Connect { one, other });
    }

    /// One end hears nothing of the other for a while: the session stands, and the other end knows of nothing.
    pub(crate) fn suspect(&mut self, node: usize, peer: usize) {
        self.note(&format!("n{node} hears nothing of n{peer}"));
        self.peer_event(node, &PeerEvent::Suspected { node: self.id(peer) });
    }

    /// It hears of it again.
    pub(crate) fn hear_again(&mut self, node: usize, peer: usize) {
        self.note(&format!("n{node} hears of n{peer} again"));
        self.peer_event(node, &PeerEvent::Heard { node: self.id(peer) });
    }

    /// Both ends give the other one up, as after a long silence.
    pub(crate) fn lose(&mut self, one: usize, other: usize, how: Loss) {
        self.sessions.remove(&pair(one, other));
        self.mortality.given_up.insert(pair(one, other));
        self.note(&format!("n{one} and n{other} lost: {how:?}"));
        for (node, peer) in [(one, other), (other, one)] {
            let identity = self.identity(peer);
            let event = PeerEvent::Lost { node: identity.node, incarnation: identity.incarnation, how };
            self.peer_event(node, &event);
        }
    }

    pub(crate) fn is_connected(&self, one: usize, other: usize) -> bool {
        self.sessions.contains_key(&pair(one, other))
    }

    // The users.

    fn next_instant(&self) -> Option<Instant> {
        let queued = self.queue.peek().map(|Reverse(due)| due.at);
        let timers = self.nodes.iter().filter_map(|node| node.engine.next_deadline());
        timers.chain(queued).min()
    }

    fn one_step(&mut self, limit: Instant) -> bool {
        let Some(at) = self.next_instant().filter(|at| *at <= limit) else { return false };
        self.now = self.now.max(at);
        let queued = self.queue.peek().is_some_and(|Reverse(due)| due.at <= self.now);
        if queued {
            if let Some(Reverse(due)) = self.queue.pop() {
                self.happen(due.event);
            }
            return true;
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].engine.next_deadline().is_some_and(|at| at <= self.now) {
                let now = self.present();
                self.nodes[node].engine.tick(now);
                let stuck = self.nodes[node].engine.next_deadline().is_some_and(|at| at <= self.now);
                assert!(!stuck, "n{node}: a deadline that passed is set again");
                self.settle(node);
            }
        }
        true
    }

    /// Lets time pass until something holds; false when it does not within `limit`.
    pub(crate) fn run_until(&mut self, limit: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        let mut steps = 0u64;
        while !holds(self) {
            steps += 1;
            assert!(steps < 3_000_000, "the world does not come to rest");
            if !self.one_step(end) {
                self.now = end;
                return holds(self);
            }
        }
        true
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.one_step(end) {}
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { from, to, session, lane, records, counted } => {
                if self.sessions.get(&pair(from, to)) != Some(&session) {
                    return;
                }
                if counted && let Some(wire) = self.wires.get_mut(&(from, to)) {
                    wire.in_flight -= 1;
                }
                self.arrive(from, to, lane, records);
                self.settle(to);
                self.transmit(from);
                self.follow_up(from);
            }
            Event::Step { node, life, daemon, token } => {
                if self.nodes[node].life == life {
                    self.step(node, daemon, token);
                    self.settle(node);
                }
            }
            Event::Constructed { node, life, daemon } => {
                if self.nodes[node].life == life {
                    let now = self.present();
                    self.nodes[node].engine.constructed(daemon, Ok(()), now);
                    self.settle(node);
                }
            }
            Event::Restored { node, life, daemon } => {
                if self.nodes[node].life == life {
                    let now = self.present();
                    self.nodes[node].engine.restored(daemon, Ok(()), now);
                    self.settle(node);
                }
            }
            Event::Snapshotted { node, life, daemon } => {
                if self.nodes[node].life == life {
                    self.snapshotted(node, daemon);
                    self.settle(node);
                }
            }
            Event::Slice { node, life, daemon, offset, len } => {
                if self.nodes[node].life == life {
                    self.read_slice(node, daemon, offset, len);
                    self.settle(node);
                }
            }
            Event::Suspect { node, peer, session } => {
                // The next session may have come first: then the break is never seen.
                let newer = self.sessions.get(&pair(node, peer)).is_some_and(|current| *current > session);
                if !newer {
                    let id = self.id(peer);
                    self.note(&format!("n{node} suspects n{peer}"));
                    self.peer_event(node, &PeerEvent::Suspected { node: id });
                    self.peer_event(node, &PeerEvent::Cut { node: id });
                }
            }
            Event::Connect { one, other } => self.heal(one, other),
            Event::GiveUp { one, other } => self.give_up(one, other),
            Event::Unwall { one, other } => self.unwall(one, other),
            Event::Revive { node } => self.revive(node),
            Event::HearOfEnd { node, peer } => self.hear_of_end(node, peer),
        }
    }

    // Looking.
}
