//! Messages of streams on their way through a node that is not at either end: to where a daemon went that lived here, and
//! back to senders that reach its host only through this node.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::inbox::{MARKS_KEPT, Passed};
use super::peers::Peer;
use super::replies::{failed, failure};
use super::rerouting::{PATIENCE, Refusal};
use super::transmit::MESSAGE_OVERHEAD;
use crate::directory::{Claim, Pointer};
use crate::events::KeptReply;
use crate::identity::{EntityId, Epoch, NodeId};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{Answers, Course, EventsMessage, FailureKind, Item, StreamId};

/// Most times that an event is sent on.
pub(super) const MOST_HOPS: u8 = 4;
/// Most streams of others to one daemon that one node sends on through this one.
const MOST_OF_OTHERS: usize = 16;

/// Most events that are refused in one message, which has to fit into a frame: the others are when they come again.
const MOST_REFUSED: usize = 128;

/// A stream that goes through this node.
#[derive(Clone, Copy, Debug)]
struct Forwarded {
    /// Where it comes from: its sender, or another former host.
    from: NodeId,
    /// Where it goes.
    to: NodeId,
    /// When it was used last.
    at: Instant,
    /// Something of it was dropped for want of room: nothing more is sent on until its sender was asked to begin again.
    due: bool,
    /// Since when the node that it goes to was seen to be out of reach.
    silent_since: Option<Instant>,
}

impl Forwarded {
    const fn new(from: NodeId, to: NodeId, at: Instant) -> Self {
        Self { from, to, at, due: false, silent_since: None }
    }
}

/// The streams that go through this node.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    streams: HashMap<StreamId, Forwarded, RandomState>,
    /// The same by their daemons and where they come from.
    alike: HashMap<(EntityId, NodeId), HashSet<StreamId, RandomState>, RandomState>,
}

impl Forwards {
    /// Enters a stream, or the way that it takes now. False for one that its sender has given up, and when too many of others
    /// come from there.
    fn admit(&mut self, id: &StreamId, from: NodeId, to: NodeId, now: Instant) -> bool {
        if let Some(known) = self.streams.get(id).copied() {
            let due = known.due && known.to == to;
            self.insert(*id, Forwarded { due, silent_since: known.silent_since, ..Forwarded::new(from, to, now) });
            return true;
        }
        let alike = self.alike.get(&(id.entity, from));
        if from == id.sender {
            // A sender has one stream to a daemon, and nobody else speaks for it.
            let own = |other: &&StreamId| other.sender == from;
            let own: Vec<StreamId> = alike.into_iter().flatten().filter(own).copied().collect();
            if own.iter().any(|other| other.follows(id)) {
                return false;
            }
            for other in own {
                self.remove(&other);
            }
        } else if alike.map_or(0, HashSet::len) >= MOST_OF_OTHERS {
            return false;
        }
        self.insert(*id, Forwarded::new(from, to, now));
        true
    }

    /// Enters a stream of a daemon that leaves, whatever else there is: it was known here.
    pub(super) fn left(&mut self, id: StreamId, from: NodeId, to: NodeId, now: Instant) {
        self.insert(id, Forwarded::new(from, to, now));
    }

    fn insert(&mut self, id: StreamId, way: Forwarded) {
        if self.streams.get(&id).is_none_or(|known| known.from != way.from) {
            self.remove(&id);
            self.alike.entry((id.entity, way.from)).or_default().insert(id);
        }
        self.streams.insert(id, way);
    }

    fn remove(&mut self, id: &StreamId) {
        let Some(way) = self.streams.remove(id) else { return };
        let place = (id.entity, way.from);
        if let Some(alike) = self.alike.get_mut(&place) {
            alike.remove(id);
            if alike.is_empty() {
                self.alike.remove(&place);
            }
        }
    }

    fn remove_all(&mut self, gone: impl Fn(&Forwarded) -> bool) {
        let gone: Vec<StreamId> = self.streams.iter().filter(|(_, way)| gone(way)).map(|(id, _)| *id).collect();
        for id in gone {
            self.remove(&id);
        }
    }

    /// The daemons that streams go through this node to.
    fn destinations(&self) -> HashSet<EntityId, RandomState> {
        self.streams.keys().map(|id| id.entity).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Some streams, in a fixed order.
    fn which(&self, which: impl Fn(&StreamId, &Forwarded) -> bool) -> Vec<(StreamId, Forwarded)> {
        let mut streams: Vec<_> =
            self.streams.iter().filter(|(id, way)| which(id, way)).map(|(id, way)| (*id, *way)).collect();
        streams.sort_unstable_by_key(|(id, _)| (id.sender, id.incarnation, id.opening));
        streams
    }

    /// Marks a stream of which something was dropped, or that begins again.
    fn set_due(&mut self, id: &StreamId, due: bool) {
        if let Some(way) = self.streams.get_mut(id) {
            way.due = due;
        }
    }
}

impl Engine {
    /// Whether somebody who answers a stream of this node knows its whole name.
    pub(super) fn knows_name(&mut self, from: NodeId, stream: &StreamId) -> bool {
        if let Some(own) = self.own_stream_to(stream.entity, stream.lineage)
            && stream.is_guess_at(&own)
        {
            self.refuse(from, "answer", &"for a stream whose name it does not know");
            return false;
        }
        stream.incarnation == self.node.incarnation
    }

    /// An answer for another node goes to it, or back the way that its stream came.
    pub(super) fn send_back(&mut self, from: NodeId, message: EventsMessage<'_>) {
        let stream = *message.stream();
        // Whether a daemon that came back, or may, is gone is nobody else's to say.
        let may_have_back = self.stands_here(&stream).is_some() || self.is_released(stream.entity.origin_hash());
        if may_have_back && matches!(message, EventsMessage::Unknown { .. }) {
            return;
        }
        let Some(way) = self.forwards.streams.get(&stream).copied() else {
            // Forged, or late: its sender began another one since.
            tracing::debug!(peer = %from, "dropped an answer for a stream that does not come through here");
            return;
        };
        let to = match message.course() {
            Course::Back => self.way_back(stream.sender, way.from),
            Course::ToHost | Course::ToSender => self.way_to(stream.sender, way.from),
        };
        // Of daemons that went to and fro, each of two nodes may take the other for the way.
        if message.hops() >= MOST_HOPS {
            return;
        }
        // Its host keeps it, and is asked for it when the sender begins again.
        let body = self.fitting(to, message.sent_on());
        if self.peers.is_up(to) && !self.pass_on(to, body) {
            self.forwards.set_due(&stream, true);
        }
    }

    /// A message for a node: replies that it would not take are failures in it.
    fn fitting(&self, to: NodeId, mut message: EventsMessage<'_>) -> Vec<u8> {
        let limit = self.largest_for(to);
        let body = codec::encode(&message);
        let EventsMessage::Replies { replies, .. } = &mut message else { return body };
        let is_long = body.len() as u64 > limit.saturating_add(MESSAGE_OVERHEAD);
        let mut changed = false;
        for reply in replies {
            let size =
                reply.result.as_ref().map_or(0, |outputs| outputs.iter().map(|output| output.payload.len()).sum());
            if reply.result.is_ok() && (is_long || size as u64 > limit) {
                let why = format!("an output of {size} bytes is larger than the caller's limit of {limit}");
                reply.result = Err(failure(FailureKind::PayloadTooLarge, &why));
                changed = true;
            }
        }
        if changed { codec::encode(&message) } else { body }
    }

    /// The largest payload that a node takes.
    fn largest_for(&self, node: NodeId) -> u64 {
        self.peers.get(node).map_or(u64::MAX, |peer| peer.identity.max_payload)
    }

    /// Tells the sender of a batch of which events a node on its way takes none as large; false when it takes all.
    fn refuse_longer(&mut self, from: NodeId, to: NodeId, message: &EventsMessage<'_>) -> bool {
        let EventsMessage::Batch { stream, first, items, .. } = message else { return false };
        let limit = self.largest_for(to);
        let size = |item: &Item<'_>| item.event().map_or(0, |event| event.payload.len() as u64);
        let longer = (*first..).zip(items).filter(|(_, item)| size(item) > limit).take(MOST_REFUSED);
        let refused = longer.map(|(number, item)| {
            let size = size(item);
            let why = format!("a payload of {size} bytes is larger than the limit of {limit} of the daemon's host");
            failed(number, FailureKind::PayloadTooLarge, &why)
        });
        let refused: Vec<_> = refused.collect();
        if refused.is_empty() {
            return false;
        }
        let replies = refused.iter().map(KeptReply::as_wire).collect();
        let replies = EventsMessage::Replies { stream: *stream, through: 0, replies, hops: 0 };
        self.send(self.way_to(stream.sender, from), Subprotocol::Events, codec::encode(&replies));
        true
    }

    /// A daemon has gone to the host that this claim names: stragglers are sent on for a while.
    pub(super) fn remember_left(&mut self, claim: Claim, now: Now) {
        self.pointers.left(claim, now.instant);
        self.timers.sweep_later(now);
    }

    /// Forgets where daemons went, except for those that streams go through this node to.
    pub(super) fn sweep_pointers(&mut self, now: Now) {
        let mut used = self.forwards.destinations();
        // Who asks for one that is in doubt is told where it was to go.
        used.extend(self.departures.iter().filter(|(_, departure)| departure.source.is_released()).map(|(id, _)| *id));
        self.pointers.sweep(now.instant, |pointer| used.contains(&pointer.entity));
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
            let answers = message(passed).last().map_or(Answers::Nothing, Answers::batch_to);
            let accepted = self.accepted_of_unknown();
            return self.say_unknown(from, id, Refusal { accepted, answers, ..Refusal::UNSURE });
        };
        if id.sender == self.me() && self.came_back(from, id, pointer, now) {
            return;
        }
        if self.way_to(id.sender, from) == id.sender {
            let moved = EventsMessage::Moved { stream: *id, node: pointer.node, epoch: pointer.epoch, hops: 0 };
            self.send(id.sender, Subprotocol::Events, codec::encode(&moved));
        }
        if passed.hops >= MOST_HOPS {
            let to = self.way_back(id.sender, from);
            return self.send(to, Subprotocol::Events, codec::encode(&EventsMessage::Astray { stream: *id, hops: 0 }));
        }
        if !self.forwards.admit(id, from, pointer.node, now.instant) {
            if from != id.sender {
                self.refuse(from, "event", &"it sends too many streams of others to one daemon");
                self.send(from, Subprotocol::Events, codec::encode(&EventsMessage::Full { stream: *id, hops: 0 }));
            }
            return;
        }
        self.timers.sweep_later(now);
        if self.peers.is_up(pointer.node) {
            let next = Passed { epoch: pointer.epoch, hops: passed.hops + 1 };
            let due = self.forwards.streams.get(id).is_some_and(|way| way.due);
            let message = message(next);
            if !due
                && !self.refuse_longer(from, pointer.node, &message)
                && !self.pass_on(pointer.node, codec::encode(&message))
            {
                self.forwards.set_due(id, true);
            }
        } else if passed.hops == 0 && self.peers.get(pointer.node).is_none() {
            // Its host is given up: who was told above and reaches that host all the same is on its way there already.
            self.say_lost(from, id);
        }
    }

    /// What this node sent came back to it. It goes on from here itself where this node knows better than those on the way,
    /// and ends where it is known to lead nowhere; false when it is to be sent on like others'.
    fn came_back(&mut self, from: NodeId, id: &StreamId, pointer: Pointer, now: Now) -> bool {
        let route = self.routes.get(&id.entity.origin_hash());
        let stream = route.and_then(|route| route.stream.as_ref()).filter(|stream| stream.id == *id);
        let Some((told, refuted)) = stream.map(|stream| (stream.told_epoch, stream.refuted)) else { return true };
        if pointer.epoch > told.max(refuted) {
            self.on_moved(id, pointer.node, pointer.epoch, now);
            return true;
        }
        // The one that it was released to says that it has not got it: it is about to be taken back.
        let refuted = pointer.epoch <= refuted && !self.is_released(id.entity.origin_hash());
        let ends = refuted || self.peers.get(pointer.node).is_none();
        if ends {
            self.say_unknown(from, id, Refusal::UNSURE);
        }
        ends
    }

    /// A node is back: senders cannot see that their streams go to it through this one.
    pub(super) fn forwards_back(&mut self, node: NodeId) {
        for (id, way) in self.forwards.which(|id, way| way.to == node || way.from == node || id.sender == node) {
            // What comes from there begins again by itself.
            self.forwards.set_due(&id, false);
            if way.to == node && self.is_sent_on_to(&id, node) {
                self.say_to_sender(&id, way.from, &EventsMessage::Again { stream: id, hops: 0 });
            }
        }
    }

    /// A node is given up.
    pub(super) fn forwards_lost(&mut self, node: NodeId) {
        for (id, way) in self.forwards.which(|_, way| way.to == node) {
            self.end_forward(&id, way);
        }
        self.forwards.remove_all(|way| way.to == node || way.from == node);
    }

    fn end_forward(&mut self, id: &StreamId, way: Forwarded) {
        if self.is_sent_on_to(id, way.to) {
            self.say_lost(self.way_back(id.sender, way.from), id);
        }
    }

    /// Tells that the host of a stream is given up: behind the small replies from there, which may wait here for their turn.
    fn say_lost(&mut self, to: NodeId, id: &StreamId) {
        if to == self.me() {
            return self.say_unknown(to, id, Refusal::UNSURE);
        }
        if !self.pass_on(to, codec::encode(&Refusal::UNSURE.of(id)))
            && let Some(peer) = self.peers.up(to)
        {
            peer.leave_unsaid(*id);
        }
    }

    /// There is room again on the way to a node: what was dropped is to be sent again.
    pub(super) fn ask_again_through(&mut self, node: NodeId) {
        let on_the_way = |id: &StreamId, way: &Forwarded| way.to == node || way.from == node || id.sender == node;
        for (id, way) in self.forwards.which(|id, way| way.due && on_the_way(id, way)) {
            self.forwards.set_due(&id, false);
            self.say_to_sender(&id, way.from, &EventsMessage::Again { stream: id, hops: 0 });
        }
        for id in self.peers.get_mut(node).map(Peer::take_unsaid).unwrap_or_default() {
            let via = self.comes_through(&id).unwrap_or(node);
            self.say_to_sender(&id, via, &EventsMessage::Again { stream: id, hops: 0 });
        }
    }

    /// There was no room for what this node had to say about a stream. Once there is, its sender begins again.
    pub(super) fn say_later(&mut self, to: NodeId, dropped: &[u8]) {
        let Ok(message) = codec::decode::<EventsMessage<'_>>(dropped) else { return };
        match message.course() {
            // Nobody waits for these.
            Course::ToHost => {}
            Course::ToSender | Course::Back => {
                if let Some(peer) = self.peers.up(to) {
                    peer.leave_unsaid(*message.stream());
                }
            }
        }
    }

    /// The node that speaks for the sender of a stream, or is its sender.
    fn comes_through(&self, id: &StreamId) -> Option<NodeId> {
        let held = || {
            let inbound = &self.slot(self.stands_here(id)?)?.inbound;
            inbound.get(inbound.find(id)?).map(|stream| stream.via)
        };
        self.forwards.streams.get(id).map(|way| way.from).or_else(held)
    }

    fn is_sent_on_to(&self, id: &StreamId, node: NodeId) -> bool {
        self.stands_here(id).is_none()
            && self.pointer_for(id, Epoch::default()).is_some_and(|pointer| pointer.node == node)
    }

    fn say_to_sender(&mut self, id: &StreamId, via: NodeId, message: &EventsMessage<'_>) {
        let to = self.way_back(id.sender, via);
        self.send(to, Subprotocol::Events, codec::encode(message));
    }

    /// Forgets streams that were not used for long, and gives those up whose daemons were out of reach for long.
    pub(super) fn sweep_forwards(&mut self, now: Now) {
        self.forwards.remove_all(|way| way.at + MARKS_KEPT <= now.instant);
        let Self { forwards, peers, .. } = self;
        for way in forwards.streams.values_mut() {
            let since = way.silent_since.unwrap_or(now.instant);
            way.silent_since = (!peers.is_up(way.to)).then_some(since);
        }
        let silent = |way: &Forwarded| way.silent_since.is_some_and(|since| since + PATIENCE <= now.instant);
        for (id, way) in self.forwards.which(|_, way| silent(way)) {
            self.end_forward(&id, way);
            self.forwards.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{Incarnation, Lineage};
    use crate::wire::events::Opening;

    const TO: NodeId = NodeId::new(2);

    fn named(sender: NodeId, entity: u64, opening: u64) -> StreamId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&entity.to_le_bytes());
        StreamId {
            sender,
            incarnation: Incarnation::from_bytes([1; 16]),
            entity: EntityId::from_bytes(bytes),
            lineage: Lineage::from_bytes([3; 16]),
            opening: Opening::new(opening, 0),
        }
    }

    /// How long it takes some more streams to go through where those to so many daemons do.
    fn some_more(others: u64) -> Duration {
        let now = Instant::now();
        let mut forwards = Forwards::default();
        for entity in 0..others {
            assert!(forwards.admit(&named(NodeId::new(1), entity, 1), NodeId::new(1), TO, now));
        }
        let began = Instant::now();
        for entity in others..others + 50 {
            for opening in [1, 2] {
                assert!(forwards.admit(&named(NodeId::new(1), entity, opening), NodeId::new(1), TO, now));
            }
            for sender in 10..10 + MOST_OF_OTHERS as u64 {
                assert!(forwards.admit(&named(NodeId::new(sender), entity, 1), TO, TO, now));
            }
            assert!(!forwards.admit(&named(NodeId::new(99), entity, 1), TO, TO, now), "too many");
        }
        let took = began.elapsed();
        assert_eq!(forwards.len() as u64, others + 50 * (1 + MOST_OF_OTHERS as u64), "the older ones are over");
        forwards.remove_all(|_| true);
        assert!(forwards.streams.is_empty() && forwards.alike.is_empty());
        took
    }

    #[test]
    fn a_stream_is_admitted_as_fast_however_many_go_through() {
        let shortest = |others| (0..5).map(|_| some_more(others)).min().unwrap_or_default().as_secs_f64();
        let ratio = shortest(20_000) / shortest(200);
        assert!(ratio < 20.0, "it takes {ratio:.1} times longer");
    }
}
