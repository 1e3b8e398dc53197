//! Daemons that go on receiving a channel from another node: the publisher's side.
//!
//! A daemon says behind which message it goes on. What it had yet to get on its former node goes to its new one, and that
//! begins with the message behind its position, whatever others on the node have got.

use std::collections::BTreeMap;

use super::gate::LetIn;
use super::machine::{ChannelMachine, Subscriber};
use super::peers::{Entry, LaneKey};
use super::publishing::PublishId;
use super::{ChannelError, ChannelId};
use crate::identity::NodeId;
use crate::wire::channels::RefusalReason;

/// The job of messages that are sent once more, which no report counts.
const NO_JOB: PublishId = PublishId(0);

impl ChannelMachine {
    /// The lane key of a channel of this node.
    pub(super) fn lane_key(&self, id: ChannelId) -> Option<LaneKey> {
        self.channels.get(&id).map(|channel| LaneKey::new(channel.config.priority, id))
    }

    /// Where a subscriber stands that is in and asks again.
    pub(super) fn stands_at(&mut self, id: ChannelId, node: NodeId, from: Option<u64>) -> LetIn {
        // Whatever became of the first answer to one that goes on, it did not get what comes after its position.
        if from.is_some() {
            return self.goes_on(id, node, &[node], from);
        }
        let last = self.channels.get(&id).map_or(0, |channel| channel.last);
        let peer = self.peers.get(&node).zip(self.lane_key(id));
        LetIn { position: peer.map_or(last, |(peer, key)| peer.settled_through(key, last)), missed: 0 }
    }

    /// A subscriber that was let in goes on behind a number, or without one, begins now. Where it was let in before, what it
    /// has not taken still waits, so nothing is gone.
    pub(super) fn goes_on(&mut self, id: ChannelId, node: NodeId, former: &[NodeId], from: Option<u64>) -> LetIn {
        let (Some(key), Some(channel)) = (self.lane_key(id), self.channels.get(&id)) else {
            return LetIn { position: 0, missed: 0 };
        };
        let Some(from) = from.filter(|from| *from < channel.last) else {
            return LetIn { position: channel.last, missed: 0 };
        };
        let (recent, gone) = channel.ring.behind(from);
        let position = if former.is_empty() { from.max(gone) } else { from };
        let waiting = former.iter().filter_map(|former| self.peers.get(former)).flat_map(|peer| peer.reliable_in(key));
        let missing = waiting.map(|entry| (entry.head, entry.payload.clone()));
        let mut missing: BTreeMap<u64, _> =
            missing.chain(recent).map(|(head, payload)| (head.number, (head, payload))).collect();
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
    pub(super) fn left(&mut self, id: ChannelId, subscriber: Subscriber, former: &[NodeId]) {
        for &node in former {
            self.evict(id, node, subscriber, RefusalReason::Moved);
        }
    }

    /// What a daemon had yet to get on its former nodes is on the way to its new one. Each publication still counts its
    /// deliveries: one that the daemon has taken is done, another goes on.
    pub(super) fn hand_on(&mut self, id: ChannelId, former: &[NodeId], node: NodeId, from: u64) {
        let Some(key) = self.lane_key(id) else { return };
        for &former in former {
            if self.channels.get(&id).is_none_or(|channel| channel.members_on(former) > 1) {
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
