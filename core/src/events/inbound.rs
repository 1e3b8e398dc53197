//! The host's end: marks, reordering, kept replies.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use foldhash::fast::RandomState;
use minicbor::{Decode, Encode};
use tokio::time::Instant;

use super::held_bytes::{Charge, HeldBytes};
use super::items::{Held, KeptReply};
use super::{KEPT_REPLY_BYTES, WINDOW, WINDOW_BYTES};
use crate::identity::NodeId;
use crate::wire::codec::{self, DecodeError};
use crate::wire::events::{Failure, Reply, StreamId, decode_number};

/// Most streams to one daemon that one node begins: its own, and those that it forwards for others.
pub const MOST_STREAMS: usize = 256;

/// The peer sent more than the window of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeyondWindow;

/// One stream that leads to a daemon.
#[derive(Debug)]
pub struct InStream {
    /// Which one.
    pub id: StreamId,
    /// The peer that its last message came through; the way back when the sender has no session here.
    pub via: NodeId,
    next: u64,
    // What is due next is in front.
    early: VecDeque<Option<Held>>,
    early_bytes: usize,
    kept: VecDeque<KeptReply>,
    kept_bytes: usize,
    sent: usize,
    told: u64,
    /// When the sender was heard last.
    pub heard_at: Instant,
    /// The node that began it here; none when it was begun elsewhere.
    opener: Option<NodeId>,
    /// Whether it stands in the list of streams with something to answer.
    pub queued: bool,
    /// What of `early_bytes` was charged to a peer.
    charge: Charge,
    charged_to: Option<NodeId>,
    /// The first position that was dropped for want of room, and its bytes.
    lacking: Option<(u64, usize)>,
}

/// The streams that lead to one daemon.
#[derive(Debug, Default)]
pub struct Inbound {
    // Keys are not used again: events in the mailbox hold them.
    streams: BTreeMap<u32, InStream>,
    index: HashMap<StreamId, u32, RandomState>,
    last: u32,
}

impl Inbound {
    /// No streams; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// The number under which a stream is held.
    pub fn find(&self, id: &StreamId) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// A held stream.
    pub fn get(&self, key: u32) -> Option<&InStream> {
        self.streams.get(&key)
    }

    /// A held stream.
    pub fn get_mut(&mut self, key: u32) -> Option<&mut InStream> {
        self.streams.get_mut(&key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &InStream)> {
        self.streams.iter().map(|(key, stream)| (*key, stream))
    }

    /// Begins a stream that is not known, unless the node through which it comes began too many.
    pub fn begin(&mut self, id: StreamId, via: NodeId, now: Instant) -> Option<u32> {
        let begun = self.streams.values().filter(|stream| stream.opener == Some(via)).count();
        let stream = InStream { opener: Some(via), ..InStream::new(id, via, 1, now) };
        (begun < MOST_STREAMS).then(|| self.insert(stream))
    }

    /// Whether its sender, in its own name, began one here that follows it.
    pub fn is_over(&self, id: &StreamId) -> bool {
        self.streams
            .values()
            .any(|newer| newer.opener == Some(id.sender) && newer.id.sender == id.sender && newer.id.follows(id))
    }

    /// Ends the streams of a sender that this one follows: all of them when it comes from the sender itself, else those
    /// that came the same way.
    pub fn end_older(&mut self, id: &StreamId, via: NodeId) {
        self.retain(|old| old.id.sender != id.sender || !id.follows(&old.id) || (via != id.sender && via != old.via));
    }

    fn insert(&mut self, stream: InStream) -> u32 {
        let id = stream.id;
        self.last = self.last.wrapping_add(1);
        self.streams.insert(self.last, stream);
        self.index.insert(id, self.last);
        self.last
    }

    /// Finds a stream or makes its mark, for one that was begun elsewhere.
    pub fn take_over(&mut self, id: StreamId, via: NodeId, now: Instant) -> u32 {
        self.find(&id).unwrap_or_else(|| self.insert(InStream::new(id, via, 1, now)))
    }

    /// Ends a stream.
    pub fn close(&mut self, id: &StreamId) {
        if let Some(key) = self.index.remove(id) {
            self.streams.remove(&key);
        }
    }

    /// Keeps the streams that `keep` admits.
    pub fn retain(&mut self, mut keep: impl FnMut(&InStream) -> bool) {
        let index = &mut self.index;
        self.streams.retain(|_, stream| {
            let stays = keep(stream);
            if !stays {
                index.remove(&stream.id);
            }
            stays
        });
    }

    /// Encodes marks and kept replies, for a snapshot that moves. Nothing for no streams.
    pub fn encode(&self) -> Vec<u8> {
        if self.streams.is_empty() {
            return Vec::new();
        }
        let mut saved: Vec<_> = self.streams.values().collect();
        saved.sort_unstable_by_key(|stream| (stream.id.sender, stream.id.incarnation, stream.id.opening));
        let saved: Vec<SavedStream<'_>> = saved
            .into_iter()
            .map(|stream| SavedStream {
                id: stream.id,
                next: stream.next,
                replies: stream.kept.iter().map(KeptReply::as_wire).collect(),
            })
            .collect();
        codec::encode(&saved)
    }

    /// Reads what [`encode`](Self::encode) wrote; payloads are slices of `bytes`.
    pub fn decode(bytes: &Bytes, via: NodeId, now: Instant) -> Result<Self, DecodeError> {
        let mut inbound = Self::new();
        if bytes.is_empty() {
            return Ok(inbound);
        }
        let saved: Vec<SavedStream<'_>> = codec::decode(bytes)?;
        for stream in saved {
            if stream.next == 0 {
                return Err(DecodeError::Malformed("a stream that begins before 1".into()));
            }
            let mut restored = InStream::new(stream.id, via, stream.next, now);
            for reply in stream.replies {
                restored.keep(KeptReply::from_wire(&reply, bytes));
            }
            if inbound.find(&stream.id).is_some() {
                return Err(DecodeError::Malformed("a stream stands there twice".into()));
            }
            inbound.insert(restored);
        }
        Ok(inbound)
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct SavedStream<'b> {
    #[n(0)]
    id: StreamId,
    #[cbor(n(1), decode_with = "decode_number")]
    next: u64,
    #[b(2)]
    replies: Vec<Reply<'b>>,
}

impl InStream {
    fn new(id: StreamId, via: NodeId, next: u64, now: Instant) -> Self {
        Self {
            id,
            via,
            next,
            early: VecDeque::new(),
            early_bytes: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            sent: 0,
            told: next - 1,
            heard_at: now,
            opener: None,
            queued: false,
            charge: Charge::default(),
            charged_to: None,
            lacking: None,
        }
    }

    /// Its sender spoke through this peer. False when [`comes_through`](Self::comes_through) has to follow.
    pub fn heard(&mut self, via: NodeId, now: Instant) -> bool {
        self.heard_at = now;
        self.charged_to == Some(via)
    }

    /// What it holds is charged to this peer from here on, and answers go back there.
    pub fn comes_through(&mut self, via: NodeId, account: HeldBytes) {
        self.via = via;
        self.charged_to = Some(via);
        self.charge.transfer(account);
    }

    /// Whether its peer may have held what it now does. The position that is too much is dropped, and lacking from then on.
    pub fn keeps(&mut self, number: u64) -> bool {
        if self.early_bytes == self.charge.bytes() || self.charge.set(self.early_bytes) {
            return true;
        }
        let place = number.checked_sub(self.next).and_then(|ahead| usize::try_from(ahead).ok());
        if let Some(held) = place.and_then(|place| self.early.get_mut(place)).and_then(Option::take) {
            self.early_bytes -= held.weight();
            if self.lacking.is_none_or(|(first, _)| first < self.next || number < first) {
                self.lacking = Some((number, held.weight()));
            }
        }
        while matches!(self.early.back(), Some(None)) {
            self.early.pop_back();
        }
        false
    }

    /// The bytes of the position that is due, when it was dropped for want of room and could be accepted but for that.
    pub fn lacks(&self) -> Option<usize> {
        let (_, bytes) = self.lacking.filter(|(number, _)| *number == self.next)?;
        (self.kept_bytes < KEPT_REPLY_BYTES && self.ready().is_none()).then_some(bytes)
    }

    /// Its sender is asked to send again what is lacking.
    pub fn asked(&mut self) {
        self.lacking = None;
    }

    /// The number that is due next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes a position in. Repetitions are dropped.
    pub fn offer(&mut self, number: u64, held: Held) -> Result<(), BeyondWindow> {
        let Some(ahead) = number.checked_sub(self.next) else { return Ok(()) };
        if ahead >= 2 * WINDOW {
            return Err(BeyondWindow);
        }
        let place = usize::try_from(ahead).unwrap_or(usize::MAX);
        if self.early.get(place).is_some_and(Option::is_some) {
            return Ok(());
        }
        let weight = held.weight();
        // A single large event beyond the window's bytes is taken when it is alone; the sender keeps to the same rule.
        let too_many_bytes = self.early_bytes + weight > 2 * WINDOW_BYTES && self.early_bytes > 0 && weight > 0;
        if too_many_bytes && number != self.next {
            return Err(BeyondWindow);
        }
        self.early_bytes += weight;
        if self.early.len() <= place {
            self.early.resize_with(place + 1, || None);
        }
        self.early[place] = Some(held);
        Ok(())
    }

    /// Accepts a number without storing what stands at it, when it is due, nothing is held behind it, and there is room to
    /// keep its reply; false otherwise.
    pub fn pass(&mut self, number: u64) -> bool {
        let due = number == self.next && self.early.is_empty() && self.kept_bytes < KEPT_REPLY_BYTES;
        self.next += u64::from(due);
        due
    }

    /// Its sender gave up the event at a number that was not accepted: it will not run. False when it is not held here.
    pub fn give_up(&mut self, number: u64) -> bool {
        let place = number.checked_sub(self.next).and_then(|ahead| usize::try_from(ahead).ok());
        let Some(Some(held)) = place.and_then(|place| self.early.get_mut(place)) else { return false };
        self.early_bytes -= held.weight();
        *held = Held::Skip;
        self.charge.set(self.early_bytes.min(self.charge.bytes()));
        true
    }

    /// The position that is due, when it is here and there is room to keep its reply.
    pub fn ready(&self) -> Option<&Held> {
        if self.kept_bytes >= KEPT_REPLY_BYTES {
            return None;
        }
        self.early.front()?.as_ref()
    }

    /// Accepts the position that is due.
    pub fn accept(&mut self) -> Option<(u64, Held)> {
        let number = self.next;
        let held = self.early.front_mut()?.take()?;
        self.early.pop_front();
        self.early_bytes -= held.weight();
        self.next += 1;
        if self.early_bytes < self.charge.bytes() {
            self.charge.set(self.early_bytes);
        }
        if self.early.is_empty() && self.early.capacity() > 64 {
            // An idle stream keeps no memory of a past flood.
            self.early = VecDeque::new();
        }
        Some((number, held))
    }

    /// Sets the mark behind what was accepted elsewhere and handed over. Numbers in between were given up. False when it
    /// stands there already.
    pub fn advance(&mut self, next: u64) -> bool {
        if next <= self.next {
            return false;
        }
        let passed = usize::try_from(next - self.next).unwrap_or(usize::MAX).min(self.early.len());
        let freed: usize = self.early.drain(..passed).flatten().map(|held| held.weight()).sum();
        self.early_bytes -= freed;
        self.charge.set(self.early_bytes.min(self.charge.bytes()));
        self.next = next;
        self.told = self.told.max(next - 1);
        true
    }

    /// Forgets what was held and not accepted; the sender repeats it where the daemon lives now.
    pub fn drop_early(&mut self) {
        self.early.clear();
        self.early_bytes = 0;
        self.charge.set(0);
        self.lacking = None;
    }

    /// Whether it holds events that were not accepted.
    pub fn holds_early(&self) -> bool {
        !self.early.is_empty()
    }

    /// Keeps a reply until the sender has it.
    pub fn keep(&mut self, reply: KeptReply) {
        self.kept_bytes += reply.weight();
        self.kept.push_back(reply);
    }

    /// The sender has every reply through this number.
    pub fn acknowledge(&mut self, through: u64) {
        let mut sent = self.sent;
        let mut index = 0;
        let (bytes, kept) = (&mut self.kept_bytes, &mut self.kept);
        kept.retain(|reply| {
            let stays = reply.number > through;
            if !stays {
                *bytes -= reply.weight();
                if index < self.sent {
                    sent -= 1;
                }
            }
            index += 1;
            stays
        });
        self.sent = sent;
    }

    /// Sends every kept reply, and the mark, again.
    pub fn repeat(&mut self) {
        self.sent = 0;
        self.told = 0;
    }

    /// Replies that were not sent yet.
    pub fn unsent(&self) -> impl Iterator<Item = &KeptReply> {
        self.kept.iter().skip(self.sent)
    }

    /// Puts a failure in the place of the next unsent reply.
    pub fn replace_next(&mut self, failure: Failure) {
        if let Some(reply) = self.kept.get_mut(self.sent) {
            self.kept_bytes -= reply.weight();
            reply.result = Err(failure);
            self.kept_bytes += reply.weight();
        }
    }

    /// Marks the first `count` unsent replies, and acceptance through the mark, as told.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.kept.len());
        self.told = self.accepted();
    }

    /// The last accepted number.
    pub fn accepted(&self) -> u64 {
        self.next - 1
    }

    /// How many accepted positions the sender has not been told of.
    pub fn untold(&self) -> u64 {
        self.accepted().saturating_sub(self.told)
    }

    /// Bytes of events that wait for one before them, or for room.
    pub fn held_bytes(&self) -> usize {
        self.early_bytes
    }

    /// Bytes held for this stream.
    pub fn bytes(&self) -> usize {
        self.early_bytes + self.kept_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
    use crate::identity::{EntityId, Incarnation, Lineage, OriginHash};
    use crate::wire::events::Opening;

    fn stream() -> InStream {
        let id = StreamId {
            sender: NodeId::new(1),
            incarnation: Incarnation::from_bytes([1; 16]),
            entity: EntityId::from_bytes([2; 32]),
            lineage: Lineage::from_bytes([3; 16]),
            opening: Opening::new(1, 2),
        };
        InStream::new(id, NodeId::new(1), 1, Instant::now())
    }

    fn event(number: u64, size: usize) -> Held {
        let link = CausalLink {
            origin: OriginHash::new(1),
            horizon: HorizonBloom::default(),
            sequence: Sequence::new(number),
            parent_hash: ParentHash::default(),
        };
        Held::Event { link, payload: Bytes::from(vec![0; size]), call: true }
    }

    fn drain(stream: &mut InStream) -> Vec<u64> {
        std::iter::from_fn(|| {
            stream.ready()?;
            let (number, held) = stream.accept()?;
            if let Held::Event { link, .. } = held {
                assert_eq!(link.sequence.get(), number);
            }
            Some(number)
        })
        .collect()
    }

    #[test]
    fn hazard_reordered_and_repeated_positions_are_accepted_once_and_in_order() {
        let mut stream = stream();
        let mut accepted = Vec::new();
        for number in [3, 1, 1, 2, 3, 7, 5, 4, 5, 2, 6, 8] {
            stream.offer(number, event(number, 10)).expect("within the window");
            accepted.extend(drain(&mut stream));
        }
        assert_eq!(accepted, (1..=8).collect::<Vec<_>>());
        assert_eq!(stream.bytes(), 0);
    }

    #[test]
    fn requirement_bounds_what_is_beyond_the_window_is_refused() {
        let mut stream = stream();
        assert_eq!(stream.offer(1 + 2 * WINDOW, event(1, 1)), Err(BeyondWindow));
        assert_eq!(stream.offer(u64::MAX, event(1, 1)), Err(BeyondWindow));
        stream.offer(2 * WINDOW, event(2 * WINDOW, 1)).expect("the last of the window");
        stream.offer(2, event(2, 2 * WINDOW_BYTES)).expect_err("more bytes than the window has");
        stream.offer(1, event(1, 2 * WINDOW_BYTES)).expect("what is due is taken");
        assert_eq!(drain(&mut stream), [1]);
    }

    #[test]
    fn what_is_given_up_before_it_is_accepted_is_passed_over_and_frees_its_bytes() {
        let mut stream = stream();
        for number in [2, 3, 5] {
            stream.offer(number, event(number, 100)).expect("within the window");
        }
        assert!(stream.give_up(3));
        assert!(!stream.give_up(1) && !stream.give_up(4) && !stream.give_up(9), "not held");
        assert_eq!(stream.bytes(), 200);
        stream.offer(3, event(3, 100)).expect("a repetition of what was given up");
        stream.offer(1, event(1, 100)).expect("due");
        let mut accepted = Vec::new();
        while stream.ready().is_some() {
            let (number, held) = stream.accept().expect("ready");
            if let Held::Event { .. } = held {
                accepted.push(number);
            }
        }
        assert_eq!((accepted, stream.next(), stream.bytes()), (vec![1, 2], 4, 100));
        assert!(!stream.give_up(3), "accepted");
    }

    #[test]
    fn a_mark_set_elsewhere_passes_what_was_held_and_keeps_the_rest() {
        let mut stream = stream();
        for number in [2, 4, 6] {
            stream.offer(number, event(number, 100)).expect("within the window");
        }
        assert!(stream.advance(4));
        assert_eq!(stream.bytes(), 200);
        assert_eq!(drain(&mut stream), [4]);
        assert!(stream.advance(20), "beyond all that is held");
        assert_eq!((stream.next(), stream.bytes()), (20, 0));
        stream.offer(20, event(20, 1)).expect("due");
        assert_eq!(drain(&mut stream), [20]);
    }
}
