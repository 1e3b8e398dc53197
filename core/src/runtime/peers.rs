//! What the engine keeps for each peer: what waits to be sent to it, and what arrives in pieces.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::Hash;

use bytes::Bytes;
use foldhash::fast::RandomState;

use crate::daemon::DaemonKey;
use crate::identity::{EntityId, NodeId, OriginHash};
use crate::mesh::PeerIdentity;
use crate::wire::events::StreamId;
use crate::wire::{MAX_RECORD_BODY, Subprotocol};

/// Most bytes of control messages that wait for one peer, and as many of what is sent on for others.
const CONTROL_BYTES: usize = 4 * 1024 * 1024;

/// Most streams of a peer that it is told about later. Words about that many fit into the room that has to come free first.
const MOST_UNSAID: usize = 8192;

/// Most bytes of large messages of others that wait for one peer; one message may exceed it alone.
pub(super) const PASSING_BYTES: usize = 8 * 1024 * 1024;

/// With so many bytes of large messages waiting for one peer, no more of what streams have for it is made a message, until
/// half of them are gone.
const LARGE_BYTES: usize = 16 * 1024 * 1024;

/// With so many bytes of a frame, those whose turn it is have had it.
const TURN: usize = 16 * 1024;

/// An empty queue with room for more gives it back: many waited at once, and usually few do.
const KEPT_TURNS: usize = 64;

/// Those who wait for their turn, each of them once.
#[derive(Debug)]
pub(super) struct TurnQueue<T> {
    order: VecDeque<T>,
    members: HashSet<T, RandomState>,
}

impl<T: Copy + Eq + Hash> TurnQueue<T> {
    fn new() -> Self {
        Self { order: VecDeque::new(), members: HashSet::default() }
    }

    /// Enters one behind all others, unless it waits already.
    pub(super) fn push(&mut self, one: T) {
        if self.members.insert(one) {
            self.order.push_back(one);
        }
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<T> {
        self.order.front().copied()
    }

    /// Takes out whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let first = self.order.pop_front()?;
        self.members.remove(&first);
        if self.order.is_empty() && self.order.capacity() > KEPT_TURNS {
            *self = Self::new();
        }
        Some(first)
    }

    /// Whose turn it is goes behind all others.
    fn rotate(&mut self) {
        if !self.order.is_empty() {
            self.order.rotate_left(1);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn clear(&mut self) {
        *self = Self::new();
    }
}

/// Whose turn it is in the fast lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Streams from the peer, with what they have to answer.
    Answers,
    /// Streams to it.
    Events,
    /// What others have for it, or for whoever is behind it.
    Passing,
}

impl Turn {
    const fn next(self) -> Self {
        match self {
            Self::Answers => Self::Events,
            Self::Events => Self::Passing,
            Self::Passing => Self::Answers,
        }
    }
}

/// Whose turn it is in the bulk lane, frame by frame: a chunk of a state needs almost a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BulkTurn {
    /// Large messages.
    Messages,
    /// States of daemons that move to the peer.
    States,
}

/// A message that is too large for a record, cut into fragments on the bulk lane.
#[derive(Debug)]
pub(super) struct BulkMessage {
    /// Which part of the peer it is for.
    pub(super) subprotocol: Subprotocol,
    /// The whole message.
    pub(super) body: Bytes,
    /// How much of it has been sent.
    pub(super) sent: usize,
    /// Whether it is another node's, on its way through this one.
    pub(super) passing: bool,
    /// Whether it goes before the others: a daemon stands still until it has arrived.
    urgent: bool,
}

impl BulkMessage {
    /// A message of this node.
    pub(super) fn new(subprotocol: Subprotocol, body: impl Into<Bytes>) -> Self {
        Self { subprotocol, body: body.into(), sent: 0, passing: false, urgent: false }
    }

    /// A message of this node without which a daemon that moves stands still.
    pub(super) fn of_move(body: Vec<u8>) -> Self {
        Self { urgent: true, ..Self::new(Subprotocol::Migration, body) }
    }
}

/// Large messages, one after another.
#[derive(Debug, Default)]
struct Bulk {
    messages: VecDeque<BulkMessage>,
    /// How many of them are urgent.
    urgent: usize,
    bytes: usize,
    /// Too many of them wait.
    is_full: bool,
    /// The bytes of those that are others'.
    passing_bytes: usize,
}

impl Bulk {
    fn push(&mut self, message: BulkMessage) {
        self.bytes += message.body.len();
        self.is_full |= self.bytes >= LARGE_BYTES;
        if message.passing {
            self.passing_bytes += message.body.len();
        }
        if message.urgent {
            // In their order, behind one that has begun.
            let begun = self.messages.front().is_some_and(|first| first.sent > 0 && !first.urgent);
            self.messages.insert(self.urgent + usize::from(begun), message);
            self.urgent += 1;
        } else {
            self.messages.push_back(message);
        }
    }

    fn pop(&mut self) {
        let Some(message) = self.messages.pop_front() else { return };
        self.bytes -= message.body.len();
        self.urgent -= usize::from(message.urgent);
        self.is_full &= self.bytes >= LARGE_BYTES / 2;
        if message.passing {
            self.passing_bytes -= message.body.len();
        }
    }
}

/// A large message that has not wholly arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    /// Which part of this node it is for.
    pub(super) subprotocol: Subprotocol,
    /// Its announced length.
    pub(super) total: u64,
    /// What is here.
    pub(super) bytes: Vec<u8>,
}

/// The session with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// It is up.
    Heard,
    /// It stands, and nothing is heard on it at the moment: what the peer is sent goes on waiting, or is on the way.
    Silent,
    /// There is none.
    Gone,
}

/// A peer with, or lately with, a session.
#[derive(Debug)]
pub(super) struct Peer {
    /// Who it is.
    pub(super) identity: PeerIdentity,
    /// How its session is.
    pub(super) session: Session,
    /// Whether records flow: without that it answers nothing.
    pub(super) ready: bool,
    /// Small messages, in order.
    pub(super) control: VecDeque<(Subprotocol, Vec<u8>)>,
    control_bytes: usize,
    /// Small messages of others on their way through this node, in order.
    passing: VecDeque<Vec<u8>>,
    passing_bytes: usize,
    /// Streams that have something to send to it.
    pub(super) out: TurnQueue<OriginHash>,
    /// Streams from it that have something to answer.
    pub(super) answers: TurnQueue<(DaemonKey, u32)>,
    /// The same of those whose next message is large, while too many such messages wait.
    large_out: TurnQueue<OriginHash>,
    large_answers: TurnQueue<(DaemonKey, u32)>,
    turn: Turn,
    /// What was written in this turn.
    turn_bytes: usize,
    bulk: Bulk,
    bulk_turn: BulkTurn,
    /// Something of others was not passed on for want of room, or something was left unsaid.
    pub(super) congested: bool,
    unsaid: HashSet<StreamId, RandomState>,
    /// Daemons whose state flows to it.
    pub(super) transfers: VecDeque<EntityId>,
    /// A large message from it that has not wholly arrived.
    pub(super) assembly: Option<Assembly>,
}

impl Peer {
    pub(super) fn new(identity: PeerIdentity) -> Self {
        Self {
            identity,
            session: Session::Heard,
            ready: false,
            control: VecDeque::new(),
            control_bytes: 0,
            passing: VecDeque::new(),
            passing_bytes: 0,
            out: TurnQueue::new(),
            answers: TurnQueue::new(),
            large_out: TurnQueue::new(),
            large_answers: TurnQueue::new(),
            turn: Turn::Answers,
            turn_bytes: 0,
            bulk: Bulk::default(),
            bulk_turn: BulkTurn::Messages,
            congested: false,
            unsaid: HashSet::default(),
            transfers: VecDeque::new(),
            assembly: None,
        }
    }

    /// Whether it has a session.
    pub(super) fn is_up(&self) -> bool {
        self.session != Session::Gone
    }

    /// Whether it has one, and was heard of lately.
    pub(super) fn is_heard(&self) -> bool {
        self.session == Session::Heard
    }

    /// Its session is gone: what was on the way is repeated by those who need it. Gives the streams that had something to
    /// answer.
    pub(super) fn down(&mut self) -> Vec<(DaemonKey, u32)> {
        self.session = Session::Gone;
        self.ready = false;
        self.control.clear();
        self.control_bytes = 0;
        self.passing.clear();
        self.passing_bytes = 0;
        self.out.clear();
        self.large_out.clear();
        self.turn = Turn::Answers;
        self.turn_bytes = 0;
        self.bulk = Bulk::default();
        self.congested = false;
        self.unsaid.clear();
        self.transfers.clear();
        self.assembly = None;
        let Self { answers, large_answers, .. } = self;
        std::iter::from_fn(|| answers.pop().or_else(|| large_answers.pop())).collect()
    }

    /// Whose turn it is, if anybody has something for the fast lane. Those with a large message come back one by one, so that
    /// no more of them are looked at than there is room for.
    pub(super) fn turn(&mut self) -> Option<Turn> {
        if self.takes_large() {
            if let Some(origin) = self.large_out.pop() {
                self.out.push(origin);
            }
            if let Some(answer) = self.large_answers.pop() {
                self.answers.push(answer);
            }
        }
        let had_its_turn = self.turn_bytes >= TURN;
        if had_its_turn {
            match self.turn {
                Turn::Answers => self.answers.rotate(),
                Turn::Events => self.out.rotate(),
                Turn::Passing => {}
            }
            self.turn_bytes = 0;
        }
        let waits = |turn| match turn {
            Turn::Answers => !self.answers.is_empty(),
            Turn::Events => !self.out.is_empty(),
            Turn::Passing => !self.passing.is_empty(),
        };
        let others = [self.turn.next(), self.turn.next().next()];
        if (had_its_turn || !waits(self.turn))
            && let Some(other) = others.into_iter().find(|other| waits(*other))
        {
            self.turn_bytes = 0;
            self.turn = other;
        } else if !waits(self.turn) {
            return None;
        }
        Some(self.turn)
    }

    /// So much was written by those whose turn it is.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.turn_bytes += bytes;
    }

    /// Whether what a stream has for it may become a large message now.
    pub(super) fn takes_large(&self) -> bool {
        !self.bulk.is_full
    }

    /// The first stream that has something to send waits until it may become a large message.
    pub(super) fn put_off_out(&mut self) {
        if let Some(origin) = self.out.pop() {
            self.large_out.push(origin);
        }
    }

    /// The same of the first that has something to answer.
    pub(super) fn put_off_answer(&mut self) {
        if let Some(answer) = self.answers.pop() {
            self.large_answers.push(answer);
        }
    }

    /// Enters a large message.
    pub(super) fn push_bulk(&mut self, message: BulkMessage) {
        self.bulk.push(message);
    }

    /// The large message that is being sent.
    pub(super) fn first_bulk(&mut self) -> Option<&mut BulkMessage> {
        self.bulk.messages.front_mut()
    }

    /// Whose turn it is in the bulk lane.
    pub(super) fn bulk_turn(&self) -> BulkTurn {
        self.bulk_turn
    }

    /// They had their turn: the next frame is begun by the others.
    pub(super) fn had_bulk_turn(&mut self) {
        self.bulk_turn = match self.bulk_turn {
            BulkTurn::Messages => BulkTurn::States,
            BulkTurn::States => BulkTurn::Messages,
        };
    }

    /// Enters a small message of another node; false when too much of that kind waits already.
    pub(super) fn push_small_passing(&mut self, body: Vec<u8>) -> bool {
        if self.passing_bytes + body.len() > CONTROL_BYTES {
            return false;
        }
        self.passing_bytes += body.len();
        self.passing.push_back(body);
        true
    }

    /// The small message of another node that is next.
    pub(super) fn first_passing(&self) -> Option<&[u8]> {
        self.passing.front().map(Vec::as_slice)
    }

    /// Takes that one out.
    pub(super) fn pop_passing(&mut self) {
        if let Some(body) = self.passing.pop_front() {
            self.passing_bytes -= body.len();
        }
    }

    /// Enters a large message of another node; false when too much of that kind waits already.
    pub(super) fn push_passing(&mut self, subprotocol: Subprotocol, body: Vec<u8>) -> bool {
        if self.bulk.passing_bytes > 0 && self.bulk.passing_bytes + body.len() > PASSING_BYTES {
            return false;
        }
        self.push_bulk(BulkMessage { passing: true, ..BulkMessage::new(subprotocol, body) });
        true
    }

    /// Takes out the first large message, which was sent.
    pub(super) fn pop_bulk(&mut self) {
        self.bulk.pop();
    }

    /// Whether there is room again for what was not passed on or said; tells so once.
    pub(super) fn takes_again(&mut self) -> bool {
        let room = self.control_bytes.max(self.passing_bytes) < CONTROL_BYTES / 2;
        room && self.bulk.passing_bytes < PASSING_BYTES / 2 && std::mem::take(&mut self.congested)
    }

    /// Enters a message; gives it back when too much waits already. One that fits no record would hold up all behind it.
    pub(super) fn push_control(&mut self, subprotocol: Subprotocol, body: Vec<u8>) -> Result<(), Vec<u8>> {
        debug_assert!(body.len() <= MAX_RECORD_BODY, "a message of {} bytes for {subprotocol:?}", body.len());
        if self.control_bytes + body.len() > CONTROL_BYTES || body.len() > MAX_RECORD_BODY {
            return Err(body);
        }
        self.control_bytes += body.len();
        self.control.push_back((subprotocol, body));
        Ok(())
    }

    /// There was no room for a word about a stream: its sender is to begin again, and hears it then.
    pub(super) fn leave_unsaid(&mut self, stream: StreamId) {
        if self.unsaid.len() < MOST_UNSAID {
            self.unsaid.insert(stream);
        }
        self.congested = true;
    }

    /// Takes the streams about which something was left unsaid, in a fixed order.
    pub(super) fn take_unsaid(&mut self) -> Vec<StreamId> {
        let mut streams: Vec<_> = std::mem::take(&mut self.unsaid).into_iter().collect();
        streams.sort_unstable_by_key(|id| (id.sender, id.incarnation, id.opening));
        streams
    }

    /// Takes the first message out.
    pub(super) fn pop_control(&mut self) -> Option<(Subprotocol, Vec<u8>)> {
        let (subprotocol, body) = self.control.pop_front()?;
        self.control_bytes -= body.len();
        Some((subprotocol, body))
    }

    /// Whether anything waits in the fast lane.
    pub(super) fn has_fast(&self) -> bool {
        let large = || !self.large_out.is_empty() || !self.large_answers.is_empty();
        let waits = !self.control.is_empty() || !self.passing.is_empty();
        waits || !self.out.is_empty() || !self.answers.is_empty() || (self.takes_large() && large())
    }

    /// Whether anything waits in the bulk lane.
    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.messages.is_empty() || !self.transfers.is_empty()
    }
}

/// The peers of a node, in a fixed order so that a simulation repeats itself.
#[derive(Debug, Default)]
pub(super) struct Peers {
    map: BTreeMap<NodeId, Peer>,
}

impl Peers {
    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.map.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.map.get_mut(&node)
    }

    /// The peer, while its session is up.
    pub(super) fn up(&mut self, node: NodeId) -> Option<&mut Peer> {
        self.map.get_mut(&node).filter(|peer| peer.is_up())
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.map.get(&node).is_some_and(Peer::is_up)
    }

    /// Whether its session is up and it was heard of lately.
    pub(super) fn is_heard(&self, node: NodeId) -> bool {
        self.map.get(&node).is_some_and(Peer::is_heard)
    }

    pub(super) fn insert(&mut self, identity: PeerIdentity) {
        self.map.insert(identity.node, Peer::new(identity));
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.map.remove(&node);
    }

    /// Bytes of control messages that wait for a peer.
    pub(super) fn waiting_bytes(&self, node: NodeId) -> usize {
        self.map.get(&node).map_or(0, |peer| peer.control_bytes)
    }

    /// Whether anything waits for a connected peer.
    pub(super) fn any_waiting(&self) -> bool {
        self.map.values().any(|peer| peer.is_up() && (peer.has_fast() || peer.has_bulk()))
    }

    /// Bytes of large messages of others that wait to be sent.
    pub(super) fn passing_bytes(&self) -> usize {
        self.map.values().map(|peer| peer.bulk.passing_bytes).sum()
    }

    /// Bytes of large messages that wait to be sent, or have not wholly arrived.
    pub(super) fn assembling_bytes(&self) -> u64 {
        let of =
            |peer: &Peer| (peer.bulk.bytes + peer.assembly.as_ref().map_or(0, |assembly| assembly.bytes.len())) as u64;
        self.map.values().map(of).sum()
    }

    /// All of them, and whether they answer.
    pub(super) fn all(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.map.values().map(|peer| (peer.identity.node, peer.ready))
    }

    /// Nodes with a session, and whether they answer.
    pub(super) fn connected(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.map.values().filter(|peer| peer.is_up()).map(|peer| (peer.identity.node, peer.ready))
    }

    /// The same without those of whom nothing is heard.
    pub(super) fn heard(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.map.values().filter(|peer| peer.is_heard()).map(|peer| (peer.identity.node, peer.ready))
    }
}
