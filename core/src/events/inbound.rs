//! The host's ends of all streams that lead to one daemon: which there are, whose, and which follow which.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use foldhash::fast::RandomState;
use minicbor::decode::Error as CborError;
use minicbor::{Decoder, Encode};
use tokio::time::Instant;

use super::in_stream::InStream;
use super::items::KeptReply;
use crate::identity::{Incarnation, NodeId};
use crate::wire::codec::{self, DecodeError};
use crate::wire::events::{Opening, Reply, StreamId, decode_number};
use crate::wire::migration::MOST_HANDED_STREAMS;

/// Most streams to one daemon that one node begins: its own, and those that it forwards for others.
pub const MOST_STREAMS: usize = 256;

/// The streams that lead to one daemon.
#[derive(Debug, Default)]
pub struct Inbound {
    // Keys are not used again: events in the mailbox hold them.
    streams: BTreeMap<u32, InStream>,
    /// Where each of them is, those of a sender in the order in which it opened them.
    places: BTreeMap<Place, u32>,
    /// How many each node began here.
    begun: HashMap<NodeId, usize, RandomState>,
    last: u32,
}

/// A stream among those to one life of a daemon.
type Place = (NodeId, Incarnation, Opening);

const fn place(id: &StreamId) -> Place {
    (id.sender, id.incarnation, id.opening)
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
        let key = self.places.get(&place(id)).copied()?;
        self.streams.get(&key).is_some_and(|stream| stream.id == *id).then_some(key)
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

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut InStream> {
        self.streams.values_mut()
    }

    /// Begins a stream that is not known, unless the node through which it comes began too many.
    pub fn begin(&mut self, id: StreamId, via: NodeId, now: Instant) -> Option<u32> {
        let begun = self.begun.get(&via).copied().unwrap_or(0);
        (begun < MOST_STREAMS).then(|| self.insert(InStream::begun(id, via, now)))
    }

    /// Whether its sender, in its own name, began one here that follows it.
    pub fn is_over(&self, id: &StreamId) -> bool {
        self.places
            .range((Bound::Excluded(place(id)), Bound::Unbounded))
            .take_while(|((sender, ..), _)| *sender == id.sender)
            .any(|(_, key)| self.streams.get(key).is_some_and(|newer| newer.opener() == Some(id.sender)))
    }

    /// Ends the streams of a sender that this one follows: all of them when it comes from the sender itself, else those
    /// that came the same way.
    pub fn end_older(&mut self, id: &StreamId, via: NodeId) {
        let older = self.places.range(..place(id)).rev().take_while(|((sender, ..), _)| *sender == id.sender);
        let ended: Vec<u32> = older
            .map(|(_, key)| *key)
            .filter(|key| via == id.sender || self.streams.get(key).is_some_and(|old| old.via == via))
            .collect();
        for key in ended {
            self.remove(key);
        }
    }

    /// The first stream that the sender of this one opened before it and of which something is due: there may be one where
    /// another node speaks for the sender, which ends nothing that came another way.
    pub fn due_before(&self, key: u32) -> Option<u32> {
        let id = self.streams.get(&key)?.id;
        let earlier = self.places.range(..place(&id)).rev().take_while(|((sender, ..), _)| *sender == id.sender);
        let due = |key: &&u32| self.streams.get(*key).is_some_and(|stream| stream.ready().is_some());
        earlier.map(|(_, key)| key).filter(due).last().copied()
    }

    fn insert(&mut self, stream: InStream) -> u32 {
        self.last = self.last.wrapping_add(1);
        if let Some(opener) = stream.opener() {
            *self.begun.entry(opener).or_default() += 1;
        }
        // Its sender names no two streams alike; what somebody else made up does not stay beside a later one.
        if let Some(alike) = self.places.insert(place(&stream.id), self.last) {
            self.forget(alike);
        }
        self.streams.insert(self.last, stream);
        self.last
    }

    fn remove(&mut self, key: u32) {
        if let Some(id) = self.forget(key) {
            self.places.remove(&place(&id));
        }
    }

    /// Takes a stream out, but for its place.
    fn forget(&mut self, key: u32) -> Option<StreamId> {
        let stream = self.streams.remove(&key)?;
        if let Some(opener) = stream.opener() {
            match self.begun.get_mut(&opener) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) | None => {
                    self.begun.remove(&opener);
                }
            }
        }
        Some(stream.id)
    }

    /// Finds a stream or makes its mark, for one that was begun elsewhere.
    pub fn take_over(&mut self, id: StreamId, via: NodeId, now: Instant) -> u32 {
        self.find(&id).unwrap_or_else(|| self.insert(InStream::new(id, via, 1, now)))
    }

    /// Ends a stream.
    pub fn close(&mut self, id: &StreamId) {
        if let Some(key) = self.find(id) {
            self.remove(key);
        }
    }

    /// Keeps the streams that `keep` admits.
    pub fn retain(&mut self, mut keep: impl FnMut(&InStream) -> bool) {
        let ended: Vec<u32> = self.iter().filter(|(_, stream)| !keep(stream)).map(|(key, _)| key).collect();
        for key in ended {
            self.remove(key);
        }
    }

    /// Encodes marks and kept replies, for a snapshot that moves. Nothing for no streams.
    pub fn encode(&self) -> Vec<u8> {
        if self.streams.is_empty() {
            return Vec::new();
        }
        let saved: Vec<SavedStream<'_>> = self
            .places
            .values()
            .filter_map(|key| self.streams.get(key))
            .map(|stream| SavedStream {
                id: stream.id,
                next: stream.next(),
                replies: stream.kept.iter().map(KeptReply::as_wire).collect(),
            })
            .collect();
        codec::encode(&saved)
    }

    /// Reads what [`encode`](Self::encode) wrote, and tells what it takes here, which is at most `room` bytes. Payloads are
    /// slices of `bytes`, and do not count.
    pub fn decode(bytes: &Bytes, via: NodeId, room: usize, now: Instant) -> Result<(Self, usize), DecodeError> {
        if bytes.is_empty() {
            return Ok((Self::new(), 0));
        }
        let mut decoder = Decoder::new(bytes);
        let read = Self::read(&mut decoder, bytes, via, room, now);
        let read = read.map_err(|error| DecodeError::Malformed(error.to_string()))?;
        match bytes.len() - decoder.position() {
            0 => Ok(read),
            rest => Err(DecodeError::TrailingBytes(rest)),
        }
    }

    fn read(
        decoder: &mut Decoder<'_>,
        bytes: &Bytes,
        via: NodeId,
        room: usize,
        now: Instant,
    ) -> Result<(Self, usize), CborError> {
        let mut inbound = Self::new();
        let mut taken = 0;
        let mut take = |more: usize| {
            taken += more;
            if taken <= room { Ok(()) } else { Err(CborError::message("streams that take too much")) }
        };
        for _ in 0..codec::bounded_count(decoder, MOST_HANDED_STREAMS as u64, "streams")? {
            take(size_of::<InStream>())?;
            if decoder.array()? != Some(3) {
                return Err(CborError::message("no stream"));
            }
            let (id, next) = (decoder.decode()?, decode_number(decoder, &mut ())?);
            if next == 0 {
                return Err(CborError::message("a stream that begins before 1"));
            }
            let mut restored = InStream::new(id, via, next, now);
            for _ in 0..codec::bounded_count(decoder, u64::MAX, "replies")? {
                let reply: Reply<'_> = decoder.decode()?;
                let kept = KeptReply::from_wire(&reply, bytes);
                take(size_of::<KeptReply>() + kept.weight() - kept.payload_len())?;
                restored.keep(kept);
            }
            if inbound.places.contains_key(&place(&id)) {
                return Err(CborError::message("a stream stands there twice"));
            }
            inbound.insert(restored);
        }
        Ok((inbound, taken))
    }
}

#[derive(Encode)]
#[cbor(array)]
struct SavedStream<'b> {
    #[n(0)]
    id: StreamId,
    #[n(1)]
    next: u64,
    #[b(2)]
    replies: Vec<Reply<'b>>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::cost::ratio;
    use super::*;
    use crate::events::Held;
    use crate::identity::{EntityId, Lineage};

    fn named(sender: NodeId, opening: u64) -> StreamId {
        StreamId {
            sender,
            incarnation: Incarnation::from_bytes([1; 16]),
            entity: EntityId::from_bytes([2; 32]),
            lineage: Lineage::from_bytes([3; 16]),
            opening: Opening::new(opening, 0),
        }
    }

    /// Has further senders begin streams where so many others have, and tells how long that takes.
    fn others_begin(count: usize) -> Duration {
        let now = Instant::now();
        let named = |sender: usize, opening: u64| named(NodeId::new(sender as u64), opening);
        let mut inbound = Inbound::new();
        for sender in 0..count {
            let id = named(sender, 2);
            inbound.insert(InStream::begun(id, id.sender, now));
        }
        let began = Instant::now();
        for sender in count..count + 50 {
            for opening in [2, 3] {
                let id = named(sender, opening);
                assert!(!inbound.is_over(&id));
                inbound.end_older(&id, id.sender);
                assert!(inbound.begin(id, id.sender, now).is_some());
            }
            assert!(inbound.is_over(&named(sender, 2)));
        }
        let took = began.elapsed();
        assert_eq!(inbound.len(), count + 50, "the older ones have ended");
        took
    }

    /// Looking at all of them for each would take a hundred times longer.
    #[test]
    fn a_stream_begins_as_fast_however_many_lead_to_its_daemon() {
        let ratio = ratio(200, 20_000, others_begin);
        assert!(ratio < 20.0, "it takes {ratio:.1} times longer");
    }

    #[test]
    fn requirement_92_streams_that_arrive_with_a_daemon_are_bounded_in_number_and_with_what_they_keep() {
        let (now, via, plenty) = (Instant::now(), NodeId::new(9), usize::MAX);
        let encoded = |streams: usize, replies: u64| {
            let mut inbound = Inbound::new();
            for sender in 0..streams {
                let mut stream = InStream::new(named(NodeId::new(sender as u64), 1), via, replies + 1, now);
                for number in 1..=replies {
                    stream.keep(KeptReply { number, result: Ok(std::iter::empty().collect()) });
                }
                inbound.insert(stream);
            }
            Bytes::from(inbound.encode())
        };
        for (streams, replies) in [(40, 0), (2, 300)] {
            let bytes = encoded(streams, replies);
            let (decoded, taken) = Inbound::decode(&bytes, via, plenty, now).expect("there is room");
            assert_eq!(decoded.len(), streams);
            assert_eq!(
                decoded.iter().map(|(_, stream)| stream.kept.len() as u64).sum::<u64>(),
                streams as u64 * replies
            );
            assert!(taken > bytes.len(), "{taken}");
            assert!(Inbound::decode(&bytes, via, taken, now).is_ok());
            assert!(Inbound::decode(&bytes, via, taken - 1, now).is_err(), "{streams} streams, {replies} replies");
        }
        assert!(Inbound::decode(&encoded(MOST_HANDED_STREAMS, 0), via, plenty, now).is_ok());
        assert!(Inbound::decode(&encoded(MOST_HANDED_STREAMS + 1, 0), via, plenty, now).is_err());
        let mut longer = encoded(1, 0).to_vec();
        longer.push(0);
        assert!(Inbound::decode(&longer.into(), via, plenty, now).is_err());
    }

    #[test]
    fn what_another_node_holds_of_an_earlier_stream_of_a_sender_goes_first() {
        let (now, mut inbound) = (Instant::now(), Inbound::new());
        let (own, first, second) = (NodeId::new(1), NodeId::new(2), NodeId::new(3));
        let mut begin = |sender, opening, via| inbound.begin(named(sender, opening), via, now).expect("few");
        let [third, of_another, one, two] =
            [begin(own, 3, second), begin(second, 1, second), begin(own, 1, own), begin(own, 2, first)];
        let due_before = |inbound: &Inbound| [third, of_another, one, two].map(|key| inbound.due_before(key));
        assert_eq!(due_before(&inbound), [None; 4]);
        for key in [third, of_another, two, one] {
            let stream = inbound.get_mut(key).expect("it began");
            stream.offer(1, Held::Skip).expect("there is room");
        }
        assert_eq!(due_before(&inbound), [Some(one), None, None, Some(one)]);
        inbound.get_mut(one).expect("it began").accept();
        assert_eq!(due_before(&inbound), [Some(two), None, None, None]);
    }

    #[test]
    fn requirement_bounds_a_node_begins_so_many_streams_and_may_begin_others_when_they_ended() {
        let (now, mut inbound) = (Instant::now(), Inbound::new());
        let (own, other) = (NodeId::new(1), NodeId::new(2));
        let most = MOST_STREAMS as u64;
        for opening in (1..=most).rev() {
            assert!(inbound.begin(named(own, opening), other, now).is_some());
        }
        assert!(inbound.begin(named(own, most + 1), other, now).is_none(), "too many");
        assert!(!inbound.is_over(&named(own, 1)), "nobody speaks for another node");
        let mine = inbound.begin(named(own, most + 2), own, now).expect("its sender itself");
        assert!(inbound.is_over(&named(own, most + 1)) && !inbound.is_over(&named(own, most + 3)));
        // What comes through another node ends only what came the same way.
        inbound.end_older(&named(own, 3), NodeId::new(3));
        assert_eq!(inbound.len(), MOST_STREAMS + 1);
        inbound.end_older(&named(own, 3), other);
        assert_eq!(inbound.len(), MOST_STREAMS - 1);
        inbound.close(&named(own, 3));
        inbound.retain(|stream| stream.id.opening != Opening::new(4, 0));
        for opening in 1..=4 {
            assert_eq!(inbound.find(&named(own, opening)), None);
            assert!(inbound.begin(named(own, opening), other, now).is_some());
        }
        assert!(inbound.begin(named(own, most + 1), other, now).is_none(), "too many again");
        inbound.end_older(&named(own, most + 3), own);
        assert!(inbound.is_empty() && inbound.get(mine).is_none());
        assert!(inbound.places.is_empty() && inbound.begun.is_empty());
    }
}
