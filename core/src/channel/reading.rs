//! Whether readers of this node have room for what arrived.
//!
//! While somebody reads, a reliable message counts as taken once every reader that is to get it has room for it. Who does not
//! read holds nothing up.

use super::StreamId;
use super::machine::{ChannelMachine, Moment, Subscriber};
use super::subscription::Subscription;
use crate::identity::NodeId;

/// How far readers of the node have room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadersRoom {
    /// Nobody reads: whatever arrives counts as taken.
    Unread,
    /// They have room for all that has arrived.
    ForAll,
    /// One of them has no room for the message of this [place](super::ArrivedMessage::place) yet.
    Before(u64),
}

impl ChannelMachine {
    /// Readers of the node have read something of a stream, or were given something.
    pub fn readers_have(&mut self, key: (NodeId, StreamId), room: ReadersRoom, now: Moment) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        let is_full = subscription.has_room(room);
        if subscription.owes_acknowledgement() {
            self.settle_held(key);
            self.settle_own(now);
        }
        if is_full {
            self.watch(now);
        }
    }

    /// The place through which the publisher of a stream was told that everything was taken.
    pub(super) fn acknowledged(&self, key: (NodeId, StreamId)) -> u64 {
        self.subscriptions.get(&key).map_or(0, Subscription::acknowledged)
    }

    /// Somebody reads, if only what was handed out before.
    pub(super) fn readers_go_on(&mut self, key: (NodeId, StreamId)) {
        if let Some(membership) = self.membership(key, Subscriber::Node) {
            membership.stall.over();
        }
    }
}

impl Subscription {
    /// Enters how far readers have room; whether that leaves anything waiting.
    fn has_room(&mut self, room: ReadersRoom) -> bool {
        let received = self.received;
        let Some(membership) = self.members.get_mut(&Subscriber::Node) else { return false };
        let through = match room {
            ReadersRoom::Unread => None,
            ReadersRoom::ForAll => Some(received),
            ReadersRoom::Before(number) => Some(number.saturating_sub(1)),
        };
        if through.is_none() || through > membership.room {
            membership.stall.over();
        }
        membership.room = through;
        matches!(room, ReadersRoom::Before(_))
    }
}
