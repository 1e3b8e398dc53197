//! Which peer has which session: the rules, without sockets, tasks or a clock.
//!
//! [`PeerTable`] is told what happened (a peer was proven, a connection broke, time passed) and answers with
//! [`Action`]s in the order in which they are to be carried out. Its rules:
//!
//! - One session per node id. A dialler that finds, once the listener is proven, that it has a session or a dial under
//!   way gives up its own. When both dialled at once, the dial of the smaller entity id wins on both sides.
//! - A session asked for by the peer replaces one that it dialled itself earlier, or one dialled from here that it says
//!   it had and lost. So a half-dead connection never keeps a peer out, and a late message never replaces a live one.
//! - A direct session, asked for by either side, replaces one through a relay; the other way round only when the direct
//!   one is dead. A peer that was dialled directly once goes on being dialled while a relayed session stands in.
//! - A newer incarnation replaces everything of the older one at once; an older one is refused until the newer one is long
//!   lost.
//! - What two nodes share goes on in the next session only if both still hold it and it began with the same session. One side
//!   may not know that the other one began anew: the welcome can be lost on its way.
//! - Loss of the connection, or silence for half of the session timeout, is suspicion; silence for all of it is loss. A
//!   session that was only silent goes on where it was.
//! - Whoever dialled dials again, with exponential backoff and jitter; through a relay only until the peer is lost.

mod backoff;
#[cfg(test)]
mod bounds_tests;
mod peer;
mod peers;
mod rules;
#[cfg(test)]
mod session_tests;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

pub use self::backoff::Backoff;
use self::peer::{Live, Peer, Pending, Redial};
use self::peers::Peers;
use super::handler::{PeerEvent, PeerIdentity};
use crate::identity::{EntityId, Incarnation, NodeId};
use crate::session::{DialIntent, ProvenPeer, SessionId};

/// Names one connection within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(u64);

/// How a session reaches its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over a connection, to or from this address.
    Direct(String),
    /// Inside sessions with a common peer.
    Relayed {
        /// That peer.
        by: NodeId,
    },
}

impl Way {
    /// The common peer, if there is one.
    pub const fn via(&self) -> Option<NodeId> {
        match self {
            Self::Direct(_) => None,
            Self::Relayed { by } => Some(*by),
        }
    }

    /// Whether it leads to one listener. A name may lead to several, another time if not now.
    pub fn leads_to_one(&self) -> bool {
        match self {
            Self::Direct(addr) => addr.parse::<std::net::SocketAddr>().is_ok(),
            Self::Relayed { .. } => true,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(addr) => f.write_str(addr),
            Self::Relayed { by } => write!(f, "relay:{by}"),
        }
    }
}

/// Where to dial, and whom to expect there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialTarget {
    /// Which way.
    pub way: Way,
    /// The static key that must answer.
    pub pin_key: Option<[u8; 32]>,
    /// The node that must answer.
    pub pin_node: Option<NodeId>,
    /// Others said that the node is there: once it is lost for long, it is not dialled again.
    pub hearsay: bool,
}

/// Times and limits of the table.
#[derive(Clone, Copy, Debug)]
pub struct TableConfig {
    /// How often something should be heard of a peer.
    pub heartbeat: Duration,
    /// Silence after which a peer is lost.
    pub session_timeout: Duration,
    /// Whether a dialled peer is dialled again.
    pub reconnect: bool,
    /// Most peers that are not lost.
    pub max_peers: usize,
    /// When and how fast to dial again.
    pub backoff: Backoff,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// This connection is now the session with `node`.
    Open {
        /// The connection.
        conn: ConnId,
        /// The peer.
        node: NodeId,
    },
    /// End this connection; nothing received on it is handed on after this.
    Close {
        /// The connection.
        conn: ConnId,
        /// For the log.
        why: CloseReason,
    },
    /// Tell the layers above.
    Event(PeerEvent),
    /// Ask the peer for a sign of life.
    Ping {
        /// The connection.
        conn: ConnId,
    },
    /// The session was suspected only for its silence: tell when something is heard on it.
    Watch {
        /// The connection.
        conn: ConnId,
    },
    /// Dial a known peer again. Ends in [`PeerTable::dial_proven`] or [`PeerTable::redial_failed`].
    Dial {
        /// The peer expected there.
        node: NodeId,
        /// Where.
        target: DialTarget,
    },
}

/// Why a connection is ended from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Another session with the same peer took its place.
    Replaced,
    /// The peer's node came back with a newer incarnation.
    NewerIncarnation,
    /// Nothing heard for the session timeout.
    Silence,
    /// The peer said goodbye.
    Goodbye,
    /// The connection is broken already.
    Broken,
}

/// What a dialler does once it knows who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialDecision {
    /// Finish the handshake with this intent and wait to be welcomed.
    Proceed {
        /// The name of the connection from now on.
        conn: ConnId,
        /// What to tell the peer.
        intent: DialIntent,
    },
    /// There is a session with this peer: leave without finishing.
    AlreadyConnected,
    /// Another dial of the same peer is further: leave and wait for that one.
    AlreadyDialling,
    /// This peer must not become one.
    Refused(PeerRefusal),
}

/// Why this node refuses a proven peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// It is this node, or has stolen its identity.
    #[error("that is this node's own identity")]
    Myself,
    /// A newer incarnation of it is known.
    #[error("a newer incarnation of that node is known")]
    OlderIncarnation,
    /// Another key has the same node id.
    #[error("another node has the same node id")]
    IdTaken,
    /// No room for another peer.
    #[error("the limit of peers is reached")]
    Full,
    /// A session with it lives, or is about to.
    #[error("there is another session with that node")]
    Duplicate,
}

/// A session that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The name of the connection from now on.
    pub conn: ConnId,
    /// What to say in the welcome.
    pub resumed: bool,
}

/// What is known of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// A session is up.
    Connected,
    /// Silent or cut off; may come back.
    Suspected,
    /// Given up.
    Lost,
}

/// One line of [`PeerTable::peers`].
#[derive(Clone, Debug)]
pub struct PeerView<'a> {
    /// Who it is.
    pub identity: &'a PeerIdentity,
    /// The way of its latest session.
    pub way: &'a Way,
    /// How it is.
    pub state: PeerState,
    /// Since when.
    pub since: Instant,
    /// The session, if one is up.
    pub conn: Option<ConnId>,
}

/// When something was last heard and said on a connection.
pub trait Activity {
    /// `(heard, sent)`; `None` for a connection that is gone.
    fn of(&self, conn: ConnId) -> Option<(Instant, Instant)>;
}

/// The table; see the module.
#[derive(Debug)]
pub struct PeerTable {
    me: EntityId,
    config: TableConfig,
    started: bool,
    peers: Peers,
    conns: HashMap<ConnId, NodeId>,
    next_conn: u64,
    attempts: u64,
    actions: VecDeque<Action>,
}

impl PeerTable {
    /// The empty table of the node `me`.
    pub fn new(me: EntityId, config: TableConfig) -> Self {
        Self {
            me,
            config,
            started: false,
            peers: Peers::default(),
            conns: HashMap::new(),
            next_conn: 0,
            attempts: 0,
            actions: VecDeque::new(),
        }
    }

    /// Silence after which a peer is lost.
    pub const fn session_timeout(&self) -> Duration {
        self.config.session_timeout
    }

    /// What is to be done now, oldest first.
    pub fn take_actions(&mut self) -> VecDeque<Action> {
        self.settle();
        std::mem::take(&mut self.actions)
    }

    /// Every peer that is remembered, in no order.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_>> {
        self.peers.iter().filter_map(|peer| {
            let known = peer.known.as_ref()?;
            Some(PeerView {
                identity: &known.identity,
                way: &known.way,
                state: known.state,
                since: known.since,
                conn: peer.live.as_ref().map(|live| live.conn),
            })
        })
    }

    /// The session with `node`, if one is up.
    pub fn session(&self, node: NodeId) -> Option<ConnId> {
        self.peers.get(node)?.live.as_ref().map(|live| live.conn)
    }

    /// Whether a session with `node` is up and works as far as is known.
    pub fn is_connected(&self, node: NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.healthy().is_some())
    }

    /// Whether the session with `node` goes through a relay.
    pub fn is_relayed(&self, node: NodeId) -> bool {
        self.peers.get(node).is_some_and(Peer::is_relayed)
    }

    /// Connections that it knows: sessions, and dials whose listener is proven.
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Peers that are not lost.
    pub fn present(&self) -> usize {
        self.peers.iter().filter(|peer| peer.is_present()).count()
    }

    fn conn(&mut self, node: NodeId) -> ConnId {
        self.next_conn += 1;
        let conn = ConnId(self.next_conn);
        self.conns.insert(conn, node);
        conn
    }

    fn close(&mut self, conn: ConnId, why: CloseReason) {
        self.conns.remove(&conn);
        self.actions.push_back(Action::Close { conn, why });
    }

    fn event(&mut self, event: PeerEvent) {
        self.actions.push_back(Action::Event(event));
    }
}

fn identity_of(peer: &ProvenPeer) -> PeerIdentity {
    PeerIdentity {
        node: peer.node,
        entity: peer.entity,
        incarnation: peer.incarnation,
        static_key: peer.static_key,
        max_payload: peer.max_payload,
    }
}
