//! What the engine keeps for each peer: what waits to be sent to it, and what arrives in pieces.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use foldhash::fast::RandomState;

use crate::daemon::DaemonKey;
use crate::identity::{EntityId, NodeId, OriginHash};
use crate::mesh::PeerIdentity;
use crate::wire::events::StreamId;
use crate::wire::{MAX_RECORD_BODY, Subprotocol};

/// Most bytes of control messages and forwarded events that wait for one peer.
const CONTROL_BYTES: usize = 4 * 1024 * 1024;

/// Most streams of a peer that it is told about later. Words about that many fit into the room that has to come free first.
const MOST_UNSAID: usize = 8192;

/// Most bytes of large messages of others that wait for one peer; one message may exceed it alone.
pub(super) const PASSING_BYTES: usize = 8 * 1024 * 1024;

/// With so many bytes of large messages waiting for one peer, no more of what streams have for it is made a message.
const LARGE_BYTES: usize = 16 * 1024 * 1024;

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
}

impl BulkMessage {
    /// A message of this node.
    pub(super) fn new(subprotocol: Subprotocol, body: impl Into<Bytes>) -> Self {
        Self { subprotocol, body: body.into(), sent: 0, passing: false }
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

/// A peer with, or lately with, a session.
#[derive(Debug)]
pub(super) struct Peer {
    /// Who it is.
    pub(super) identity: PeerIdentity,
    /// Whether its session is up.
    pub(super) up: bool,
    /// Whether records flow: without that it answers nothing.
    pub(super) ready: bool,
    /// Small messages, in order.
    pub(super) control: VecDeque<(Subprotocol, Vec<u8>)>,
    control_bytes: usize,
    /// Streams that have something to send to it.
    pub(super) out: VecDeque<OriginHash>,
    /// Streams from it that have something to answer.
    pub(super) answers: VecDeque<(DaemonKey, u32)>,
    /// The same of those whose next message is large, while too many such messages wait.
    large_out: VecDeque<OriginHash>,
    large_answers: VecDeque<(DaemonKey, u32)>,
    /// Large messages, one after another.
    pub(super) bulk: VecDeque<BulkMessage>,
    passing_bytes: usize,
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
            up: true,
            ready: false,
            control: VecDeque::new(),
            control_bytes: 0,
            out: VecDeque::new(),
            answers: VecDeque::new(),
            large_out: VecDeque::new(),
            large_answers: VecDeque::new(),
            bulk: VecDeque::new(),
            passing_bytes: 0,
            congested: false,
            unsaid: HashSet::default(),
            transfers: VecDeque::new(),
            assembly: None,
        }
    }

    /// Its session is gone: what was on the way is repeated by those who need it. Gives the streams that had something to
    /// answer.
    pub(super) fn down(&mut self) -> VecDeque<(DaemonKey, u32)> {
        self.up = false;
        self.ready = false;
        self.control.clear();
        self.control_bytes = 0;
        self.out.clear();
        self.large_out.clear();
        self.bulk.clear();
        self.passing_bytes = 0;
        self.congested = false;
        self.unsaid.clear();
        self.transfers.clear();
        self.assembly = None;
        self.answers.append(&mut self.large_answers);
        std::mem::take(&mut self.answers)
    }

    /// Whether what a stream has for it may become a large message now.
    pub(super) fn takes_large(&self) -> bool {
        let mut bytes = 0;
        self.bulk.iter().all(|message| {
            bytes += message.body.len();
            bytes < LARGE_BYTES
        })
    }

    /// The first stream that has something to send waits until it may become a large message.
    pub(super) fn put_off_out(&mut self) {
        // One that was entered anew stands there already.
        self.large_out.extend(self.out.pop_front().filter(|origin| !self.large_out.contains(origin)));
    }

    /// The same of the first that has something to answer.
    pub(super) fn put_off_answer(&mut self) {
        self.large_answers.extend(self.answers.pop_front());
    }

    /// Enters a large message of another node; false when too much of that kind waits already.
    pub(super) fn push_passing(&mut self, subprotocol: Subprotocol, body: Vec<u8>) -> bool {
        if self.passing_bytes > 0 && self.passing_bytes + body.len() > PASSING_BYTES {
            return false;
        }
        self.passing_bytes += body.len();
        self.bulk.push_back(BulkMessage { passing: true, ..BulkMessage::new(subprotocol, body) });
        true
    }

    /// Takes out the first large message, which was sent.
    pub(super) fn pop_bulk(&mut self) {
        if let Some(message) = self.bulk.pop_front().filter(|message| message.passing) {
            self.passing_bytes -= message.body.len();
        }
        if self.takes_large() {
            self.out.append(&mut self.large_out);
            self.answers.append(&mut self.large_answers);
        }
    }

    /// Whether there is room again for what was not passed on or said; tells so once.
    pub(super) fn takes_again(&mut self) -> bool {
        let room = self.control_bytes < CONTROL_BYTES / 2 && self.passing_bytes < PASSING_BYTES / 2;
        room && std::mem::take(&mut self.congested)
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
        !self.control.is_empty() || !self.out.is_empty() || !self.answers.is_empty()
    }

    /// Whether anything waits in the bulk lane.
    pub(super) fn has_bulk(&self) -> bool {
        !self.bulk.is_empty() || !self.transfers.is_empty()
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
        self.map.get_mut(&node).filter(|peer| peer.up)
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.map.get(&node).is_some_and(|peer| peer.up)
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
        self.map.values().any(|peer| peer.up && (peer.has_fast() || peer.has_bulk()))
    }

    /// Bytes of large messages of others that wait to be sent.
    pub(super) fn passing_bytes(&self) -> usize {
        self.map.values().map(|peer| peer.passing_bytes).sum()
    }

    /// Bytes of large messages that wait to be sent, or have not wholly arrived.
    pub(super) fn assembling_bytes(&self) -> u64 {
        let of = |peer: &Peer| {
            let waiting: usize = peer.bulk.iter().map(|message| message.body.len()).sum();
            (waiting + peer.assembly.as_ref().map_or(0, |assembly| assembly.bytes.len())) as u64
        };
        self.map.values().map(of).sum()
    }

    /// All of them, and whether they answer.
    pub(super) fn all(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.map.values().map(|peer| (peer.identity.node, peer.ready))
    }

    /// Nodes with a session, and whether they answer.
    pub(super) fn connected(&self) -> impl Iterator<Item = (NodeId, bool)> {
        self.map.values().filter(|peer| peer.up).map(|peer| (peer.identity.node, peer.ready))
    }
}
