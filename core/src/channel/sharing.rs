//! Queue groups, the publisher's side: what falls to whom.
//!
//! A message falls to one member of each group, in turn. When that one is out before it has acknowledged a reliable message,
//! or before another one was sent, the message falls to the next member, as a new one of that member's stream. The member
//! that is out may have taken it all the same: a member that is lost, or put out, is not asked.

use super::feed::{Share, StreamId};
use super::groups::{Fitness, Member, stream_of};
use super::machine::ChannelMachine;
use super::moving::NO_JOB;
use super::peers::{Entry, LaneKey};
use super::{ChannelError, ChannelId, Feed, GroupId};
use crate::identity::NodeId;

impl ChannelMachine {
    /// To whom of a group a message falls.
    pub(super) fn choose(&self, id: ChannelId, group: GroupId, bytes: usize, reliable: bool) -> Option<Member> {
        let (channel, room) = (self.channels.get(&id)?, self.jobs.room());
        channel.groups.next(group, |(node, who)| {
            let key = LaneKey::new(channel.config.priority, stream_of(id, group, who));
            self.peers.get(&node).map_or(Fitness::Unfit, |peer| peer.fitness(key, bytes, reliable, room))
        })
    }

    /// Messages do not reach a node: what was for all on it is over, and what fell to a member of a group falls to another one.
    pub(super) fn undelivered(&mut self, node: NodeId, entries: Vec<Entry>, why: &ChannelError) {
        for entry in entries {
            let stream = entry.stream();
            match stream.share {
                Share::All => self.delivery_ended(node, &entry, Err(why.clone())),
                Share::Member(group, _) => self.falls_to_another(node, stream, group, entry, why),
            }
        }
    }

    fn falls_to_another(
        &mut self,
        from: NodeId,
        former: StreamId,
        group: GroupId,
        mut entry: Entry,
        why: &ChannelError,
    ) {
        if entry.job != NO_JOB && !self.jobs.has(entry.job) {
            // It has failed: whoever was not served is not.
            return;
        }
        let (id, sequence) = (former.channel, entry.head.sequence());
        let (size, reliable) = (entry.payload.len(), entry.head.reliable);
        let room = self.jobs.room();
        let to = self.choose(id, group, size, reliable).filter(|(node, _)| {
            self.peers.get(node).is_some_and(|peer| {
                size as u64 <= peer.max_payload && (reliable || (peer.ready && peer.has_room(size, room)))
            })
        });
        let (Some((node, who)), Some(channel)) = (to, self.channels.get_mut(&id)) else {
            return self.delivery_ended(from, &entry, Err(why.clone()));
        };
        let stream = stream_of(id, group, who);
        entry.head.number = channel.groups.falls_to(group, (node, who));
        entry.head.share = stream.share_of(sequence);
        channel.ring.shared(sequence, (former, stream), entry.head.number);
        let key = LaneKey::new(channel.config.priority, stream);
        self.delivery_moved(&entry, from, Some(node));
        if let Some(peer) = self.peers.get_mut(&node) {
            // It waited with a peer before, within the same bound.
            peer.push(key, Entry { started: false, ..entry });
            self.wakes.insert(node);
        }
    }

    /// A member leaves and says what it has taken: that falls to nobody else.
    pub(super) fn taken_before_leaving(&mut self, node: NodeId, stream: StreamId, taken: u64) {
        let (Some(channel), Some(peer)) = (self.channels.get_mut(&stream.channel), self.peers.get_mut(&node)) else {
            return;
        };
        channel.ring.taken_through(stream, taken);
        let done = peer.take(|key, entry| key.stream == stream && entry.head.reliable && entry.head.number <= taken);
        for entry in &done {
            channel.ring.taken(entry.head.sequence(), stream);
        }
        for entry in done {
            self.delivery_ended(node, &entry, Ok(()));
        }
    }

    /// What of a channel a subscriber of this node has to do with: the channel itself and groups of it.
    pub fn feeds_of(&self, publisher: NodeId, channel: ChannelId, who: super::Subscriber) -> Vec<Feed> {
        let of_publisher = self.subscriptions.range((publisher, StreamId::all(channel))..);
        let of_channel = of_publisher.take_while(|((at, stream), _)| *at == publisher && stream.channel == channel);
        of_channel.filter(|(key, _)| self.has_member(**key, who)).map(|(_, held)| held.feed.clone()).collect()
    }
}
