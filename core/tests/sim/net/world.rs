//! The simulated network: nodes that consist of their peer table, connections that delay, break and go silent.
//!
//! The handshake is played with its meaning only (who proves what to whom, in which order); its cryptography has its own
//! tests. So thousands of networks run in seconds, and a seed decides everything that happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt::Write as _;
use std::time::Duration;

use mesh_daemon_core::identity::{EntityId, Incarnation, NodeId};
use mesh_daemon_core::mesh::table::{
    Accepted, Action, Activity, Backoff, ConnId, DialDecision, DialTarget, PeerTable, TableConfig, Way,
};
use mesh_daemon_core::mesh::{PeerEvent, PeerRefusal};
use mesh_daemon_core::session::{DialIntent, ProvenPeer, SessionId};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use super::witness::Witness;

pub(crate) const HEARTBEAT: Duration = Duration::from_secs(5);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

pub(crate) struct World {
    pub(crate) rng: SmallRng,
    start: Instant,
    pub(crate) now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    due: Vec<Option<Happening>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) trace: String,
    pub(crate) faults: bool,
    pub(crate) witness: Witness,
    max_peers: usize,
}

pub(crate) struct Node {
    pub(crate) entity: EntityId,
    pub(crate) incarnation: Incarnation,
    pub(crate) table: PeerTable,
    pub(crate) psk: u8,
    pub(crate) alive: bool,
    ends: HashMap<ConnId, usize>,
    activity: HashMap<ConnId, (Instant, Instant)>,
    watched: Vec<ConnId>,
    /// Nodes that the application above wants to be connected with: it dials until it is.
    pub(crate) wants: Vec<(usize, Option<NodeId>)>,
}

pub(crate) struct Wire {
    pub(crate) dialler: usize,
    pub(crate) listener: usize,
    target: DialTarget,
    /// The peer that a background dial is for.
    background: Option<NodeId>,
    pub(super) ends: [End; 2],
    last_delivery: [Instant; 2],
    /// Swallows everything and tells nobody.
    pub(super) silent: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    HandShaking,
    Welcoming { conn: ConnId, session: SessionId },
    Up { conn: ConnId },
    Closed,
}

#[derive(Clone, Debug)]
pub(super) enum Message {
    First { psk: u8 },
    Answer { peer: Box<ProvenPeer> },
    Last { peer: Box<ProvenPeer>, intent: DialIntent, session: SessionId },
    Welcome { resumed: bool },
    Refused,
    Ping,
    Pong,
    Goodbye,
    Closed,
}

pub(super) enum Happening {
    Connect { dialler: usize, life: Incarnation, listener: usize, target: DialTarget, background: Option<NodeId> },
    Deliver { wire: usize, to: usize, message: Message },
    Deadline { wire: usize, end: usize },
    Timer { node: usize },
    Want { node: usize, life: Incarnation, again: bool },
    Fault,
    Revive { node: usize },
}

struct Times<'a>(&'a HashMap<ConnId, (Instant, Instant)>);

impl Activity for Times<'_> {
    fn of(&self, conn: ConnId) -> Option<(Instant, Instant)> {
        self.0.get(&conn).copied()
    }
}

impl World {
    pub(crate) fn new(seed: u64, start: Instant, nodes: usize, max_peers: usize) -> Self {
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            start,
            now: start,
            queue: BinaryHeap::new(),
            due: Vec::new(),
            nodes: Vec::new(),
            wires: Vec::new(),
            trace: String::new(),
            faults: false,
            witness: Witness::default(),
            max_peers,
        };
        for _ in 0..nodes {
            let mut entity = [0; 32];
            world.rng.fill(&mut entity[..]);
            let entity = EntityId::from_bytes(entity);
            let node = world.fresh(entity, 1);
            world.nodes.push(node);
        }
        world
    }

    fn fresh(&mut self, entity: EntityId, started_at_ms: u64) -> Node {
        let config = TableConfig {
            heartbeat: HEARTBEAT,
            session_timeout: TIMEOUT,
            reconnect: true,
            max_peers: self.max_peers,
            backoff: Backoff::new(self.rng.random()),
        };
        let mut table = PeerTable::new(entity, config);
        table.start(self.now);
        Node {
            entity,
            incarnation: Incarnation { started_at_ms, salt: self.rng.random() },
            table,
            psk: 0,
            alive: true,
            ends: HashMap::new(),
            activity: HashMap::new(),
            watched: Vec::new(),
            wants: Vec::new(),
        }
    }

    /// Has the application of `node` connect to `other`, beginning after `delay`.
    pub(crate) fn want(&mut self, node: usize, other: usize, pin: Option<NodeId>, delay: Duration) {
        self.nodes[node].wants.push((other, pin));
        let life = self.nodes[node].incarnation;
        self.after(delay, Happening::Want { node, life, again: false });
    }

    /// Lets everything happen up to `span` from now.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.queue.peek().is_some_and(|Reverse((at, ..))| *at <= end) {
            let Some(Reverse((at, _, slot))) = self.queue.pop() else { break };
            self.now = at;
            if let Some(happening) = self.due[slot].take() {
                self.happen(happening);
            }
        }
        self.now = end;
    }

    /// How many things have been planned so far.
    pub(crate) fn happened(&self) -> usize {
        self.due.len()
    }

    pub(crate) fn node_id(&self, node: usize) -> NodeId {
        self.nodes[node].entity.node_id()
    }

    /// Wires on which both ends hold a session.
    pub(crate) fn sessions(&self) -> BTreeMap<(usize, usize), usize> {
        let mut sessions = BTreeMap::new();
        for wire in &self.wires {
            if wire.ends.iter().any(|end| *end != End::Closed) {
                let pair = (wire.dialler.min(wire.listener), wire.dialler.max(wire.listener));
                *sessions.entry(pair).or_default() += 1;
            }
        }
        sessions
    }

    /// The wire of the one session that there is.
    pub(crate) fn only_session(&self) -> usize {
        let up = |wire: &Wire| wire.ends.iter().all(|end| matches!(end, End::Up { .. }));
        let mut wires = (0..self.wires.len()).filter(|&wire| up(&self.wires[wire]));
        let wire = wires.next().expect("a session");
        assert_eq!(wires.next(), None, "one session");
        wire
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Connect { dialler, life, listener, target, background } => {
                self.connect(dialler, life, listener, target, background);
            }
            Happening::Deliver { wire, to, message } => self.deliver(wire, to, message),
            Happening::Deadline { wire, end } => {
                if !matches!(self.wires[wire].ends[end], End::Up { .. } | End::Closed) {
                    self.end_broken(wire, end);
                    self.close(wire, end);
                }
            }
            Happening::Timer { node } => {
                let due = self.nodes[node].table.next_timer().is_some_and(|at| at <= self.now);
                if self.nodes[node].alive && due {
                    let Node { table, activity, .. } = &mut self.nodes[node];
                    table.on_timer(self.now, &Times(activity));
                    self.apply(node);
                }
            }
            Happening::Want { node, life, again } => self.pursue(node, life, again),
            Happening::Fault => self.fault(),
            Happening::Revive { node } => {
                let started = self.nodes[node].incarnation.started_at_ms + 1;
                let mut fresh = self.fresh(self.nodes[node].entity, started);
                fresh.wants = std::mem::take(&mut self.nodes[node].wants);
                fresh.psk = self.nodes[node].psk;
                let life = fresh.incarnation;
                self.nodes[node] = fresh;
                self.witness.forget(node);
                self.note(format_args!("n{node} lives again"));
                self.after(Duration::ZERO, Happening::Want { node, life, again: false });
            }
        }
    }

    fn pursue(&mut self, node: usize, life: Incarnation, again: bool) {
        if !self.nodes[node].alive || self.nodes[node].incarnation != life {
            return;
        }
        for (other, pin_node) in self.nodes[node].wants.clone() {
            // In bad times now and then through a relay: a direct session replaces that one.
            let way = match self.rng.random_range(0..3) {
                0 if self.faults => Way::Relayed { by: NodeId::new(0) },
                _ => Way::Direct(format!("n{other}")),
            };
            let target = DialTarget { way, pin_key: None, pin_node, hearsay: false };
            let id = self.node_id(other);
            if again && self.nodes[node].table.session(id).is_some() {
                self.nodes[node].table.found_at(id, &target);
                self.apply(node);
            } else {
                // At first even with a session: an application that has only an address dials it to find out.
                let delay = self.delay();
                self.after(
                    delay,
                    Happening::Connect { dialler: node, life, listener: other, target, background: None },
                );
            }
        }
        self.after(Duration::from_secs(20), Happening::Want { node, life, again: true });
    }

    fn connect(
        &mut self,
        dialler: usize,
        life: Incarnation,
        listener: usize,
        target: DialTarget,
        background: Option<NodeId>,
    ) {
        if !self.nodes[dialler].alive || self.nodes[dialler].incarnation != life {
            return;
        }
        if !self.nodes[listener].alive {
            if let Some(node) = background {
                self.nodes[dialler].table.redial_failed(self.now, node);
                self.apply(dialler);
            }
            return;
        }
        let wire = self.wires.len();
        let ends = [End::HandShaking, End::HandShaking];
        let last_delivery = [self.now; 2];
        self.wires.push(Wire { dialler, listener, target, background, ends, last_delivery, silent: false });
        for end in 0..2 {
            self.after(HANDSHAKE_DEADLINE, Happening::Deadline { wire, end });
        }
        let psk = self.nodes[dialler].psk;
        self.send(wire, 0, Message::First { psk });
    }

    fn deliver(&mut self, wire: usize, to: usize, message: Message) {
        let node = self.owner(wire, to);
        let end = self.wires[wire].ends[to].clone();
        if !self.nodes[node].alive || end == End::Closed {
            return;
        }
        if let End::Up { conn } = &end {
            if let Some(times) = self.nodes[node].activity.get_mut(conn) {
                times.0 = self.now;
            }
            if self.nodes[node].watched.contains(conn) {
                self.nodes[node].watched.retain(|watched| watched != conn);
                self.nodes[node].table.heard_again(self.now, *conn);
                self.apply(node);
            }
        }
        match (message, end) {
            (Message::First { psk }, End::HandShaking) => {
                if psk == self.nodes[node].psk {
                    let peer = Box::new(self.prove(node));
                    self.send(wire, to, Message::Answer { peer });
                } else {
                    self.close(wire, to);
                }
            }
            (Message::Answer { peer }, End::HandShaking) => self.answered(wire, node, &peer),
            (Message::Last { peer, intent, session }, End::HandShaking) => {
                let way = match self.wires[wire].target.way {
                    Way::Direct(_) => Way::Direct(format!("n{}", self.wires[wire].dialler)),
                    Way::Relayed { by } => Way::Relayed { by },
                };
                let accepted = self.nodes[node].table.accept(self.now, &peer, session, intent, &way);
                match accepted {
                    Ok(Accepted { conn, resumed }) => {
                        self.up(wire, to, node, conn);
                        self.witness.session(node, self.owner(wire, 1 - to), session, resumed);
                        self.send(wire, to, Message::Welcome { resumed });
                        self.apply(node);
                    }
                    Err(refusal) => {
                        self.note(format_args!("n{node} refuses wire {wire}: {refusal:?}"));
                        assert_ne!(refusal, PeerRefusal::IdTaken);
                        self.send(wire, to, Message::Refused);
                        self.close(wire, to);
                    }
                }
            }
            (Message::Welcome { resumed }, End::Welcoming { conn, session }) => {
                // As in the shell: the session is there before the layers hear of it.
                self.up(wire, to, node, conn);
                if self.nodes[node].table.dial_welcomed(self.now, conn, resumed) {
                    self.witness.session(node, self.owner(wire, 1 - to), session, resumed);
                    self.apply(node);
                } else {
                    self.close(wire, to);
                    self.nodes[node].table.dial_ended(self.now, conn);
                    self.apply(node);
                }
                self.settle(wire, node);
            }
            (Message::Refused | Message::Closed, _) => {
                self.end_broken(wire, to);
                self.close(wire, to);
            }
            (Message::Ping, End::Up { .. }) => self.send(wire, to, Message::Pong),
            (Message::Pong, End::Up { .. }) => {}
            (Message::Goodbye, End::Up { conn }) => {
                self.nodes[node].table.goodbye(self.now, conn);
                self.apply(node);
            }
            (message, end) => panic!("{message:?} at {end:?}"),
        }
    }

    fn answered(&mut self, wire: usize, node: usize, peer: &ProvenPeer) {
        let Wire { target, background, .. } = &self.wires[wire];
        let (target, background) = (target.clone(), *background);
        if target.pin_node.is_some_and(|pin| pin != peer.node) {
            self.note(format_args!("n{node} finds a wrong pin on wire {wire}"));
            self.settle(wire, node);
            return self.close(wire, 0);
        }
        match self.nodes[node].table.dial_proven(self.now, peer, &target, background) {
            DialDecision::Proceed { conn, intent } => {
                let session = SessionId(self.rng.random());
                self.nodes[node].table.dial_finished(conn, session);
                self.nodes[node].ends.insert(conn, wire);
                self.wires[wire].ends[0] = End::Welcoming { conn, session };
                let peer = Box::new(self.prove(node));
                self.send(wire, 0, Message::Last { peer, intent, session });
                self.apply(node);
            }
            DialDecision::AlreadyConnected | DialDecision::AlreadyDialling => {
                self.apply(node);
                self.settle(wire, node);
                self.close(wire, 0);
            }
            DialDecision::Refused(refusal) => {
                self.note(format_args!("n{node} refuses who answered on wire {wire}: {refusal:?}"));
                self.settle(wire, node);
                self.close(wire, 0);
            }
        }
    }

    /// The end of a connection learns that it is no more.
    fn end_broken(&mut self, wire: usize, end: usize) {
        let node = self.owner(wire, end);
        match self.wires[wire].ends[end].clone() {
            End::Closed => {}
            End::HandShaking => {
                if end == 0 {
                    self.settle(wire, node);
                }
            }
            End::Welcoming { conn, .. } => {
                self.nodes[node].table.dial_ended(self.now, conn);
                self.apply(node);
                self.settle(wire, node);
            }
            End::Up { conn } => {
                let heard = self.nodes[node].activity[&conn].0;
                self.nodes[node].table.connection_lost(self.now, conn, heard);
                self.apply(node);
            }
        }
    }

    /// A background dial tells that it is over, as the shell's task does.
    fn settle(&mut self, wire: usize, node: usize) {
        if let Some(peer) = self.wires[wire].background {
            self.nodes[node].table.redial_failed(self.now, peer);
            self.apply(node);
        }
    }

    fn up(&mut self, wire: usize, end: usize, node: usize, conn: ConnId) {
        self.wires[wire].ends[end] = End::Up { conn };
        self.nodes[node].ends.insert(conn, wire);
        self.nodes[node].activity.insert(conn, (self.now, self.now));
    }

    pub(super) fn close(&mut self, wire: usize, end: usize) {
        if self.wires[wire].ends[end] != End::Closed {
            self.wires[wire].ends[end] = End::Closed;
            self.send(wire, end, Message::Closed);
        }
    }

    fn apply(&mut self, node: usize) {
        let actions = self.nodes[node].table.take_actions();
        for action in actions {
            match action {
                Action::Open { conn, node: peer } => {
                    assert_eq!(self.nodes[node].table.session(peer), Some(conn), "what is opened is the session");
                }
                Action::Close { conn, why } => {
                    if let Some(&wire) = self.nodes[node].ends.get(&conn) {
                        self.note(format_args!("n{node} closes wire {wire}: {why:?}"));
                        let end = usize::from(self.wires[wire].dialler != node);
                        let welcoming = matches!(self.wires[wire].ends[end], End::Welcoming { .. });
                        self.close(wire, end);
                        if welcoming {
                            self.settle(wire, node);
                        }
                    }
                }
                Action::Event(event) => self.event(node, &event),
                Action::Ping { conn } => {
                    let wire = self.nodes[node].ends[&conn];
                    let end = usize::from(self.wires[wire].dialler != node);
                    self.send(wire, end, Message::Ping);
                }
                Action::Watch { conn } => self.nodes[node].watched.push(conn),
                Action::Dial { node: peer, target } => {
                    let listener = match &target.way {
                        Way::Direct(addr) => addr[1..].parse().expect("addresses are n and a number"),
                        Way::Relayed { .. } => (0..self.nodes.len())
                            .find(|&other| self.node_id(other) == peer)
                            .expect("a node of this mesh"),
                    };
                    let life = self.nodes[node].incarnation;
                    let delay = self.delay();
                    let background = Some(peer);
                    self.after(delay, Happening::Connect { dialler: node, life, listener, target, background });
                }
            }
        }
        if let Some(at) = self.nodes[node].table.next_timer() {
            let delay = at.saturating_duration_since(self.now);
            self.after(delay, Happening::Timer { node });
        }
    }

    fn event(&mut self, node: usize, event: &PeerEvent) {
        let other = match event {
            PeerEvent::Connected { peer, .. } => peer.node,
            PeerEvent::Ready { node }
            | PeerEvent::Suspected { node }
            | PeerEvent::Heard { node }
            | PeerEvent::Cut { node }
            | PeerEvent::Lost { node, .. } => *node,
        };
        let other = (0..self.nodes.len()).find(|&index| self.node_id(index) == other).expect("a node of this world");
        match event {
            PeerEvent::Connected { peer, resumed } => {
                self.note(format_args!(
                    "n{node}: n{other}.{} connected, resumed {resumed}",
                    peer.incarnation.started_at_ms
                ));
            }
            PeerEvent::Ready { .. } => self.note(format_args!("n{node}: n{other} ready")),
            PeerEvent::Suspected { .. } => self.note(format_args!("n{node}: n{other} suspected")),
            PeerEvent::Heard { .. } => self.note(format_args!("n{node}: n{other} heard again")),
            PeerEvent::Cut { .. } => self.note(format_args!("n{node}: n{other} cut off")),
            PeerEvent::Lost { incarnation, how, .. } => {
                self.note(format_args!("n{node}: n{other}.{} lost: {how:?}", incarnation.started_at_ms));
            }
        }
        self.witness.event(node, other, event);
    }

    fn prove(&self, node: usize) -> ProvenPeer {
        let Node { entity, incarnation, .. } = self.nodes[node];
        ProvenPeer {
            entity,
            node: entity.node_id(),
            incarnation,
            static_key: *entity.as_bytes(),
            max_payload: 1,
            bulk_window: 1,
            minor: 0,
            features: 0,
        }
    }

    pub(super) fn owner(&self, wire: usize, end: usize) -> usize {
        if end == 0 { self.wires[wire].dialler } else { self.wires[wire].listener }
    }

    pub(super) fn send(&mut self, wire: usize, from: usize, message: Message) {
        let node = self.owner(wire, from);
        if let End::Up { conn } = self.wires[wire].ends[from]
            && let Some(times) = self.nodes[node].activity.get_mut(&conn)
        {
            times.1 = self.now;
        }
        if self.wires[wire].silent {
            return;
        }
        let to = 1 - from;
        // Messages of one connection stay in order, those of different ones do not.
        let at = (self.now + self.delay()).max(self.wires[wire].last_delivery[to]);
        self.wires[wire].last_delivery[to] = at;
        self.after(at - self.now, Happening::Deliver { wire, to, message });
    }

    pub(super) fn delay(&mut self) -> Duration {
        let slow = self.faults && self.rng.random_ratio(1, 20);
        Duration::from_micros(if slow {
            self.rng.random_range(0..3_000_000)
        } else {
            self.rng.random_range(50..40_000)
        })
    }

    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        let slot = self.due.len();
        self.due.push(Some(happening));
        self.queue.push(Reverse((self.now + delay, slot as u64, slot)));
    }

    pub(crate) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        let at = (self.now - self.start).as_micros();
        let _ = writeln!(self.trace, "{at:>12} {what}");
    }
}
