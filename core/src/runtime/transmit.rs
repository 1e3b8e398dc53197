//! What goes out: records are encoded when a frame is about to be sent, so that many share it.

use bytes::Bytes;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::peers::{BulkMessage, BulkTurn, Peer, Turn};
use super::recovery::peer_lost;
use super::replies::failure;
use crate::events::{self, InStream, Inbound, MOST_OUTPUTS, OutStream, Word};
use crate::identity::{NodeId, OriginHash};
use crate::mesh::{Record, RecordSink};
use crate::wire::codec;
use crate::wire::events::{BATCH_OVERHEAD, EventsMessage, FailureKind, ITEM_OVERHEAD};
use crate::wire::{Lane, Subprotocol};

/// A message beyond this goes through the bulk lane in fragments: it would keep others waiting in the fast one.
const LARGE: usize = events::LARGE;
/// A fragment's own bytes, beside the piece of the message.
const FRAGMENT_HEADER: usize = 8;
/// The first fragment of a message begins with its length, and above this bit with the id of its subprotocol.
const SUBPROTOCOL_SHIFT: u32 = 48;
/// Room that a fragment or a chunk must find to be worth a record.
const WORTHWHILE: usize = 4 * 1024;
/// A message of streams is at most this much longer than the largest payload: one of very many outputs is not sent.
pub(super) const MESSAGE_OVERHEAD: u64 = 1024 * 1024;

impl Engine {
    /// Enters a message of any size.
    pub(super) fn send_any_size(&mut self, to: NodeId, subprotocol: Subprotocol, body: Vec<u8>) {
        if to == self.me() || body.len() <= LARGE {
            self.send(to, subprotocol, body);
        } else if let Some(peer) = self.peers.up(to) {
            peer.push_bulk(BulkMessage::new(subprotocol, body));
            self.wakes.insert(to);
        }
    }

    /// Writes what waits for a peer; whether more is waiting.
    pub fn fill(&mut self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink, now: Now) -> bool {
        let more = match lane {
            Lane::Fast => self.fill_fast(to, sink),
            Lane::Bulk => self.fill_bulk(to, sink, now),
        };
        if self.peers.up(to).is_some_and(|peer| peer.congested && peer.takes_again()) {
            self.ask_again_through(to);
        }
        more
    }

    fn fill_fast(&mut self, to: NodeId, sink: &mut dyn RecordSink) -> bool {
        while let Some(peer) = self.peers.up(to) {
            let Some((subprotocol, body)) = peer.control.front() else { break };
            if sink.record(*subprotocol, &mut |out| out.extend_from_slice(body)).is_none() {
                return true;
            }
            peer.pop_control();
        }
        loop {
            let room = sink.room();
            let filled = match self.peers.up(to).and_then(Peer::turn) {
                None => return false,
                Some(Turn::Answers) => self.fill_first_answer(to, sink),
                Some(Turn::Events) => self.fill_first_stream(to, sink),
                Some(Turn::Passing) => self.fill_first_passing(to, sink),
            };
            if let Some(peer) = self.peers.up(to) {
                peer.wrote(room.saturating_sub(sink.room()));
            }
            if matches!(filled, Filled::NoRoom) {
                return true;
            }
        }
    }

    /// Writes a message of the stream to a peer whose turn it is.
    fn fill_first_stream(&mut self, to: NodeId, sink: &mut dyn RecordSink) -> Filled {
        let Some(origin) = self.peers.up(to).and_then(|peer| peer.out.first()) else { return Filled::Nothing };
        let filled = self.fill_stream(origin, to, sink);
        if let Some(peer) = self.peers.up(to) {
            match filled {
                Filled::Nothing => {
                    peer.out.pop();
                }
                Filled::PutOff => peer.put_off_out(),
                Filled::More | Filled::NoRoom | Filled::Large(_) => {}
            }
        }
        filled
    }

    /// Writes an answer of the stream from a peer whose turn it is.
    fn fill_first_answer(&mut self, to: NodeId, sink: &mut dyn RecordSink) -> Filled {
        let Some(peer) = self.peers.up(to) else { return Filled::Nothing };
        let Some((key, stream)) = peer.answers.first() else { return Filled::Nothing };
        let (limit, takes_large) = (peer.identity.max_payload, peer.takes_large());
        let held = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream));
        let filled = held.map_or(Filled::Nothing, |held| fill_answers(held, limit, takes_large, sink));
        let Some(peer) = self.peers.up(to) else { return filled };
        match filled {
            Filled::Nothing => {
                peer.answers.pop();
                if let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) {
                    held.queued = false;
                }
            }
            Filled::PutOff => peer.put_off_answer(),
            Filled::Large(body) => {
                // Then the rest of the stream.
                peer.push_bulk(BulkMessage::new(Subprotocol::Events, body));
                return Filled::More;
            }
            Filled::More | Filled::NoRoom => {}
        }
        filled
    }

    /// Writes the first small message of another node.
    fn fill_first_passing(&mut self, to: NodeId, sink: &mut dyn RecordSink) -> Filled {
        let Some(peer) = self.peers.up(to) else { return Filled::Nothing };
        let Some(body) = peer.first_passing() else { return Filled::Nothing };
        if sink.record(Subprotocol::Events, &mut |out| out.extend_from_slice(body)).is_none() {
            return Filled::NoRoom;
        }
        peer.pop_passing();
        Filled::More
    }

    /// Enters a message of another node, on its way through this one; false when there is no room for it.
    pub(super) fn pass_on(&mut self, to: NodeId, body: Vec<u8>) -> bool {
        let Some(peer) = self.peers.up(to) else { return false };
        let entered = if body.len() <= LARGE {
            peer.push_small_passing(body)
        } else {
            peer.push_passing(Subprotocol::Events, body)
        };
        peer.congested |= !entered;
        self.wakes.insert(to);
        entered
    }

    /// Writes a message of what a stream has to send.
    fn fill_stream(&mut self, origin: OriginHash, to: NodeId, sink: &mut dyn RecordSink) -> Filled {
        self.give_up_longer(origin, to);
        let takes_large = self.peers.get(to).is_some_and(Peer::takes_large);
        let Some(route) = self.routes.get_mut(&origin) else { return Filled::Nothing };
        let Some(stream) = route.stream.as_mut().filter(|stream| stream.host == to) else {
            return Filled::Nothing;
        };
        match fill_batch(stream, takes_large, sink) {
            Filled::Nothing => {
                route.queued = false;
                Filled::Nothing
            }
            Filled::Large(body) => {
                if let Some(peer) = self.peers.up(to) {
                    peer.push_bulk(BulkMessage::new(Subprotocol::Events, body));
                }
                Filled::More
            }
            filled @ (Filled::More | Filled::NoRoom | Filled::PutOff) => filled,
        }
    }

    /// Gives up what the host of a stream would not take.
    fn give_up_longer(&mut self, origin: OriginHash, to: NodeId) {
        let Some(max) = self.peers.get(to).map(|peer| peer.identity.max_payload) else { return };
        let stream = self.routes.get_mut(&origin).and_then(|route| route.stream.as_mut());
        let Some(stream) = stream.filter(|stream| stream.host == to) else { return };
        for (ticket, size, maybe) in stream.give_up_longer(max) {
            let error = if maybe { peer_lost(origin, true) } else { RuntimeError::PayloadTooLarge { size, max } };
            self.settle(ticket, Err(error));
        }
    }

    fn fill_bulk(&mut self, to: NodeId, sink: &mut dyn RecordSink, now: Now) -> bool {
        let room = sink.room();
        let Some(peer) = self.peers.up(to) else { return false };
        if room < WORTHWHILE {
            return peer.has_bulk();
        }
        match peer.bulk_turn() {
            BulkTurn::Messages => {
                self.fill_fragment(to, sink);
                if sink.room() >= WORTHWHILE {
                    self.fill_transfers(to, sink, now);
                }
            }
            BulkTurn::States => {
                self.fill_transfers(to, sink, now);
                let had_it = sink.room() < room;
                self.fill_fragment(to, sink);
                if !had_it && self.peers.up(to).is_some_and(|peer| !peer.transfers.is_empty()) {
                    // Somebody else began this frame, and left no room for a chunk.
                    return true;
                }
            }
        }
        let Some(peer) = self.peers.up(to) else { return false };
        if sink.room() < room {
            peer.had_bulk_turn();
        }
        peer.has_bulk()
    }

    /// Writes a piece of the first large message for a peer.
    fn fill_fragment(&mut self, to: NodeId, sink: &mut dyn RecordSink) {
        let room = sink.room();
        let Some(peer) = self.peers.up(to).filter(|_| room >= WORTHWHILE) else { return };
        let Some(message) = peer.first_bulk() else { return };
        let end = message.body.len().min(message.sent + room - FRAGMENT_HEADER);
        let piece = message.body.slice(message.sent..end);
        // Zero announces a further piece: no message is empty.
        let total = match message.sent {
            0 => u64::from(message.subprotocol.id()) << SUBPROTOCOL_SHIFT | message.body.len() as u64,
            _ => 0,
        };
        let written = sink.record(Subprotocol::Events, &mut |out| {
            out.extend_from_slice(&total.to_le_bytes());
            out.extend_from_slice(&piece);
        });
        if written.is_some() {
            message.sent = end;
            if message.sent == message.body.len() {
                peer.pop_bulk();
                if peer.has_fast() {
                    self.wakes.insert(to);
                }
            }
        }
    }

    /// Records of one frame.
    pub fn records(&mut self, from: NodeId, lane: Lane, records: &mut Vec<Record>, now: Now) {
        for record in records.drain(..) {
            match (record.subprotocol, lane) {
                (Subprotocol::Events, Lane::Bulk) => self.on_fragment(from, &record.body, now),
                (_, Lane::Fast | Lane::Bulk) => self.on_record(from, &record, now),
            }
        }
        self.settle_own(now);
    }

    fn on_record(&mut self, from: NodeId, record: &Record, now: Now) {
        match record.subprotocol {
            Subprotocol::Events => self.on_events(from, &record.body, now),
            Subprotocol::Directory => self.on_directory(from, &record.body, now),
            Subprotocol::Migration => self.on_migration(from, &record.body, now),
            Subprotocol::Session
            | Subprotocol::Membership
            | Subprotocol::Relay
            | Subprotocol::Groups
            | Subprotocol::Channels
            | Subprotocol::Capabilities => self.refuse(from, "record", &"no such subprotocol here"),
        }
    }

    fn on_fragment(&mut self, from: NodeId, body: &Bytes, now: Now) {
        let limit = self.options.max_payload.saturating_add(MESSAGE_OVERHEAD);
        let Some((header, piece)) = body.split_first_chunk::<FRAGMENT_HEADER>() else {
            return self.refuse(from, "fragment", &"too short");
        };
        let header = u64::from_le_bytes(*header);
        let total = header & ((1 << SUBPROTOCOL_SHIFT) - 1);
        let subprotocol = u16::try_from(header >> SUBPROTOCOL_SHIFT).ok().and_then(Subprotocol::from_id);
        let Some(peer) = self.peers.get_mut(from) else { return };
        let assembly = match (&mut peer.assembly, subprotocol) {
            (Some(assembly), None) if header == 0 => assembly,
            // One that was not finished gives way: its sender has begun anew.
            (slot, Some(subprotocol)) if total > 0 && total <= limit => {
                // The length is only a hint until bytes arrive: memory grows with them.
                slot.insert(super::peers::Assembly { subprotocol, total, bytes: Vec::new() })
            }
            _ => {
                peer.assembly = None;
                return self.refuse(from, "fragment", &"out of order, or too large");
            }
        };
        assembly.bytes.extend_from_slice(piece);
        match (assembly.bytes.len() as u64).cmp(&assembly.total) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                if let Some(assembly) = peer.assembly.take() {
                    let body = Bytes::from(assembly.bytes);
                    let record = Record { subprotocol: assembly.subprotocol, body };
                    self.on_record(from, &record, now);
                }
            }
            std::cmp::Ordering::Greater => {
                peer.assembly = None;
                self.refuse(from, "fragment", &"longer than announced");
            }
        }
    }

    /// The streams end with the daemon, so what they still hold is said at once, in messages that may be read. Small replies go
    /// before whatever is said of their streams next.
    pub(super) fn say_last_replies(&mut self, ended: &mut Inbound) {
        let me = self.me();
        for held in ended.iter_mut() {
            let to = self.way_back(held.id.sender, held.via);
            let limit = self.peers.get(to).map_or(u64::MAX, |peer| peer.identity.max_payload);
            let mut sink = OwnSink { room: LARGE + BATCH_OVERHEAD, records: Vec::new() };
            loop {
                match fill_answers(held, limit, true, &mut sink) {
                    Filled::More => {}
                    Filled::Large(body) => sink.records.push((Subprotocol::Events, body.into())),
                    Filled::Nothing | Filled::NoRoom | Filled::PutOff => break,
                }
            }
            if to == me {
                self.own.extend(sink.records);
            } else if let Some(peer) = self.peers.up(to) {
                for (subprotocol, body) in sink.records {
                    let large = if body.len() > LARGE + BATCH_OVERHEAD {
                        Some(body)
                    } else {
                        peer.push_control(subprotocol, body).err()
                    };
                    if let Some(body) = large {
                        peer.push_bulk(BulkMessage::new(subprotocol, body));
                    }
                }
                self.wakes.insert(to);
            }
        }
    }

    /// Carries out what this node has to say to itself, with the same handlers as for others.
    pub(super) fn settle_own(&mut self, now: Now) {
        let me = self.me();
        loop {
            if let Some((subprotocol, body)) = self.own.pop_front() {
                self.on_record(me, &Record { subprotocol, body: body.into() }, now);
            } else if let Some(origin) = self.own_streams.pop() {
                let mut sink = OwnSink::new();
                while matches!(self.fill_stream(origin, me, &mut sink), Filled::More) {}
                self.own.extend(sink.records);
            } else if let Some((key, stream)) = self.own_answers.pop() {
                let mut sink = OwnSink::new();
                if let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) {
                    while matches!(fill_answers(held, u64::MAX, true, &mut sink), Filled::More) {}
                }
                self.own.extend(sink.records);
            } else {
                return self.make_up_for_lost(now);
            }
        }
    }
}

enum Filled {
    /// There is nothing more.
    Nothing,
    /// There may be more.
    More,
    /// There is more, and the sink is full.
    NoRoom,
    /// There is more, behind a message that is too large for a record.
    Large(Bytes),
    /// There is more, behind one that is too large for a record, and too many such messages wait.
    PutOff,
}

fn fill_batch(stream: &mut OutStream, takes_large: bool, sink: &mut dyn RecordSink) -> Filled {
    let limit = sink.room();
    if stream.has_unsent() {
        let large = limit < usize::MAX && stream.next_len().is_some_and(|len| len > LARGE);
        if large && !takes_large {
            return Filled::PutOff;
        }
        let room = if large { usize::MAX } else { sink.room() };
        let (first, mut items) = stream.batch(room);
        if large {
            items.truncate(1);
            // What follows may overtake it in the other lane, and must find the stream begun.
            if stream.is_accepted_through(first - 1) {
                let opening = EventsMessage::Batch {
                    stream: stream.id,
                    epoch: stream.epoch,
                    hops: 0,
                    first,
                    items: Vec::new(),
                    replies_through: stream.replies_through(),
                };
                if sink.record(Subprotocol::Events, &mut |out| codec::encode_into(&opening, out)).is_none() {
                    return Filled::NoRoom;
                }
            }
        }
        if items.is_empty() {
            return Filled::NoRoom;
        }
        let count = items.len() as u64;
        let message = EventsMessage::Batch {
            stream: stream.id,
            epoch: stream.epoch,
            hops: 0,
            first,
            items,
            replies_through: stream.replies_through(),
        };
        if large {
            let body = Bytes::from(codec::encode(&message));
            stream.sent_apart();
            return Filled::Large(body);
        }
        if sink.record(Subprotocol::Events, &mut |out| codec::encode_into(&message, out)).is_none() {
            return Filled::NoRoom;
        }
        stream.sent(count);
        stream.told_replies();
        return Filled::More;
    }
    if stream.word != Word::Nothing || stream.untold_replies() > 0 {
        let message = EventsMessage::Await {
            stream: stream.id,
            epoch: stream.epoch,
            hops: 0,
            replies_through: stream.replies_through(),
            repeat: stream.word == Word::Repeat,
        };
        if sink.record(Subprotocol::Events, &mut |out| codec::encode_into(&message, out)).is_none() {
            return Filled::NoRoom;
        }
        stream.told_replies();
        stream.word = Word::Nothing;
    }
    Filled::Nothing
}

/// `limit` is the largest payload that the sender takes.
fn fill_answers(held: &mut InStream, limit: u64, takes_large: bool, sink: &mut dyn RecordSink) -> Filled {
    loop {
        let mut left = sink.room().saturating_sub(BATCH_OVERHEAD);
        let unlimited = sink.room() == usize::MAX;
        let mut replies = Vec::new();
        let mut large = false;
        let mut too_large = None;
        let mut outputs = 0;
        for reply in held.unsent() {
            let size = reply.payload_len();
            if size as u64 > limit {
                too_large = Some(size);
                break;
            }
            let need = reply.weight() + ITEM_OVERHEAD;
            if !unlimited && need > LARGE {
                // Alone, so that what stands before it need not wait for it.
                if replies.is_empty() {
                    if !takes_large {
                        return Filled::PutOff;
                    }
                    large = true;
                    replies.push(reply.as_wire());
                }
                break;
            }
            outputs += reply.outputs();
            if need > left || replies.len() >= 1024 || (outputs > MOST_OUTPUTS && !replies.is_empty()) {
                break;
            }
            left -= need;
            replies.push(reply.as_wire());
        }
        if replies.is_empty()
            && let Some(size) = too_large
        {
            let message = format!("an output of {size} bytes is larger than the caller's limit of {limit}");
            held.replace_next(failure(FailureKind::PayloadTooLarge, &message));
            continue;
        }
        if replies.is_empty() {
            if held.unsent().next().is_some() {
                return Filled::NoRoom;
            }
            if held.untold() == 0 {
                return Filled::Nothing;
            }
            let message = EventsMessage::Accepted { stream: held.id, through: held.accepted(), hops: 0 };
            if sink.record(Subprotocol::Events, &mut |out| codec::encode_into(&message, out)).is_none() {
                return Filled::NoRoom;
            }
            held.sent(0);
            return Filled::Nothing;
        }
        let count = replies.len();
        let message = EventsMessage::Replies { stream: held.id, through: held.accepted(), replies, hops: 0 };
        if large {
            let body = Bytes::from(codec::encode(&message));
            if body.len() as u64 > limit.saturating_add(MESSAGE_OVERHEAD) {
                let message = format!("the outputs take {} bytes, more than the caller's limit of {limit}", body.len());
                held.replace_next(failure(FailureKind::PayloadTooLarge, &message));
                continue;
            }
            held.sent(count);
            return Filled::Large(body);
        }
        if sink.record(Subprotocol::Events, &mut |out| codec::encode_into(&message, out)).is_none() {
            return Filled::NoRoom;
        }
        held.sent(count);
        return Filled::More;
    }
}

/// Records that go into no frame now; each has so much room.
struct OwnSink {
    room: usize,
    records: Vec<(Subprotocol, Vec<u8>)>,
}

impl OwnSink {
    /// For what a node sends itself.
    const fn new() -> Self {
        Self { room: usize::MAX, records: Vec::new() }
    }
}

impl RecordSink for OwnSink {
    fn room(&self) -> usize {
        self.room
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        let len = body.len();
        self.records.push((subprotocol, body));
        Some(len)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::causal::CausalLink;
    use crate::events::{KeptReply, OutputRecord};
    use crate::identity::{EntityId, Incarnation, Lineage};
    use crate::wire::events::{Opening, StreamId};

    #[test]
    fn a_node_tells_itself_no_more_outputs_at_once_than_it_would_read() {
        let sender = NodeId::new(1);
        let stream = StreamId {
            sender,
            incarnation: Incarnation::from_bytes([1; 16]),
            entity: EntityId::from_bytes([2; 32]),
            lineage: Lineage::from_bytes([3; 16]),
            opening: Opening::new(1, 2),
        };
        let mut inbound = Inbound::new();
        let key = inbound.begin(stream, sender, Instant::now()).expect("room");
        let held = inbound.get_mut(key).expect("begun");
        let output = OutputRecord { link: CausalLink::genesis(OriginHash::new(1)), payload: Bytes::new() };
        for number in 1..=3 {
            held.keep(KeptReply { number, result: Ok((0..MOST_OUTPUTS / 2).map(|_| output.clone()).collect()) });
        }
        let mut sink = OwnSink::new();
        while matches!(fill_answers(held, u64::MAX, true, &mut sink), Filled::More) {}
        let told = |body: &Vec<u8>| match codec::decode::<EventsMessage<'_>>(body).expect("it is read") {
            EventsMessage::Replies { replies, .. } => replies.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(sink.records.iter().map(|(_, body)| told(body)).collect::<Vec<_>>(), [2, 1]);
    }
}
