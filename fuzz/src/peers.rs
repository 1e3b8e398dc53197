//! The table of peers: who has a session, told anything that proven peers can bring about, in any order.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use mesh_daemon_core::identity::{Incarnation, NodeId};
use mesh_daemon_core::mesh::PeerEvent;
use mesh_daemon_core::mesh::table::{
    Action, Activity, Backoff, ConnId, DialDecision, DialTarget, PeerTable, TableConfig, Way,
};
use mesh_daemon_core::session::{DialIntent, ProvenPeer, SessionId};
use tokio::time::Instant;

use super::identity::keypair;

const PEERS: u8 = 5;
const MOST: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(30);
/// For so long an older life of a lost peer stays refused.
const REFUSED: Duration = Duration::from_secs(20 * 30);
/// Timers that are served in one step.
const SERVED: usize = 100;

/// What happens next. Connections are chosen among those that there are.
#[derive(Arbitrary, Debug)]
enum Step {
    Accept { who: Who, attempt: u8, known: bool, resume: bool, relayed: Option<u8> },
    Dial { who: Who, expected: Option<u8>, hearsay: bool, relayed: Option<u8> },
    Finish { nth: u8 },
    Welcome { nth: u8, resumed: bool },
    GiveUp { nth: u8 },
    Break { nth: u8 },
    Goodbye { nth: u8 },
    Hear { nth: u8 },
    FoundAt { who: Who, hearsay: bool, relayed: Option<u8> },
    RedialFailed { who: Who },
    Wait { millis: u32 },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Who {
    number: u8,
    life: u8,
}

impl Who {
    fn proven(self) -> ProvenPeer {
        let entity = keypair(self.number % PEERS).entity_id();
        ProvenPeer {
            entity,
            node: entity.node_id(),
            incarnation: Incarnation { started_at_ms: u64::from(self.life % 4), salt: 0 },
            static_key: [0; 32],
            max_payload: 0,
            bulk_window: 0,
            minor: 0,
            features: 0,
        }
    }

    fn node(self) -> NodeId {
        keypair(self.number % PEERS).node_id()
    }
}

fn way(relayed: Option<u8>) -> Way {
    match relayed {
        Some(number) => Way::Relayed { by: keypair(number % PEERS).node_id() },
        None => Way::Direct("somewhere".into()),
    }
}

/// What the layers above were told of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Connected,
    Silent,
    Cut,
    Lost { at: Instant },
}

struct World {
    table: PeerTable,
    now: Instant,
    sessions: BTreeMap<ConnId, Session>,
    dials: Vec<Dial>,
    named: u8,
    latest: HashMap<NodeId, SessionId>,
    /// The latest session with each peer that began anew.
    began: HashMap<NodeId, SessionId>,
    told: HashMap<NodeId, (Incarnation, Told)>,
    connected: bool,
}

/// A dial whose listener is proven.
#[derive(Clone, Copy)]
struct Dial {
    conn: ConnId,
    node: NodeId,
    session: Option<SessionId>,
}

struct Session {
    node: NodeId,
    heard: Instant,
    watched: bool,
}

struct Times<'a>(&'a BTreeMap<ConnId, Session>);

impl Activity for Times<'_> {
    fn of(&self, conn: ConnId) -> Option<(Instant, Instant)> {
        self.0.get(&conn).map(|session| (session.heard, session.heard))
    }
}

/// One session for a peer at most, what is told of it makes sense, no older life while a newer one may live, no timer that
/// does nothing, and nothing kept of connections that are gone. Valid when some session came about.
pub fn peers(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let mut world = World::new(input.arbitrary().unwrap_or(false));
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        world.step(&step);
        world.apply();
        world.check();
    }
    world.table.leave(world.now);
    world.apply_events_of_leaving();
    world.connected
}

impl World {
    fn new(started: bool) -> Self {
        let config = TableConfig {
            heartbeat: Duration::from_secs(5),
            session_timeout: TIMEOUT,
            reconnect: true,
            max_peers: MOST,
            backoff: Backoff::new(1),
        };
        let now = Instant::now();
        // One of the numbers: a peer may have stolen this node's key.
        let mut table = PeerTable::new(keypair(2).entity_id(), config);
        if started {
            table.start(now);
        }
        Self {
            table,
            now,
            sessions: BTreeMap::new(),
            dials: Vec::new(),
            named: 0,
            latest: HashMap::new(),
            began: HashMap::new(),
            told: HashMap::new(),
            connected: false,
        }
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        match *step {
            Step::Accept { who, attempt, known, resume, relayed } => {
                let (peer, session) = (who.proven(), self.name());
                let (latest, held) = (self.latest.get(&peer.node).copied(), self.holds(&peer));
                let (after, holds) = if known { (latest, held) } else { (None, latest) };
                let holds = holds.filter(|_| resume);
                let intent = DialIntent { attempt: u64::from(attempt), after, holds, ready: true };
                if let Ok(accepted) = self.table.accept(now, &peer, session, intent, &way(relayed)) {
                    assert_eq!(accepted.resumed, held.is_some() && holds == held, "goes on with what both hold");
                    self.latest.insert(peer.node, session);
                    self.began(peer.node, session, accepted.resumed);
                }
            }
            Step::Dial { who, expected, hearsay, relayed } => {
                let (peer, target) = (who.proven(), target(hearsay, relayed));
                let expected = expected.map(|number| keypair(number % PEERS).node_id());
                match self.table.dial_proven(now, &peer, &target, expected) {
                    DialDecision::Proceed { conn, intent } => {
                        assert_eq!(intent.holds, self.holds(&peer), "it asks to go on with what it holds");
                        self.dials.push(Dial { conn, node: peer.node, session: None });
                    }
                    DialDecision::AlreadyConnected => assert!(self.table.is_connected(peer.node)),
                    DialDecision::AlreadyDialling | DialDecision::Refused(_) => {}
                }
            }
            Step::Finish { nth } => {
                let session = self.name();
                if let Some(Dial { conn, .. }) = self.dial(nth) {
                    self.table.dial_finished(conn, session);
                    let dial = self.dials.iter_mut().find(|dial| dial.conn == conn).expect("it was chosen");
                    dial.session = Some(session);
                }
            }
            Step::Welcome { nth, resumed } => {
                if let Some(Dial { conn, node, session }) = self.dial(nth) {
                    if self.table.dial_welcomed(now, conn, resumed) {
                        self.began(node, session.expect("a session has a name"), resumed);
                        self.dials.retain(|dial| dial.conn != conn);
                    } else {
                        self.give_up(conn);
                    }
                }
            }
            Step::GiveUp { nth } => {
                if let Some(Dial { conn, .. }) = self.dial(nth) {
                    self.give_up(conn);
                }
            }
            Step::Break { nth } => {
                if let Some((conn, heard)) = self.session(nth) {
                    self.table.connection_lost(now, conn, heard);
                }
            }
            Step::Goodbye { nth } => {
                if let Some((conn, _)) = self.session(nth) {
                    self.table.goodbye(now, conn);
                }
            }
            Step::Hear { nth } => {
                let Some((conn, _)) = self.session(nth) else { return };
                let Some(session) = self.sessions.get_mut(&conn) else { return };
                session.heard = now;
                if std::mem::take(&mut session.watched) {
                    self.table.heard_again(now, conn);
                }
            }
            Step::FoundAt { who, hearsay, relayed } => self.table.found_at(who.node(), &target(hearsay, relayed)),
            Step::RedialFailed { who } => self.table.redial_failed(now, who.node()),
            Step::Wait { millis } => self.wait(Duration::from_millis(u64::from(millis % 1_000_000))),
        }
    }

    fn name(&mut self) -> SessionId {
        self.named = self.named.wrapping_add(1);
        SessionId([self.named; 16])
    }

    /// The session with which began what the table holds of that life of a peer.
    fn holds(&self, peer: &ProvenPeer) -> Option<SessionId> {
        let (life, told) = self.told.get(&peer.node)?;
        let held = *life == peer.incarnation && !matches!(told, Told::Lost { .. });
        self.began.get(&peer.node).copied().filter(|_| held)
    }

    fn began(&mut self, node: NodeId, session: SessionId, resumed: bool) {
        if !resumed {
            self.began.insert(node, session);
        }
    }

    fn dial(&self, nth: u8) -> Option<Dial> {
        self.dials.get(usize::from(nth).checked_rem(self.dials.len())?).copied()
    }

    fn session(&self, nth: u8) -> Option<(ConnId, Instant)> {
        let nth = usize::from(nth).checked_rem(self.sessions.len())?;
        self.sessions.iter().nth(nth).map(|(conn, session)| (*conn, session.heard))
    }

    fn give_up(&mut self, conn: ConnId) {
        self.table.dial_ended(self.now, conn);
        self.dials.retain(|dial| dial.conn != conn);
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..SERVED {
            let Some(at) = self.table.next_timer().filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.table.on_timer(self.now, &Times(&self.sessions));
            self.apply();
            assert!(self.table.next_timer().is_none_or(|next| next > self.now), "a timer that does nothing");
        }
    }

    fn apply(&mut self) {
        for action in self.table.take_actions() {
            match action {
                Action::Open { conn, node } => {
                    assert!(self.sessions.values().all(|session| session.node != node), "two sessions of one peer");
                    self.dials.retain(|dial| dial.conn != conn);
                    self.sessions.insert(conn, Session { node, heard: self.now, watched: false });
                }
                Action::Close { conn, why: _ } => {
                    let dial = self.dials.iter().position(|dial| dial.conn == conn);
                    let known = dial.map(|at| self.dials.remove(at)).is_some() | self.sessions.remove(&conn).is_some();
                    assert!(known, "closed what is not open");
                }
                Action::Event(event) => self.event(&event),
                Action::Ping { conn } => assert!(self.sessions.contains_key(&conn)),
                Action::Watch { conn } => self.sessions.get_mut(&conn).expect("it is open").watched = true,
                Action::Dial { node, target: _ } => assert!(self.told.contains_key(&node), "dials a stranger again"),
            }
        }
    }

    fn event(&mut self, event: &PeerEvent) {
        match event {
            PeerEvent::Connected { peer, resumed } => {
                self.connected = true;
                assert!(self.sessions.values().any(|session| session.node == peer.node));
                let before = self.told.insert(peer.node, (peer.incarnation, Told::Connected));
                match before {
                    Some((life, Told::Lost { at })) => {
                        assert!(!resumed, "goes on after a loss");
                        assert!(peer.incarnation >= life || self.now >= at + REFUSED, "an older life");
                    }
                    Some((life, Told::Cut)) => {
                        assert!(*resumed && life == peer.incarnation, "begins anew without a loss");
                    }
                    Some((_, Told::Connected | Told::Silent)) => panic!("connected twice"),
                    None => assert!(!resumed, "goes on with nothing"),
                }
            }
            PeerEvent::Ready { .. } => panic!("the table does not know"),
            PeerEvent::Suspected { node } => {
                let (_, told) = self.told.get_mut(node).expect("it was connected");
                assert_eq!(std::mem::replace(told, Told::Silent), Told::Connected);
            }
            PeerEvent::Heard { node } => {
                let (_, told) = self.told.get_mut(node).expect("it was connected");
                assert_eq!(std::mem::replace(told, Told::Connected), Told::Silent);
            }
            PeerEvent::Cut { node } => {
                let (_, told) = self.told.get_mut(node).expect("it was connected");
                assert_eq!(std::mem::replace(told, Told::Cut), Told::Silent);
            }
            PeerEvent::Lost { node, incarnation, how: _ } => {
                let (life, told) = self.told.get_mut(node).expect("it was connected");
                assert_eq!(life, incarnation);
                let before = std::mem::replace(told, Told::Lost { at: self.now });
                assert!(!matches!(before, Told::Lost { .. }), "lost twice");
            }
        }
    }

    fn check(&mut self) {
        for number in 0..PEERS {
            let node = keypair(number).node_id();
            let open = self.sessions.iter().find(|(_, session)| session.node == node).map(|(conn, _)| *conn);
            assert_eq!(self.table.session(node), open);
        }
        let present = self.told.values().filter(|(_, told)| !matches!(told, Told::Lost { .. })).count();
        assert_eq!(self.table.present(), present);
        assert!(present <= MOST && self.dials.len() <= usize::from(PEERS));
        assert_eq!(self.table.connections(), self.sessions.len() + self.dials.len());
    }

    fn apply_events_of_leaving(&mut self) {
        for action in self.table.take_actions() {
            if let Action::Event(event) = action {
                self.event(&event);
            }
        }
        assert!(self.told.values().all(|(_, told)| matches!(told, Told::Lost { .. })));
        assert_eq!((self.table.connections(), self.table.peers().count()), (0, 0));
        assert_eq!(self.table.next_timer(), None);
    }
}

fn target(hearsay: bool, relayed: Option<u8>) -> DialTarget {
    DialTarget { way: way(relayed), pin_key: None, pin_node: None, hearsay }
}
