//! Daemons that go on receiving a channel from another node: the publisher's side.
//!
//! A daemon says behind which message it goes on. What it had yet to get on its former node goes to its new one, and that
//! begins with the message behind its position, whatever others on the node have got.

use std::collections::BTreeMap;

use super::feed::{Seat, StreamId};
use super::gate::LetIn;
use super::machine::{ChannelMachine, Moment};
use super::peers::{Entry, LaneKey};
use super::publishing::PublishId;
use super::{ChannelError, ChannelId, Share};
use crate::identity::NodeId;
use crate::wire::channels::RefusalReason;

/// The job of messages that are sent once more, which no report counts.
const NO_JOB: PublishId = PublishId(0);

impl ChannelMachine {
    /// The lane key of a stream of this node.
    pub(super) fn lane_key(&self, stream: StreamId) -> Option<LaneKey> {
        self.channels.get(&stream.channel).map(|channel| LaneKey::new(channel.config.priority, stream))
    }

    /// Where a subscriber stands that is in and asks again.
    pub(super) fn stands_at(&mut self, stream: StreamId, node: NodeId, from: Option<u64>) -> LetIn {
        // Whatever became of the first answer to one that goes on, it did not get what comes after its position. A member of a
        // group takes nothing before the answer.
        if from.is_some() || matches!(stream.share, Share::Member(..)) {
            return self.goes_on(stream, node, &[node], from);
        }
        let last = self.channels.get(&stream.channel).map_or(0, |channel| channel.last_of(stream.share));
        let peer = self.peers.get(&node).zip(self.lane_key(stream));
        LetIn { position: peer.map_or(last, |(peer, key)| peer.settled_through(key, last)), missed: 0 }
    }

    /// A subscriber that was let in goes on behind a number, or without one, begins now. Where it was let in before, what it
    /// has not taken still waits, so nothing is gone.
    pub(super) fn goes_on(&mut self, stream: StreamId, node: NodeId, former: &[NodeId], from: Option<u64>) -> LetIn {
        let (Some(key), Some(channel)) = (self.lane_key(stream), self.channels.get(&stream.channel)) else {
            return LetIn { position: 0, missed: 0 };
        };
        let last = channel.last_of(stream.share);
        let base = || match stream.share {
            Share::Member(..) if former.contains(&node) => self.peers.get(&node)?.bases.get(&stream).copied(),
            Share::Member(..) | Share::All => None,
        };
        let Some(from) = from.or_else(base).filter(|from| *from < last) else {
            return LetIn { position: last, missed: 0 };
        };
        let (recent, gone) = channel.ring.behind(stream, from);
        let waiting = former.iter().filter_map(|former| self.peers.get(former)).flat_map(|peer| peer.reliable_in(key));
        let missing = waiting.map(|entry| (entry.head, entry.payload.clone()));
        let mut missing: BTreeMap<u64, _> =
            missing.chain(recent).map(|(head, payload)| (head.number, (head, payload))).collect();
        // In a group, what is gone may have had later numbers than what is kept.
        let first = missing.first_key_value().map_or(u64::MAX, |(first, _)| first.saturating_sub(1));
        let position = if former.is_empty() { from.max(gone.min(first)) } else { from };
        if let Some(peer) = self.peers.get_mut(&node) {
            let here = peer.numbers_behind(key, position);
            missing.retain(|number, _| *number > position && !here.contains(number));
            let entry = |(head, payload)| Entry { job: NO_JOB, head, payload, started: false };
            peer.go_back(key, position, missing.into_values().map(entry).collect());
            self.wakes.insert(node);
        }
        LetIn { position, missed: position - from }
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
        for &former in former {
            if self.channels.get(&channel).is_none_or(|channel| channel.sharing(former, share) > 1) {
                continue;
            }
            let entries = self.peers.get_mut(&former).map(|peer| peer.take(|lane, _| *lane == key));
            let counted = entries.unwrap_or_default().into_iter().filter(|entry| entry.job != NO_JOB);
            for Entry { job, started, head, .. } in counted {
                if head.reliable && head.number <= from {
                    self.delivery_ended(job, former, started, Ok(()));
                } else if let Some(peer) = self.peers.get_mut(&node)
                    && !peer.has_job(key, job)
                    && peer.adopt_job(key, head.number, job)
                {
                    self.jobs.moved(job, (former, node), started);
                } else {
                    self.delivery_ended(job, former, started, Err(ChannelError::Left(former)));
                }
            }
        }
    }
}
