//! Daemons that go on receiving a channel from another node: the publisher's side.
//!
//! A daemon says behind which message it goes on. What it had yet to get on its former node goes to its new one, and that
//! begins with the message behind its position, whatever others on the node have got.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::feed::{Seat, StreamId};
use super::gate::LetIn;
use super::machine::{ChannelMachine, Moment};
use super::peers::{Entry, LaneKey};
use super::publishing::{PublishId, Room};
use super::{ChannelError, ChannelId, Share};
use crate::identity::NodeId;
use crate::wire::channels::RefusalReason;

/// The job of messages that are sent once more, which no report counts.
pub(super) const NO_JOB: PublishId = PublishId(0);

impl ChannelMachine {
    /// The lane key of a stream of this node.
    pub(super) fn lane_key(&self, stream: StreamId) -> Option<LaneKey> {
        self.channels.get(&stream.channel).map(|channel| LaneKey::new(channel.config.priority, stream))
    }

    /// Where a subscriber stands that is in and asks again: where it says, but not before what it has acknowledged. What it has
    /// not waits for it, so nothing is added to that; and it is refused when it has that sent again and again.
    pub(super) fn stands_at(
        &mut self,
        stream: StreamId,
        node: NodeId,
        from: Option<u64>,
    ) -> Result<LetIn, RefusalReason> {
        let last = self.channels.get(&stream.channel).map_or(0, |channel| channel.last_of(stream.share));
        let key = self.lane_key(stream);
        let Some((peer, key)) = self.peers.get_mut(&node).zip(key) else {
            return Ok(LetIn { position: last, missed: 0 });
        };
        // Whatever became of the first answer to one that goes on, it did not get what comes after its position. A member of a
        // group takes nothing before the answer.
        if from.is_none() && stream.share == Share::All {
            return Ok(LetIn { position: peer.settled_through(key, last), missed: 0 });
        }
        let base = peer.bases.get(&stream).copied().unwrap_or(last);
        let position = from.map_or(base, |from| from.max(base)).min(last);
        if position < last {
            if !peer.go_back_again(key, position) {
                return Err(RefusalReason::TooMany);
            }
            self.wakes.insert(node);
        }
        // Also when the answer that said so before was lost.
        Ok(LetIn { position, missed: from.map_or(0, |from| position.saturating_sub(from)) })
    }

    /// A subscriber that was let in goes on behind a number, or without one, begins now. Where it was let in before, what it
    /// has not taken still waits, and goes with it. What only the ring has is added as far as there is room; what its new node
    /// does not take is not.
    pub(super) fn goes_on(&mut self, stream: StreamId, node: NodeId, former: &[NodeId], from: Option<u64>) -> LetIn {
        let key = self.lane_key(stream);
        let (Some(key), Some(channel), Some(peer)) = (key, self.channels.get(&stream.channel), self.peers.get(&node))
        else {
            return LetIn { position: 0, missed: 0 };
        };
        let last = channel.last_of(stream.share);
        let base = || match stream.share {
            Share::Member(..) if former.contains(&node) => peer.bases.get(&stream).copied(),
            Share::Member(..) | Share::All => None,
        };
        let Some(from) = from.or_else(base).filter(|from| *from < last) else {
            return LetIn { position: last, missed: 0 };
        };
        let fits = |payload: &Bytes| payload.len() as u64 <= peer.max_payload;
        let here = peer.numbers_behind(key, from);
        let waiting = former.iter().filter_map(|former| self.peers.get(former)).flat_map(|peer| peer.reliable_in(key));
        let waiting = waiting.filter(|entry| entry.head.number > from && !here.contains(&entry.head.number));
        let (waiting, too_large): (Vec<_>, Vec<_>) = waiting.partition(|entry| fits(&entry.payload));
        let mut missing: BTreeMap<u64, _> =
            waiting.into_iter().map(|entry| (entry.head.number, (entry.head, entry.payload.clone()))).collect();
        // What fell to a member of a group and is too large for its new node falls to another one.
        let mut missed: BTreeSet<u64> = match stream.share {
            Share::All => too_large.into_iter().map(|entry| entry.head.number).collect(),
            Share::Member(..) => BTreeSet::new(),
        };
        let mut kept: Vec<_> = channel.ring.behind(stream, from).collect();
        kept.sort_by_key(|(head, _)| head.number);
        let (mut room, mut cut_off) = (peer.room(), from);
        // In a group, what is gone may have had later numbers than what is kept.
        let first = kept.first().map_or(u64::MAX, |(first, _)| first.number.saturating_sub(1));
        let gone = channel.ring.gone(stream.share).min(first);
        let is_known = |number: &u64| here.contains(number) || missing.contains_key(number);
        kept.retain(|(head, _)| !is_known(&head.number));
        for (head, payload) in kept.into_iter().rev() {
            if !fits(payload) {
                missed.insert(head.number);
            } else if cut_off == from && room.messages > 0 && payload.len() <= room.bytes {
                room = Room { messages: room.messages - 1, bytes: room.bytes - payload.len() };
                missing.insert(head.number, (head, payload.clone()));
            } else {
                cut_off = cut_off.max(head.number);
                missed.insert(head.number);
            }
        }
        let position = if former.is_empty() { from.max(gone).max(cut_off) } else { from };
        missing.retain(|number, _| *number > position);
        missed.retain(|number| *number > position);
        if let Some(peer) = self.peers.get_mut(&node) {
            let entry = |(head, payload)| Entry { job: NO_JOB, head, payload, started: false, deliveries: 1 };
            peer.go_back(key, position, missing.into_values().map(entry).collect());
            self.wakes.insert(node);
        }
        LetIn { position, missed: position - from + missed.len() as u64 }
    }

    /// A daemon has shown itself on another node: it is not let in on its former ones any more.
    pub(super) fn left(&mut self, id: ChannelId, seat: Seat, former: &[NodeId], now: Moment) {
        for &node in former {
            self.evict(id, node, seat, RefusalReason::Moved, now);
        }
    }

    /// What a daemon had yet to get on its former nodes is on the way to its new one. Each publication still counts its
    /// deliveries: one that the daemon has taken is done, another goes on.
    pub(super) fn hand_on(&mut self, stream: StreamId, former: &[NodeId], node: NodeId, from: u64) {
        if let Some(channel) = self.channels.get_mut(&stream.channel) {
            channel.ring.taken_through(stream, from);
        }
        let (Some(key), StreamId { channel, share }) = (self.lane_key(stream), stream) else { return };
        let limit = self.peers.get(&node).map_or(0, |peer| peer.max_payload);
        for &former in former {
            if self.channels.get(&channel).is_none_or(|channel| channel.is_shared(former, share)) {
                continue;
            }
            let entries = self.peers.get_mut(&former).map(|peer| peer.take(|lane, _| *lane == key));
            for entry in entries.unwrap_or_default() {
                let (number, size) = (entry.head.number, entry.payload.len() as u64);
                if entry.head.reliable && number <= from {
                    self.delivery_ended(former, &entry, Ok(()));
                } else if size > limit {
                    self.undelivered(former, vec![entry], &ChannelError::PayloadTooLarge { size, limit });
                } else if entry.job == NO_JOB {
                    // It goes on as well, and nobody counts it.
                } else if number <= from || !self.delivery_goes_on(key, &entry, (former, node)) {
                    self.delivery_ended(former, &entry, Err(ChannelError::Left(former)));
                }
            }
        }
    }

    /// A delivery is over when what waits for another node is; false when that does not wait for it.
    fn delivery_goes_on(&mut self, key: LaneKey, entry: &Entry, (former, node): (NodeId, NodeId)) -> bool {
        let there = self.peers.get_mut(&node).and_then(|peer| peer.numbered_mut(key, entry.head.number));
        let Some(there) = there else { return false };
        let to = if there.job == entry.job {
            // Others there have yet to take it too.
            there.deliveries += entry.deliveries;
            None
        } else {
            // It may have been sent, and takes no place of this one's then.
            (there.job, there.started, there.deliveries) = (entry.job, false, entry.deliveries);
            Some(node)
        };
        self.delivery_moved(entry, former, to);
        true
    }
}
