//! Messages of streams on their way through a node that is not at either end: to where a daemon went that lived here, and
//! back to senders that reach its host only through this node.

use std::collections::HashMap;

use bytes::Bytes;
use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::inbox::{MARKS_KEPT, Passed};
use crate::directory::Pointer;
use crate::identity::{Epoch, NodeId};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{EventsMessage, StreamId};

/// Most times that an event is sent on.
const MOST_HOPS: u8 = 4;
/// Most streams of others to one daemon that one node sends on through this one.
const MOST_OF_OTHERS: usize = 16;

/// A stream that goes through this node.
#[derive(Clone, Copy, Debug)]
struct Forwarded {
    /// Where it comes from: its sender, or another former host.
    from: NodeId,
    /// Where it goes.
    to: NodeId,
    /// When it was used last.
    at: Instant,
}

/// The streams that go through this node.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    streams: HashMap<StreamId, Forwarded, RandomState>,
}

impl Forwards {
    /// Enters a stream, or the way that it takes now. False for one that its sender has given up, and when too many of others
    /// come from there.
    fn admit(&mut self, id: &StreamId, from: NodeId, to: NodeId, now: Instant) -> bool {
        let entry = Forwarded { from, to, at: now };
        if let Some(known) = self.streams.get_mut(id) {
            *known = entry;
            return true;
        }
        let alike = |other: &StreamId, known: &Forwarded| other.entity == id.entity && known.from == from;
        if from == id.sender {
            // A sender has one stream to a daemon, and nobody else speaks for it.
            let own = |other: &StreamId, known: &Forwarded| alike(other, known) && other.sender == from;
            if self.streams.iter().any(|(other, known)| own(other, known) && other.follows(id)) {
                return false;
            }
            self.streams.retain(|other, known| !own(other, known));
        } else if self.streams.iter().filter(|(other, known)| alike(other, known)).count() >= MOST_OF_OTHERS {
            return false;
        }
        self.streams.insert(*id, entry);
        true
    }

    /// Enters a stream of a daemon that leaves, whatever else there is: it was known here.
    pub(super) fn left(&mut self, id: StreamId, from: NodeId, to: NodeId, now: Instant) {
        self.streams.insert(id, Forwarded { from, to, at: now });
    }

    /// Forgets what was not used for long.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.streams.retain(|_, stream| stream.at + MARKS_KEPT > now);
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The streams that go to a node, in a fixed order, with where they come from.
    fn through_to(&self, node: NodeId) -> Vec<(StreamId, NodeId)> {
        let mut streams: Vec<_> =
            self.streams.iter().filter(|(_, way)| way.to == node).map(|(id, way)| (*id, way.from)).collect();
        streams.sort_unstable_by_key(|(id, _)| (id.sender, id.incarnation, id.opening));
        streams
    }
}

impl Engine {
    /// Whether an answer is for this node. One for another node goes back the way that its stream came.
    pub(super) fn is_for_me(&mut self, from: NodeId, stream: &StreamId, body: &Bytes) -> bool {
        if stream.sender == self.me() {
            if let Some(own) = self.own_stream_to(stream.entity, stream.lineage)
                && stream.is_guess_at(&own)
            {
                self.refuse(from, "answer", &"for a stream whose name it does not know");
                return false;
            }
            return stream.incarnation == self.node.incarnation;
        }
        match self.forwards.streams.get(stream) {
            Some(way) => {
                let to = self.way_to(stream.sender, way.from);
                if to != from {
                    self.send_any_size(to, Subprotocol::Events, body.to_vec());
                }
            }
            None => self.refuse(from, "answer", &"for a stream that does not come through here"),
        }
        false
    }

    /// Where a daemon went that is not here, if the message does not come from a later time than that is known of.
    fn pointer_for(&self, id: &StreamId, epoch: Epoch) -> Option<Pointer> {
        let pointer = self.pointers.get(id.entity.origin_hash())?;
        (pointer.entity == id.entity && pointer.lineage == id.lineage && pointer.epoch > epoch).then_some(*pointer)
    }

    /// Tells the sender where the daemon lives, and sends the message on for one that cannot reach it.
    pub(super) fn forward<'b>(
        &mut self,
        from: NodeId,
        id: &StreamId,
        passed: Passed,
        now: Now,
        message: impl FnOnce(Passed) -> EventsMessage<'b>,
    ) {
        let Some(pointer) = self.pointer_for(id, passed.epoch) else {
            if passed.hops == 0 {
                self.say_unknown(from, id, 0);
            }
            return;
        };
        if self.way_to(id.sender, from) == id.sender {
            let moved = EventsMessage::Moved { stream: *id, node: pointer.node, epoch: pointer.epoch };
            self.send(id.sender, Subprotocol::Events, codec::encode(&moved));
        }
        if passed.hops >= MOST_HOPS {
            return;
        }
        if !self.forwards.admit(id, from, pointer.node, now.instant) {
            if from != id.sender {
                self.refuse(from, "event", &"it sends too many streams of others to one daemon");
                self.send(from, Subprotocol::Events, codec::encode(&EventsMessage::Full { stream: *id }));
            }
            return;
        }
        if self.peers.is_up(pointer.node) {
            let next = Passed { epoch: pointer.epoch, hops: passed.hops + 1 };
            self.send_any_size(pointer.node, Subprotocol::Events, codec::encode(&message(next)));
        } else if passed.hops == 0 && self.peers.get(pointer.node).is_none() {
            // Its host is given up: who was told above and reaches that host all the same is on its way there already.
            self.say_unknown(from, id, 0);
        }
    }

    /// A node is back, or is given up, to which streams go through this one: their senders cannot see that.
    pub(super) fn forwards_told(&mut self, node: NodeId, back: bool) {
        for (id, from) in self.forwards.through_to(node) {
            if self.pointer_for(&id, Epoch::default()).is_none_or(|pointer| pointer.node != node)
                || self.stands_here(&id).is_some()
            {
                continue;
            }
            let to = self.way_to(id.sender, from);
            let message = if back {
                EventsMessage::Again { stream: id }
            } else {
                EventsMessage::Unknown { stream: id, first: 0 }
            };
            self.send(to, Subprotocol::Events, codec::encode(&message));
        }
        if !back {
            self.forwards.streams.retain(|_, way| way.to != node && way.from != node);
        }
    }
}
